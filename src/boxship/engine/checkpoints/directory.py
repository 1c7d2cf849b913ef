"""Where the checkpoints of a container are: one directory with a directory for each, walked by descriptor; all block.

A name that ends in ``.partial`` after a dot in front is a checkpoint that is not complete. It is locked as long as somebody
works on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator

from boxship.base.errors import Conflict, Forbidden, InvalidInput, NotFound
from boxship.linux import fs
from boxship.snapshots import tree

NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
NAME_LIMIT = 240  # bytes: with what is around it while it is incomplete, a file name
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PARTIAL = re.compile(r"\.[a-zA-Z0-9][a-zA-Z0-9_.-]+\.partial")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NoSuchCheckpoint(NotFound):
    """The container has no checkpoint of that name there; ``container`` is its name as Docker shows it at that place."""

    def __init__(self, name: str, container: str) -> None:
        super().__init__(f"checkpoint {name} does not exist for container {container}")


def check_name(name: str) -> None:
    """Raise InvalidInput for what can be no checkpoint's name."""
    if not _NAME.fullmatch(name) or len(name) > NAME_LIMIT:
        raise InvalidInput(f"Invalid checkpoint ID ({name}), only {NAME_PATTERN} are allowed")


@contextlib.contextmanager
def opened(container_directory: str, custom: str) -> Iterator[int]:
    """Open the directory of the checkpoints, which is made if it is missing: the container's own, or ``custom``.

    Raises InvalidInput for a custom one that is not absolute, OSError.
    """
    if custom:
        if not os.path.isabs(custom):
            raise InvalidInput(f"checkpoint directory must be an absolute path: {custom}")
        os.makedirs(custom, mode=0o700, exist_ok=True)
        fd = os.open(custom, _DIRECTORY)
    else:
        with tree.opened(os.open(container_directory, _DIRECTORY | os.O_NOFOLLOW)) as parent:
            with contextlib.suppress(FileExistsError):
                os.mkdir("checkpoints", 0o700, dir_fd=parent)
            fd = _open_inside(parent, "checkpoints")
    with tree.opened(fd):
        yield fd


def names(fd: int) -> list[str]:
    """Return the names of the checkpoints in the directory."""
    with os.scandir(fd) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(name for name in found if _NAME.fullmatch(name))


def check_free(fd: int, name: str, container: str) -> None:
    """Raise Conflict when a checkpoint can't get that name."""
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    reason = f"{name} exists and is not a directory"
    if stat.S_ISDIR(found.st_mode):
        reason = f"checkpoint with name {name} already exists for container {container}"
    raise Conflict(f"cannot checkpoint container {container}: {reason}")


def open_images(fd: int, name: str, container: str) -> int:
    """Open a checkpoint to restore it; the caller closes the descriptor.

    Raises NoSuchCheckpoint, and Forbidden where others than root could have written it: its content is run as root.
    """
    try:
        check_name(name)
        images = _open_inside(fd, name)
    except (InvalidInput, FileNotFoundError, NotADirectoryError):
        raise NoSuchCheckpoint(name, container) from None
    try:
        for each in (fd, images):
            found = os.fstat(each)
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Forbidden(f"checkpoint {name} can be written by others than root")
    except BaseException:
        os.close(images)
        raise
    return images


def remove(fd: int, name: str, container: str) -> None:
    """Remove a checkpoint. Raises NoSuchCheckpoint."""
    try:
        check_name(name)
        os.close(_open_inside(fd, name))
    except (InvalidInput, FileNotFoundError, NotADirectoryError):
        raise NoSuchCheckpoint(name, container) from None
    tree.remove(fd, name)


def sweep(container_directory: str) -> list[str]:
    """Remove what nobody works on any more from the container's own directory; return the names."""
    removed = []
    try:
        with opened(container_directory, "") as fd:
            for name in os.listdir(fd):
                if _PARTIAL.fullmatch(name) and _is_abandoned(fd, name):
                    tree.remove(fd, name)
                    removed.append(name)
    except FileNotFoundError:
        pass  # the container has no directory
    return removed


def _is_abandoned(fd: int, name: str) -> bool:
    with tree.opened(_open_inside(fd, name)) as partial:
        try:
            fcntl.flock(partial, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _open_inside(fd: int, name: str) -> int:
    return fs.openat2(fd, name, _DIRECTORY, resolve=fs.RESOLVE_BENEATH | fs.RESOLVE_NO_SYMLINKS)
