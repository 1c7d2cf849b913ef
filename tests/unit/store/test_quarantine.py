from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.store import Store, quarantine
from boxship.store.transaction import checksum

DIGEST = "sha256:" + "ab" * 32
DOCUMENT = b'{"name": "web", "layer": "' + DIGEST.encode() + b'"}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "boxship.db"))
    store.write_now(lambda t: (t.put("thing", "1", DOCUMENT), t.claim("thing", "web", "1"), t.own("/d", "thing", "1")))
    store.write_now(lambda t: t.put("thing", "2", b"sound"))
    yield store
    store.close()


def damage(store: Store, document: bytes) -> None:
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("UPDATE objects SET document = ? WHERE kind = 'thing' AND id = '1'", (document,))


@pytest.mark.parametrize("bit", [0, 7, 100, len(DOCUMENT) * 8 - 1])
def test_one_flipped_bit_is_put_right(store: Store, bit: int) -> None:
    wrong = bytearray(DOCUMENT)
    wrong[bit // 8] ^= 1 << bit % 8
    damage(store, bytes(wrong))
    assert quarantine.inspect(store, {}) == ([("thing", "1")], [])
    with store.read() as transaction:
        assert transaction.get("thing", "1") == DOCUMENT


def test_two_flipped_bits_are_never_taken_for_one() -> None:
    crc = checksum("thing", "1", DOCUMENT)
    for second in range(1, len(DOCUMENT) * 8):
        wrong = bytearray(DOCUMENT)
        wrong[0] ^= 1
        wrong[second // 8] ^= 1 << second % 8
        assert quarantine.corrected("thing", "1", bytes(wrong), crc) is None


def test_a_damaged_object_is_set_aside_with_its_names_and_directories(store: Store) -> None:
    damage(store, DOCUMENT.replace(b"web", b"???"))
    with store.read() as transaction, pytest.raises(SystemFailure):
        transaction.list("thing")
    (row,) = quarantine.inspect(store, {}).aside
    assert (row.kind, row.id, row.names, row.reason) == ("thing", "1", ["web"], "it does not have its checksum")
    with store.read() as transaction:
        assert transaction.list("thing") == [("2", b"sound")]
        assert transaction.lookup("thing", "web") is None
        assert transaction.owner("/d") == ("/d", "quarantine", "thing/1")
        assert DIGEST in quarantine.mentioned(transaction)
        (kept,) = quarantine.quarantined(transaction, "thing")
    assert b"???" in kept.document
    store.write_now(lambda t: quarantine.discard(t, kept))
    with store.read() as transaction:
        assert quarantine.quarantined(transaction) == []
        assert transaction.owner("/d") == ("/d", "thing", "1")


def test_a_document_that_its_kind_refuses_is_set_aside(store: Store) -> None:
    def refuse(id: str, document: bytes) -> None:
        if id == "2":
            raise ValueError(f"{document!r} is no thing")

    (row,) = quarantine.inspect(store, {"thing": refuse}).aside
    assert row.reason == "b'sound' is no thing"
    assert quarantine.inspect(store, {"thing": refuse}) == ((), ())
