"""A content exchanged name by name is the old or the new one, wherever it was cut off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.volumes import tree
from boxship.volumes.timeline import inplace

OLD = {"a": "old a", "common": "old", "only": "x"}
NEW = {"b": "new b", "common": "new"}


class Cut(Exception):
    """The process died here."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = tree.open_directory(str(path))
    try:
        yield fd
    finally:
        os.close(fd)


def fill(directory: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (directory / name).write_text(text)


def content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def restore(data: Path) -> None:
    with opened(data) as fd, inplace.staged(fd) as staged_fd:
        fill(Path(f"/proc/self/fd/{staged_fd}"), NEW)


def test_the_new_content_is_there_with_its_directory_attributes(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    with opened(tmp_path) as fd, inplace.staged(fd) as staged_fd:
        fill(Path(f"/proc/self/fd/{staged_fd}"), NEW)
        os.fchmod(staged_fd, 0o751)
    assert content(tmp_path) == NEW
    assert tmp_path.stat().st_mode & 0o777 == 0o751


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    with pytest.raises(Cut), opened(tmp_path) as fd, inplace.staged(fd) as staged_fd:
        fill(Path(f"/proc/self/fd/{staged_fd}"), NEW)
        raise Cut
    assert content(tmp_path) == OLD


@pytest.mark.parametrize("after", range(12))
def test_cut_off_at_any_rename_it_is_one_of_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    fill(tmp_path, OLD)
    rename, left = os.rename, after

    def cut(*words: object, **more: object) -> None:
        nonlocal left
        if left == 0:
            raise Cut
        left -= 1
        rename(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", cut)
    with contextlib.suppress(Cut):
        restore(tmp_path)
    monkeypatch.undo()
    with opened(tmp_path) as fd:
        inplace.recover(fd)
    assert content(tmp_path) in (OLD, NEW)
    assert after == 0 or content(tmp_path) == NEW
