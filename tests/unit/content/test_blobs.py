import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.content import (
    BlobCorrupted,
    BlobNotFound,
    ContentStore,
    DigestMismatch,
    InvalidDigest,
    SizeMismatch,
    of_bytes,
    parse,
)
from boxship.store import Store, Transaction

DATA = b"a blob" * 1000
DIGEST = of_bytes(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "db"))
    yield store
    store.close()


@pytest.fixture
def content(tmp_path: Path, store: Store) -> ContentStore:
    return ContentStore(str(tmp_path / "content"), store)


def files(content: ContentStore) -> list[str]:
    root = Path(content.path(DIGEST)).parents[2]
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_committed_blob_is_read_back_under_its_digest(content: ContentStore) -> None:
    with content.ingest() as ingest:
        ingest.write(DATA[:100])
        ingest.write(memoryview(DATA)[100:])
        descriptor = ingest.commit("text/plain")
    assert descriptor == (DIGEST, len(DATA), "text/plain")
    assert content.exists(DIGEST)
    assert content.size(DIGEST) == len(DATA)
    assert content.list() == [descriptor]
    with content.open(DIGEST) as file:
        assert file.read() == DATA
    assert content.read_verified(DIGEST) == DATA


@pytest.mark.row("IMG-24")
def test_the_wrong_bytes_are_refused_and_leave_nothing(content: ContentStore) -> None:
    with pytest.raises(DigestMismatch, match=DIGEST), content.ingest(DIGEST) as ingest:
        ingest.write(b"something else")
        ingest.commit()
    assert files(content) == []
    assert not content.exists(DIGEST)


@pytest.mark.row("IMG-24")
@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"])
def test_the_wrong_size_is_refused_and_leaves_nothing(content: ContentStore, data: bytes) -> None:
    with pytest.raises(SizeMismatch), content.ingest(None, len(DATA)) as ingest:
        ingest.write(data)
        ingest.commit()
    assert files(content) == []


def test_leaving_without_commit_leaves_nothing(content: ContentStore) -> None:
    with content.ingest() as ingest:
        ingest.write(DATA)
    assert files(content) == []


def test_sha512_is_used_when_it_is_asked_for(content: ContentStore) -> None:
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    with content.ingest(digest) as ingest:
        ingest.write(DATA)
        assert ingest.commit().digest == digest
    content.verify(digest)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../etc/passwd",
        "sha256:" + "/" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "٣" * 64,
        "md5:" + "a" * 32,
        "../x:" + "a" * 64,
        "a" * 64,
        "",
    ],
)
def test_i5_what_is_no_digest_never_meets_a_path(content: ContentStore, digest: str) -> None:
    for use in (parse, content.path, content.open, content.exists, content.size, content.delete, content.ingest):
        with pytest.raises(InvalidDigest):
            use(digest)


def test_a_blob_that_is_not_there_is_named_in_the_error(content: ContentStore) -> None:
    for use in (content.open, content.size, content.read_verified):
        with pytest.raises(BlobNotFound, match=f"content digest {DIGEST}: not found"):
            use(DIGEST)


def test_concurrent_ingests_of_one_digest_all_succeed(content: ContentStore) -> None:
    failures = []

    def run() -> None:
        try:
            assert content.add(DATA) == DIGEST
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert files(content) == [f"blobs/sha256/{DIGEST[7:]}"]


@pytest.mark.row("IMG-24")
def test_f5_flipped_bits_are_found_and_a_new_ingest_repairs_them(content: ContentStore) -> None:
    content.add(DATA)
    path = Path(content.path(DIGEST))
    path.chmod(0o600)
    path.write_bytes(b"B" + DATA[1:])
    with pytest.raises(BlobCorrupted, match="pull or load the image again"):
        content.read_verified(DIGEST)
    with pytest.raises(BlobCorrupted):
        content.verify(DIGEST)
    content.add(DATA)
    content.verify(DIGEST)


def test_a_document_above_the_limit_is_not_read(content: ContentStore) -> None:
    content.add(DATA)
    with pytest.raises(SystemFailure, match="more than the 100"):
        content.read_verified(DIGEST, limit=100)


def test_collect_keeps_what_is_referenced_or_leased(content: ContentStore, store: Store) -> None:
    used, free = content.add(b"used"), content.add(b"free!")
    content.lease("pull")
    leased = content.add(b"leased", lease="pull")
    assert content.collect({used}) == len(b"free!")
    assert [content.exists(digest) for digest in (used, free, leased)] == [True, False, True]
    store.write_now(lambda t: t.end_lease("pull"))
    content.collect([used])
    assert files(content) == [f"blobs/sha256/{used[7:]}"]


def test_collect_asks_a_function_inside_its_transaction(content: ContentStore, store: Store) -> None:
    used = content.add(b"used")

    def referenced(transaction: Transaction) -> list[str]:
        assert transaction.get("blob", used) is not None
        return [used]

    content.add(b"free")
    assert content.collect(referenced) == 4
    assert content.exists(used)


@pytest.mark.row("IMG-24")
def test_f1_the_next_start_removes_what_a_crash_left(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "content"
    content = ContentStore(str(root), store)
    kept, lost = content.add(b"kept"), content.add(b"lost")
    ingest = content.ingest()
    ingest.write(b"half")
    (root / "blobs/sha256" / ("e" * 64)).write_bytes(b"no row names me")
    os.unlink(content.path(lost))
    swept = ContentStore(str(root), store).swept
    assert swept == (1, [f"sha256:{'e' * 64}"], [lost])
    assert files(content) == [f"blobs/sha256/{kept[7:]}"]
    assert not content.exists(lost)
    ingest.abort()


def test_directories_are_for_their_owner_only(tmp_path: Path, content: ContentStore) -> None:
    for path in (tmp_path / "content").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_failing_database_leaves_no_blob(content: ContentStore, store: Store) -> None:
    with pytest.raises(SystemFailure), content.ingest() as ingest:
        ingest.write(DATA)
        store.close()
        ingest.commit()
    assert files(content) == []
