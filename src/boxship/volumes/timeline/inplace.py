"""Another content for a directory that cannot be swapped for another one, since something is mounted on it.

The new tree is built in a directory of its own inside, and that is renamed when it is whole. Then the old names go aside and
the new ones come up, one by one; the name of the directory says how far that is, so that :func:`recover` goes on from there.
Until it is whole, nothing has changed. Blocking; all functions take the mounted directory open and raise OSError.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from boxship.base import failpoints
from boxship.linux.fs import syncfs
from boxship.volumes import tree

_BUILT, _WHOLE, _EMPTIED = ".boxship-restore-1", ".boxship-restore-2", ".boxship-restore-3"
_OURS = frozenset((_BUILT, _WHOLE, _EMPTIED))
_NEW, _OLD = "new", "old"


@contextlib.contextmanager
def staged(data_fd: int) -> Iterator[int]:
    """Give an empty directory whose content and attributes the directory has afterwards; a failure changes nothing."""
    recover(data_fd)
    os.mkdir(_BUILT, 0o700, dir_fd=data_fd)
    try:
        ours_fd = tree.open_directory(_BUILT, data_fd)
        try:
            for name in (_NEW, _OLD):
                os.mkdir(name, 0o700, dir_fd=ours_fd)
            new_fd = tree.open_directory(_NEW, ours_fd)
            try:
                yield new_fd
            finally:
                os.close(new_fd)
        finally:
            os.close(ours_fd)
        _go_on(data_fd, _BUILT, _WHOLE)
        failpoints.hit("volume.restore.built")
    finally:
        recover(data_fd)


def recover(data_fd: int) -> None:
    """Finish an exchange that was whole, undo one that was not."""
    there = {name for name in os.listdir(data_fd) if name in _OURS}
    if _WHOLE in there:
        _exchange(data_fd, _WHOLE, to_old=True)
        _go_on(data_fd, _WHOLE, _EMPTIED)
        failpoints.hit("volume.restore.emptied")
        there = {_EMPTIED}
    if _EMPTIED in there:
        _exchange(data_fd, _EMPTIED, to_old=False)
        _go_on(data_fd, _EMPTIED, _BUILT)
    tree.remove(_BUILT, data_fd)


def _go_on(data_fd: int, state: str, following: str) -> None:
    """Make the next state the one that a crash leaves."""
    syncfs(data_fd)
    os.rename(state, following, src_dir_fd=data_fd, dst_dir_fd=data_fd)
    syncfs(data_fd)


def _exchange(data_fd: int, state: str, *, to_old: bool) -> None:
    ours_fd = tree.open_directory(state, data_fd)
    try:
        side_fd = tree.open_directory(_OLD if to_old else _NEW, ours_fd)
        try:
            source_fd, target_fd = (data_fd, side_fd) if to_old else (side_fd, data_fd)
            for name in os.listdir(source_fd):
                if name not in _OURS:
                    os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            if not to_old:
                tree.copy_attributes(side_fd, data_fd)
        finally:
            os.close(side_fd)
    finally:
        os.close(ours_fd)
