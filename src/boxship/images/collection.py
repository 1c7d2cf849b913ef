"""Garbage collection by itself: which images go when the disk fills up, and the loop that lets them go.

Policies: ``off`` does nothing; ``safe`` gives up interrupted downloads after a week; ``watermarks`` also removes images when
the filesystem is fuller than ``high`` percent, until it is at ``low``. Only images that can be had again go (they came from a
registry), never one with a container: first those without a tag, then the ones whose name was given longest ago.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from boxship.base.errors import BoxshipError, InvalidInput
from boxship.content.blobs import PARTIAL_NS
from boxship.images import indexes
from boxship.images.model import IMAGE, decode_image
from boxship.images.service import ImageService
from boxship.store import ReadTransaction, Store

log = logging.getLogger(__name__)

INTERVAL = 60.0  # seconds between two looks at the disk
POLICIES = ("off", "safe", "watermarks")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``image-gc`` of daemon.json."""

    policy: str = "safe"
    high: int = 85  # percent of the filesystem
    low: int = 75

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"unknown policy {self.policy}: one of {', '.join(POLICIES)}")
        if not 0 < self.low < self.high <= 100:
            raise ValueError(f"low ({self.low}) must be above 0 and below high ({self.high}), that at most 100")


class Candidate(NamedTuple):
    """One image as far as collection is concerned."""

    id: str
    tags: Sequence[str]  # normalised references with a tag
    names: Sequence[str]  # with those by digest
    fetchable: bool
    named_ns: int  # when it was last given a name, or came


def parse(document: Mapping[str, Any]) -> Policy:
    """Return the policy in ``image-gc``. Raises InvalidInput."""
    try:
        return msgspec.convert(dict(document), Policy)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"image-gc: {exc}") from exc


def candidates(transaction: ReadTransaction) -> list[Candidate]:
    """Return all images."""
    names: dict[str, list[str]] = {}
    for name, id in transaction.names(IMAGE).items():
        names.setdefault(id, []).append(name)
    found = []
    variants = indexes.names_of_variants(transaction)
    for id, document in transaction.list(IMAGE):
        if id in variants and id not in names:
            continue  # it goes with the image that has the name
        row, held = decode_image(document), names.get(id, [])
        tags = [name for name in held if "@" not in name]
        found.append(Candidate(id, tags, held, bool(row.manifest), max(row.added_ns, row.tagged_ns)))
    return found


def order(images: Sequence[Candidate], in_use: Collection[str]) -> list[Candidate]:
    """Return the images that may go, the first to go first."""
    free = [image for image in images if image.fetchable and image.id not in in_use]
    return sorted(free, key=lambda image: (bool(image.tags), image.named_ns))


def percent_used(path: str) -> float:
    """Return how full the filesystem is for those who are not root."""
    status = os.statvfs(path)
    used = status.f_blocks - status.f_bfree
    return 100 * used / (used + status.f_bavail) if used + status.f_bavail else 100.0


class Collector:
    """Lets images go as the policy says; ``run`` ends when it is cancelled, between two images."""

    def __init__(
        self,
        store: Store,
        images: ImageService,
        *,
        policy: Policy,
        in_use: Callable[[], Collection[str]],
        fullness: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``in_use`` are the ids of images with containers; ``fullness`` is in percent, and blocks."""
        self._store = store
        self._images = images
        self.policy = policy  # a reload may give another one
        self._in_use = in_use
        self._fullness = fullness
        self._sleep = sleep

    async def run(self) -> None:
        """Look at the disk each minute."""
        while True:
            await self._sleep(INTERVAL)
            try:
                await self.collect()
            except (BoxshipError, OSError) as exc:
                log.warning("garbage collection of images failed: %s", exc)

    async def collect(self) -> list[str]:
        """Do what the policy wants now; return the ids of the images that went."""
        policy = self.policy
        if policy.policy == "off":
            return []
        content = self._images.layers.content
        await asyncio.to_thread(content.drop_partials, keep=self._images.puller.downloads.digests, older_ns=PARTIAL_NS)
        if policy.policy != "watermarks" or await asyncio.to_thread(self._fullness) <= policy.high:
            return []
        gone: list[str] = []
        with self._store.read() as transaction:
            images = candidates(transaction)
        for image in order(images, self._in_use()):
            try:
                for name in (*image.tags, *(() if image.tags else (image.id,))):
                    await self._images.remove(name, force=False, prune=True)
            except BoxshipError as exc:
                log.debug("image %s stays: %s", image.id, exc)
                continue
            gone.append(image.id)
            log.info(
                "image %s (%s) was removed: the disk is full above %d %%", image.id, ", ".join(image.tags), policy.high
            )
            if await asyncio.to_thread(self._fullness) <= policy.low:
                break
        return gone
