"""Blobs that arrive in pieces."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from boxship.content import ContentStore, DigestMismatch, ReadStopped, SizeMismatch
from boxship.content import partial as partials
from boxship.store import Store

DATA = os.urandom(250_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "CHUNK", 65536)


@pytest.fixture
def store(tmp_path: Path):
    store = Store(str(tmp_path / "db"))
    yield store
    store.close()


@pytest.fixture
def content(tmp_path: Path, store: Store) -> ContentStore:
    return ContentStore(str(tmp_path / "content"), store)


def fill(partial, *ranges) -> None:
    for start, end in ranges or partial.missing():
        partial.write(start, DATA[start:end])


@pytest.mark.row("IMG-24")
def test_pieces_in_any_order_become_a_blob(content):
    partial = content.partial(DIGEST, len(DATA))
    for start, end in reversed(partial.missing()):
        partial.write(start, DATA[start:end])
    partial.verify()
    partial.commit("x/y")
    partial.close()
    assert content.read_verified(DIGEST) == DATA
    assert content.partials() == []


def test_what_arrived_is_there_after_a_crash_and_a_restart_of_the_store(content, store, tmp_path):
    partial = content.partial(DIGEST, len(DATA))
    fill(partial, (0, 65536), (131072, 140000))
    partial.close()
    again = ContentStore(str(tmp_path / "content"), store)
    partial = again.partial(DIGEST, len(DATA))
    assert partial.resumed == 65536 + 140000 - 131072
    assert partial.missing() == [(65536, 131072), (140000, 196608), (196608, 250000)]
    fill(partial)
    partial.verify()
    partial.close()


def test_bytes_that_are_here_are_never_written_again(content):
    partial = content.partial(DIGEST, len(DATA))
    fill(partial, (0, 65536))
    partial.write(0, b"?" * 65536 + DATA[65536:70000])
    fill(partial)
    partial.verify()
    partial.close()


def test_wrong_bytes_are_found_and_readers_hear_of_it(content):
    partial = content.partial(DIGEST, len(DATA))
    partial.write(0, bytes(65536))
    fill(partial)
    with pytest.raises(DigestMismatch) as caught:
        partial.verify()
    partial.fail(caught.value)
    with pytest.raises(DigestMismatch):
        partial.reader().read(10)
    with pytest.raises(SizeMismatch):
        partial.write(len(DATA), b"x")
    partial.discard()
    partial.close()
    assert content.partials() == []


def test_a_reader_follows_the_front_and_ends_only_when_all_is_verified(content):
    partial = content.partial(DIGEST, len(DATA))
    read = bytearray()
    reader = partial.reader()

    def follow() -> None:
        while data := reader.read(4096):
            read.extend(data)

    thread = threading.Thread(target=follow)
    thread.start()
    fill(partial)
    partial.verify()
    thread.join(10)
    assert bytes(read) == DATA
    partial.close()


def test_a_reader_that_is_stopped_wakes_up(content):
    partial = content.partial(DIGEST, len(DATA))
    reader = partial.reader()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            reader.read(1)
        except ReadStopped as exc:
            raised.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    reader.stop()
    thread.join(10)
    assert len(raised) == 1
    partial.close()


@pytest.mark.parametrize("damage", ["map", "data"])
def test_a_damaged_leftover_is_begun_anew(content, tmp_path, damage):
    partial = content.partial(DIGEST, len(DATA))
    fill(partial, (0, 65536))
    partial.close()
    name = tmp_path / "content" / "ingest" / f"partial-sha256-{DIGEST[7:]}"
    if damage == "map":
        Path(f"{name}.map").write_bytes(b"nonsense")
    else:
        os.truncate(name, 100)
    partial = content.partial(DIGEST, len(DATA))
    assert partial.resumed == 0
    partial.close()


def test_leftovers_are_dropped_on_demand_but_not_those_in_use(content):
    content.partial(DIGEST, len(DATA)).close()
    assert content.drop_partials(keep={DIGEST}) == 0
    assert len(content.partials()) == 1
    content.drop_partials()
    assert content.partials() == []
