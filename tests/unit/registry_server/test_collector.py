from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from pathlib import Path

import pytest

from boxship.registry.server.blobs import Blobs
from boxship.registry.server.collector import Collected, Collector, Policy
from boxship.registry.server.database import Database
from boxship.registry.server.documents import read_manifest
from boxship.registry.server.repositories import Repositories
from boxship.registry.server.retention import Rule
from boxship.registry.server.uploads import Limits, Uploads


class Storage:
    """All parts in one directory, without a server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(str(root / "db"))
        self.blobs = Blobs(str(root / "blobs"), self.database)
        self.uploads = Uploads(str(root / "uploads"), self.blobs, Limits())
        self.repositories = Repositories(self.database)

    def add(self, repository: str, data: bytes) -> str:
        path = self.root / "new"
        path.write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs.keep(repository, digest, str(path), len(data))
        return digest

    def push(self, repository: str, tag: str, data: bytes, subject: str = "") -> str:
        item = {"digest": self.add(repository, data), "size": len(data)}
        document: dict[str, object] = {"schemaVersion": 2, "config": item, "layers": [item]}
        if subject:
            document["subject"] = {"digest": subject, "size": 1}
        return self.put(repository, tag, document)

    def put(self, repository: str, tag: str, document: dict[str, object]) -> str:
        body = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.repositories.put(repository, digest, body, read_manifest(body, ""), [tag] if tag else [])
        return digest

    def forget(self) -> None:
        """Let the grace of everything pass."""
        self.blobs.assume_untouched()
        self.blobs.forget_touches(0)

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
    storage.forget()
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
    storage.forget()
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


NOW = Policy(grace=0.0)


def test_deleting_the_last_tag_frees_the_space_and_moving_it_does_not(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.push("a", "v1", b"deleted")
    storage.push("a", "v2", b"moved away from")
    storage.push("a", "v2", b"moved to")
    storage.repositories.untag("a", ["v1"])
    storage.forget()
    assert (storage.collect(NOW).manifests, storage.files()) == (1, 2)
    storage.database.close()


def test_a_blob_that_another_repository_has_stays(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    digest = storage.push("a", "v1", b"shared")
    storage.push("b", "v1", b"shared")
    storage.repositories.delete("a", digest)
    storage.forget()
    done = storage.collect(NOW)
    assert (done.links, done.blobs, storage.files()) == (1, 0, 1)
    assert storage.repositories.names(limit=9) == ["b"]
    storage.database.close()


@pytest.mark.parametrize("by_digest", [False, True])
def test_platforms_and_signatures_live_and_die_with_their_index(tmp_path: Path, by_digest: bool) -> None:
    storage = Storage(tmp_path)
    image = storage.push("a", "", b"for one platform")
    size = len(storage.repositories.find("a", image).body)  # type: ignore[union-attr]
    index = storage.put("a", "all", {"schemaVersion": 2, "manifests": [{"digest": image, "size": size}]})
    storage.push("a", "", b"signature", subject=index)
    storage.forget()
    assert not any(storage.collect(NOW._replace(untagged="all")))
    if by_digest:
        storage.repositories.delete("a", index)
    else:
        storage.repositories.untag("a", ["all"])
    storage.collect(NOW)
    assert storage.files() == 0
    assert storage.repositories.names(limit=9) == []
    storage.database.close()


def test_a_manifest_that_an_index_names_stays_when_its_own_tag_goes(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = storage.push("a", "amd64", b"platform")
    size = len(storage.repositories.find("a", image).body)  # type: ignore[union-attr]
    storage.put("a", "all", {"schemaVersion": 2, "manifests": [{"digest": image, "size": size}]})
    storage.repositories.untag("a", ["amd64"])
    storage.forget()
    assert not any(storage.collect(NOW))
    storage.database.close()


def test_retention_keeps_what_its_rule_names(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for tag in ("release-1", "b1", "b2", "b3"):
        storage.push("ci/app", tag, tag.encode())
        storage.push("other", tag, b"same")
    storage.forget()
    rule = Rule(repositories=["ci/*"], latest=1, matching="release-.*")
    done = storage.collect(NOW._replace(rules=[rule]))
    assert (done.tags, done.manifests, done.blobs) == (2, 2, 2)
    assert [tag.name for tag in storage.repositories.tags("ci/app", limit=9) or []] == ["b3", "release-1"]
    assert len(storage.repositories.tags("other", limit=9) or []) == 4
    storage.database.close()
