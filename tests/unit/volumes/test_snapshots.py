"""Snapshots of a volume's directory, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.volumes import tree
from boxship.volumes.timeline import snapshots


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "_data"
    (data / "dir/below").mkdir(parents=True)
    (data / "dir/file").write_text("one")
    (data / "dir/file").chmod(0o640)
    os.link(data / "dir/file", data / "again")
    (data / "link").symlink_to("/etc/passwd")
    os.mkfifo(data / "fifo")
    (data / os.fsdecode(b"caf\xe9")).write_bytes(b"\0" * 3_000_000)
    os.utime(data / "dir", ns=(5, 5))
    yield tmp_path


@pytest.fixture
def fd(volume: Path) -> Iterator[int]:
    fd = tree.open_directory(str(volume))
    yield fd
    os.close(fd)


def listing(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def objects(volume: Path) -> list[str]:
    return sorted(path.name for path in (volume / "snapshots/objects").glob("??/*"))


def test_a_restore_gives_back_all_that_there_was(volume: Path, fd: int) -> None:
    before = listing(volume / "_data")
    snapshots.take(fd, "first", 1)
    (volume / "_data/dir/file").write_text("changed")
    (volume / "_data/link").unlink()
    (volume / "_data/new").touch()
    snapshots.restore(fd, "first")
    assert listing(volume / "_data") == before
    assert (volume / "_data/again").stat().st_ino == (volume / "_data/dir/file").stat().st_ino
    assert sorted(path.name for path in volume.iterdir()) == ["_data", "snapshots"]


def test_differences_name_what_came_went_and_changed(volume: Path, fd: int) -> None:
    snapshots.take(fd, "first", 1)
    assert snapshots.differences(fd, "first") == []
    (volume / "_data/fifo").unlink()
    (volume / "_data/dir/new").touch()
    (volume / "_data/dir/below").chmod(0o700)
    assert snapshots.differences(fd, "first") == [("C", b"dir/below"), ("A", b"dir/new"), ("D", b"fifo")]


def test_what_did_not_change_is_kept_once_and_not_read_again(volume: Path, fd: int) -> None:
    snapshots.take(fd, "first", 1)
    assert len(objects(volume)) == 2
    big = next(path for path in (volume / "snapshots/objects").glob("??/*") if path.stat().st_size > 1000)
    big.write_bytes(b"not read")
    (volume / "_data/other").write_text("one")
    snapshots.take(fd, "second", 2)
    assert len(objects(volume)) == 2
    assert big.read_bytes() == b"not read"


def test_a_damaged_object_is_found_and_nothing_changed(volume: Path, fd: int) -> None:
    snapshots.take(fd, "first", 1)
    for path in (volume / "snapshots/objects").glob("??/*"):
        path.write_bytes(b"other")
    before = listing(volume / "_data")
    with pytest.raises(snapshots.Corrupt):
        snapshots.restore(fd, "first")
    assert listing(volume / "_data") == before
    assert not (volume / ".restore").exists()


def test_removal_takes_the_objects_that_nobody_else_has(volume: Path, fd: int) -> None:
    snapshots.take(fd, "first", 1)
    (volume / "_data/dir/file").write_text("two")
    snapshots.take(fd, "second", 2)
    (volume / "snapshots/objects/.cut-off").touch()
    assert len(objects(volume)) == 3
    snapshots.remove(fd, "first")
    assert len(objects(volume)) == 2
    assert snapshots.names(fd) == ["second"]
    snapshots.restore(fd, "second")
    assert (volume / "_data/again").read_text() == "two"


def test_names_are_taken_once_and_missing_ones_are_errors(fd: int) -> None:
    assert snapshots.names(fd) == []
    snapshots.take(fd, "first", 1)
    with pytest.raises(FileExistsError):
        snapshots.take(fd, "first", 2)
    for work in (snapshots.restore, snapshots.remove, snapshots.differences):
        with pytest.raises(FileNotFoundError):
            work(fd, "missing")


def test_a_symbolic_link_in_the_place_of_a_directory_leads_nowhere(volume: Path, fd: int, tmp_path: Path) -> None:
    (volume / "_data/out").symlink_to(tmp_path / "snapshots")
    snapshot = snapshots.take(fd, "first", 1)
    assert "out" in {entry.path for entry in snapshot.entries}
    assert not any(entry.path.startswith("out/") for entry in snapshot.entries)


def test_what_a_restore_left_that_was_cut_off_is_removed(volume: Path, fd: int) -> None:
    (volume / ".restore/deep").mkdir(parents=True)
    snapshots.recover(fd)
    assert not (volume / ".restore").exists()
