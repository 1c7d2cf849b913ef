from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from pathlib import Path

from boxship.registry.server.blobs import Blobs
from boxship.registry.server.collector import Collected, Collector, Policy
from boxship.registry.server.database import Database
from boxship.registry.server.documents import read_manifest
from boxship.registry.server.repositories import Repositories
from boxship.registry.server.uploads import Uploads
from boxship.spec.oci.manifest import OCI_MANIFEST


class Storage:
    """All parts in one directory, without a server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(str(root / "db"))
        self.blobs = Blobs(str(root / "blobs"), self.database)
        self.uploads = Uploads(str(root / "uploads"), self.blobs)
        self.repositories = Repositories(self.database)

    def add(self, repository: str, data: bytes) -> str:
        path = self.root / "new"
        path.write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs.keep(repository, digest, str(path), len(data))
        return digest

    def push(self, repository: str, tag: str, data: bytes) -> str:
        item = {"digest": self.add(repository, data), "size": len(data)}
        body = json.dumps({"schemaVersion": 2, "config": item, "layers": [item]}).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.repositories.put(repository, digest, body, read_manifest(body, OCI_MANIFEST), [tag] if tag else [])
        return digest

    def collect(self, policy: Policy) -> Collected:
        collector = Collector(self.database, self.repositories, self.blobs, self.uploads, policy)
        return asyncio.run(collector.collect())

    def files(self) -> int:
        return sum(len(names) for _, _, names in os.walk(self.root / "blobs"))


def test_what_nobody_refers_to_goes_and_the_rest_stays(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.push("a", "v1", b"tagged")
    storage.push("a", "", b"never tagged")
    storage.add("b", b"stray")
    storage.blobs.assume_untouched()
    storage.blobs.forget_touches(0)
    done = storage.collect(Policy(grace=0.0))
    assert (done.links, done.blobs, done.manifests, storage.files()) == (1, 1, 0, 2)
    done = storage.collect(Policy(grace=0.0, untagged="all"))
    assert (done.manifests, done.blobs, storage.files()) == (1, 1, 1)
    storage.database.close()


def test_within_the_grace_nothing_goes(tmp_path: Path) -> None:
    for grace in (3600.0, math.inf):
        root = tmp_path / str(grace)
        root.mkdir()
        storage = Storage(root)
        storage.push("a", "", b"never tagged")
        storage.add("a", b"stray")
        assert not any(storage.collect(Policy(grace=grace, untagged="all")))
        storage.database.close()


def test_an_offered_blob_is_protected_again(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    digest = storage.add("a", b"old")
    with storage.database.write() as connection:
        connection.execute("UPDATE links SET created_ns = 0")
    storage.blobs.assume_untouched()
    storage.blobs.forget_touches(0)
    assert storage.blobs.offered("a", digest) == 3
    assert not any(storage.collect(Policy(grace=60.0)))
    storage.blobs.forget_touches(0)
    assert storage.collect(Policy(grace=60.0)).blobs == 1
    assert storage.blobs.offered("a", digest) is None
    storage.database.close()


def test_a_start_removes_files_without_rows_and_rows_without_files(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    kept, lost = storage.add("a", b"kept"), storage.add("a", b"lost")
    os.unlink(storage.blobs.path(lost))
    stray = Path(storage.blobs.path("sha256:" + "0" * 64))
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"crash")
    again = Blobs(str(tmp_path / "blobs"), storage.database)
    assert again.repaired == (1, [lost])
    assert (again.size("a", kept), again.size("a", lost)) == (4, None)
    storage.database.close()
