"""The order in which owner rows and directories come and go, which a power cut can't turn round."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.snapshots import VfsSnapshotter
from boxship.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "db"))
    yield store
    store.close()


def owned(store: Store) -> set[str]:
    with store.read() as transaction:
        return {owner.path for owner in transaction.owners() if owner.kind == "snapshot"}


def test_f2_the_owner_row_of_a_removed_directory_stays_until_many_are_removed(tmp_path: Path, store: Store) -> None:
    snapshotter = VfsSnapshotter(str(tmp_path / "vfs"), store)
    snapshotter.prepare("first", None)
    (first,) = snapshotter.list()
    snapshotter.remove("first")
    assert not Path(first.path).exists()
    assert first.path in owned(store)
    for number in range(64):
        snapshotter.prepare(f"{number}", None)
        snapshotter.remove(f"{number}")
    assert first.path not in owned(store)
    assert len(owned(store)) < 128


def test_f2_what_a_dead_process_had_reserved_is_nobodys_after_the_clean_up(tmp_path: Path, store: Store) -> None:
    snapshotter = VfsSnapshotter(str(tmp_path / "vfs"), store)
    snapshotter.prepare("kept", None)
    snapshotter.prepare("gone", None)
    snapshotter.remove("gone")
    again = VfsSnapshotter(str(tmp_path / "vfs"), store)
    assert again.cleanup().removed == []
    assert owned(store) == {info.path for info in again.list()}
    again.prepare("new", None)
    before = owned(store)
    assert again.cleanup().removed == []
    assert owned(store) == before  # its own reserve is not touched
