"""Whether two directories hold the same tree: what a layer has become, against what it was."""

import os
import stat
from collections.abc import Iterator

from boxship.snapshots import tree

_PIECE = 1024 * 1024


def differences(found_fd: int, right_fd: int) -> Iterator[str]:
    """Yield a sentence for each path at which the tree ``found_fd`` is not as ``right_fd``, in order of paths.

    Looks at type, mode, owner, size, link target, device, extended attributes and content; not at times. Blocks, reads all.
    """
    found = _Walk(found_fd)
    for path, parent_fd, status in tree.walk(right_fd):
        yield from found.extra_before(path)
        if found.path != path or found.status is None:
            yield f"{path} is missing"
            continue
        name = os.path.basename(path)
        reason = _difference(found.parent_fd, found.status, parent_fd, status, name)
        if reason:
            yield f"{path} has {reason}"
        found.advance()
    yield from found.extra_before(None)


class _Walk:
    """A walk that stands at one path."""

    def __init__(self, fd: int) -> None:
        self._paths = tree.walk(fd)
        self.advance()

    def advance(self) -> None:
        """Go to the next path; after the last one ``path`` is None."""
        self.path: str | None
        self.status: os.stat_result | None
        self.path, self.parent_fd, self.status = next(self._paths, (None, -1, None))

    def extra_before(self, path: str | None) -> Iterator[str]:
        """Pass over what comes before ``path`` in the order of a walk (None: all)."""
        while self.path is not None and (path is None or self.path.split("/") < path.split("/")):
            yield f"{self.path} does not belong there"
            self.advance()


def _difference(found_fd: int, found: os.stat_result, right_fd: int, right: os.stat_result, name: str) -> str:
    """Return in what one name differs between two directories, or ""."""
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(right.st_mode):
        return "another type"
    if found.st_mode != right.st_mode:
        return f"mode {stat.S_IMODE(found.st_mode):o} instead of {stat.S_IMODE(right.st_mode):o}"
    if (found.st_uid, found.st_gid) != (right.st_uid, right.st_gid):
        return "another owner"
    if found.st_rdev != right.st_rdev:
        return "another device number"
    if tree.xattrs(found_fd, name) != tree.xattrs(right_fd, name):
        return "other extended attributes"
    if stat.S_ISLNK(right.st_mode) and os.readlink(name, dir_fd=found_fd) != os.readlink(name, dir_fd=right_fd):
        return "another target"
    if not stat.S_ISREG(right.st_mode):
        return ""
    if found.st_size != right.st_size:
        return f"{found.st_size} bytes instead of {right.st_size}"
    return "" if _same_content(found_fd, right_fd, name) else "other content"


def _same_content(first_fd: int, second_fd: int, name: str) -> bool:
    with (
        open(tree.open_regular(first_fd, name), "rb", buffering=0) as first,
        open(tree.open_regular(second_fd, name), "rb", buffering=0) as second,
    ):
        try:
            while piece := first.read(_PIECE):
                if piece != second.read(_PIECE):
                    return False
        except OSError:  # the disk can't read it
            return False
        return True
