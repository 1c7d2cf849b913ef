"""What the cache takes up, and what of it goes: ``system df``, ``builder prune``, the bound on its size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from boxship.base import clock
from boxship.base.errors import InvalidInput
from boxship.build.caching.cache import Cache, missing_layers
from boxship.build.steps.cache_mounts import CacheMounts
from boxship.images.model import IMAGE, decode_image
from boxship.spec.docker.build import BuildCacheItem
from boxship.store import Store

KEEP_STORAGE = 20 * 10**9  # bytes that the cache may take for itself

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|ms)", re.ASCII)
_NS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6}
_FILTERS = frozenset(("id", "type", "inuse", "shared", "private", "until", "unused-for", "parent", "description"))


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to delete: of those that the filters fit, the ones used longest ago until no bound is broken; without one all."""

    all: bool = False  # also what images share
    reserved: int = 0  # bytes that the cache may always have
    max_used: int = 0  # bytes that it may have at most
    min_free: int = 0  # bytes that shall be free on the disk
    filters: dict[str, list[str]] = {}
    unused_ns: int = 0

    @classmethod
    def parse(
        cls, filters: Mapping[str, Sequence[str]], *, all: bool, reserved: int = 0, max_used: int = 0, min_free: int = 0
    ) -> Choice:
        """Read what a client wants. Raises InvalidInput."""
        for name in filters:
            if name not in _FILTERS:
                raise InvalidInput(f"invalid filter '{name}'")
        unused = [*filters.get("until", ()), *filters.get("unused-for", ())]
        return cls(
            all=all,
            reserved=reserved,
            max_used=max_used,
            min_free=min_free,
            filters={name: list(values) for name, values in filters.items()},
            unused_ns=max((_duration(text) for text in unused), default=0),
        )

    @property
    def is_bounded(self) -> bool:
        """Whether something is to be left."""
        return bool(self.reserved or self.max_used or self.min_free)

    def keeps(self, total: int, free: int) -> int:
        """Return how many bytes are left of ``total`` when ``free`` are free on the disk; 0 without a bound."""
        keep = self.max_used or (total if self.min_free else 0)
        if self.min_free > free:
            keep = min(keep, total - (self.min_free - free))
        return max(keep, self.reserved)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A record or a cache mount, as it is shown and as it is chosen."""

    id: str
    used_ns: int
    is_mount: bool
    item: BuildCacheItem
    layers: tuple[str, ...] = ()  # chain IDs that it keeps, bottom first


def rows(cache: Cache, caches: CacheMounts, store: Store) -> list[Row]:
    """Return all records and cache mounts; the bytes of a layer count for the record that added it. Blocks."""
    with store.read() as transaction:
        of_images = {layer for _, document in transaction.list(IMAGE) for layer in decode_image(document).layers}
    found = [
        Row(
            id=id,
            used_ns=record.used_ns,
            is_mount=False,
            layers=record.layers,
            item=BuildCacheItem(
                id=id[:25],
                description=record.description,
                shared=bool(record.added and record.layers[-1] in of_images),
                size=record.size if record.added else 0,
                created_at=clock.rfc3339(record.created_ns),
                last_used_at=clock.rfc3339(record.used_ns),
                usage_count=record.uses,
            ),
        )
        for id, record in sorted(cache.records().items())
    ]
    return found + [
        Row(
            id=id,
            used_ns=mount.used_ns,
            is_mount=True,
            item=BuildCacheItem(
                id=id[:25],
                type="exec.cachemount",
                description=f"cached mount {mount.name}",
                in_use=in_use,
                size=size,
                created_at=clock.rfc3339(mount.created_ns),
                last_used_at=clock.rfc3339(mount.used_ns),
                usage_count=mount.uses,
            ),
        )
        for id, mount, size, in_use in caches.all()
    ]


def choose(choice: Choice, found: Sequence[Row], free: int) -> list[Row]:
    """Return what goes, the one used longest ago first (pure but for the clock); ``free`` are the disk's free bytes.

    A layer comes free when nothing on top of it is left, so it is as young as the youngest of that, and goes after it.
    """
    now_ns = clock.now_ns()
    left = sum(row.item.size for row in found if not row.item.shared)
    keep = choice.keeps(left, free)
    chosen = []
    newest: dict[str, int] = {}
    for row in found:
        newest |= {layer: max(row.used_ns, newest.get(layer, 0)) for layer in row.layers}

    def age(row: Row) -> tuple[int, int]:
        return newest[row.layers[-1]] if row.layers else row.used_ns, -len(row.layers)

    for row in sorted(found, key=age):
        if choice.is_bounded and left <= keep:
            break
        if row.item.in_use or now_ns - row.used_ns < choice.unused_ns or not _fits(row, choice):
            continue
        chosen.append(row)
        left -= 0 if row.item.shared else row.item.size
    return chosen


def lost(cache: Cache, store: Store) -> list[str]:
    """Return the records whose layers are gone."""
    with store.read() as transaction:
        return [id for id, record in cache.records().items() if missing_layers(transaction, record)]


def _fits(row: Row, choice: Choice) -> bool:
    item, filters = row.item, choice.filters
    if item.shared and not choice.all and not choice.is_bounded:
        return False
    wanted = filters.get("id", [])
    if wanted and not any(row.id.startswith(id) for id in wanted):
        return False
    if filters.get("type") and item.type not in filters["type"]:
        return False
    if filters.get("description") and not any(text in item.description for text in filters["description"]):
        return False
    if "shared" in filters and not item.shared:
        return False
    if "private" in filters and item.shared:
        return False
    return "inuse" not in filters or item.in_use


def _duration(text: str) -> int:
    if not text or _DURATION.sub("", text):
        raise InvalidInput(f"'unused-for' filter only supports durations: {text!r}")
    return int(sum(float(number) * _NS[unit] for number, unit in _DURATION.findall(text)))
