"""An image service on real metadata and blobs with snapshots that are only remembered, so that no root is needed."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from boxship.content import ContentStore
from boxship.images import ImageService, ImageUser
from boxship.snapshots.snapshotter import (
    Applied,
    HasChildren,
    NoSuchSnapshot,
    SnapshotExists,
    SnapshotInfo,
)
from boxship.snapshots.tar_reader import Limits, Readable, TarReader
from boxship.store import Store


class RememberedSnapshots:
    """A snapshotter without files: it reads archives through and keeps names, parents and sizes."""

    name = "remembered"
    adopts = True

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        self.committed: dict[str, int] = {}
        self.applied = 0
        self.assumed: Sequence[str] | None = ()

    def prepare(self, key: str, parent: str | None, *, size: int = 0) -> None:
        if parent is not None and parent not in self.committed:
            raise NoSuchSnapshot(parent)
        self.parents[key] = parent

    def apply(self, key: str, tar: Readable, *, limits: Limits | None = None) -> Applied:
        digest = hashlib.sha256()
        reader = TarReader(tar, limits=limits, observe=digest.update)
        size = sum(entry.size for entry in reader)
        reader.finish()
        self.applied += 1
        return Applied(f"sha256:{digest.hexdigest()}", size, self.assumed)

    def adopt(self, key: str, parent: str, assumed: Sequence[str] = ()) -> bool:
        if parent not in self.committed:
            raise NoSuchSnapshot(parent)
        if assumed:
            return False
        self.parents[key] = parent
        return True

    def sync(self) -> None:
        pass

    def commit(self, name: str, key: str, *, diff_id: str = "", size: int = 0, durable: bool = True) -> None:
        if name in self.parents:
            raise SnapshotExists(name)
        self.parents[name] = self.parents.pop(key)
        self.committed[name] = size

    def remove(self, key: str) -> None:
        if key not in self.parents:
            raise NoSuchSnapshot(key)
        if key in self.parents.values():
            raise HasChildren(key)
        del self.parents[key]
        self.committed.pop(key, None)

    def exists(self, key: str) -> bool:
        return key in self.parents

    def list(self) -> Sequence[SnapshotInfo]:
        return [
            SnapshotInfo(key, parent, key in self.committed, "", self.committed.get(key, 0), "")
            for key, parent in sorted(self.parents.items())
        ]

    def graph_data(self, key: str) -> dict[str, str]:
        return {"UpperDir": f"/{key}/diff"}


class Bench:
    """The service with what it works on, driven without asyncio in sight."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(str(directory / "boxship.db"))
        self.content = ContentStore(str(directory / "content"), self.store)
        self.snapshots = RememberedSnapshots()
        self.events: list[tuple[str, str, str]] = []
        self.users: list[ImageUser] = []
        self.service = ImageService(
            self.store,
            self.content,
            self.snapshots,  # type: ignore[arg-type]  # only what images use
            emit=self._emit,
            users=lambda: self.users,
        )

    def _emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, id, attributes.get("name", "")))

    def import_(self, data: bytes, name: str = "", **options: Any) -> str:
        defaults: dict[str, Any] = {"tag": "", "message": "", "changes": [], "platform": None}
        messages = collect(self.service.import_(chunks(data), repository=name, **{**defaults, **options}))
        return str(messages[-1]["status"])

    def load(self, data: bytes, *, quiet: bool = True, platform: str | None = None) -> list[dict[str, Any]]:
        return collect(self.service.load(chunks(data), quiet=quiet, platform=platform))

    def save(self, *refs: str, platform: str | None = None) -> bytes:
        async def run() -> bytes:
            return b"".join([piece async for piece in await self.service.save(refs, platform=platform)])

        return asyncio.run(run())

    def remove(self, ref: str, **options: Any) -> list[str]:
        items = asyncio.run(self.service.remove(ref, **{"force": False, "prune": True, **options}))
        return [f"Untagged: {item.untagged}" if item.untagged else f"Deleted: {item.deleted}" for item in items]

    def names(self, **filters: list[str]) -> list[list[str]]:
        rows = asyncio.run(self.service.list(all=False, filters=filters, shared_size=False, digests=False))
        return [row.repo_tags for row in rows]

    def is_empty(self) -> bool:
        """Whether nothing is left: no image, layer, name, snapshot, blob or file on its way in."""
        with self.store.read() as transaction:
            rows = [row for kind in ("image", "index", "layer", "blob") for row in transaction.list(kind)]
            names = transaction.names("image") | transaction.names("index")
        files = [path for path in (self.directory / "content").rglob("*") if path.is_file()]
        return not (rows or names or files or self.snapshots.parents)


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    size = 1000 if len(data) < 100_000 else 100_000
    for start in range(0, len(data), size):
        yield data[start : start + size]


def collect(messages: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        return [message async for message in messages]

    return asyncio.run(run())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()


Tar = Callable[..., bytes]


@pytest.fixture
def make_tar() -> Tar:
    """Make a tar of members: text or bytes are files, a tuple is (type, link target)."""

    def make(**members: Any) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, value in members.items():
                member = tarfile.TarInfo(name)
                if isinstance(value, tuple):
                    member.type, member.linkname = value
                    tar.addfile(member)
                    continue
                data = value if isinstance(value, bytes) else str(value).encode()
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return out.getvalue()

    return make


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def archive(make_tar: Tar) -> Callable[..., bytes]:
    """Make a docker-archive of one image from its layers' tars."""

    def make(layers: Sequence[bytes], *, tags: Sequence[str] = ("a:1",), **changes: Any) -> bytes:
        config = {"rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}, "os": "linux"}
        document = json.dumps({**config, **changes.pop("config", {})}).encode()
        paths = [f"{number}/layer.tar" for number in range(len(layers))]
        item = {"Config": "config.json", "RepoTags": list(tags), "Layers": paths, **changes.pop("item", {})}
        members = dict(zip(paths, layers, strict=True))
        return make_tar(
            **{"manifest.json": json.dumps([item]), **members, "config.json": document, **changes.pop("members", {})}
        )

    return make
