"""Places inside a container's root filesystem, by descriptor only; none of these functions can leave the root.

The tree below is hostile: links may point anywhere and change at any time. ``openat2`` with RESOLVE_IN_ROOT walks it.
"""

import errno
import os
import stat

from boxship.linux import fs, mount
from boxship.runtime.mount_options import attributes

_RULES = fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_MAGICLINKS
_MAX_DANGLING = 8
_OLD_ATIMES = {os.ST_NOATIME: mount.MS_NOATIME, os.ST_RELATIME: mount.MS_RELATIME}


def find(root_fd: int, path: str, flags: int = fs.O_PATH, *, links: bool = True) -> int:
    """Open what is at ``path``; without ``links`` any symbolic link on the way is an error (ELOOP)."""
    resolve = _RULES if links else _RULES | fs.RESOLVE_NO_SYMLINKS
    return fs.openat2(root_fd, path.lstrip("/") or ".", flags, resolve=resolve)


def find_or_make(
    root_fd: int, path: str, *, directory: bool, links: bool = True, following: int = _MAX_DANGLING
) -> int:
    """Open what is at ``path`` (O_PATH); where nothing is, make an empty file or directory and those above it.

    ``following`` is how many links that lead to nothing are followed in a row.
    """
    try:
        return find(root_fd, path, links=links)
    except FileNotFoundError:
        pass
    path = os.path.normpath("/" + path.lstrip("/"))
    parent_fd, name = find_parent(root_fd, path, links=links)
    try:
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent_fd)
            else:
                os.mknod(name, stat.S_IFREG | 0o755, dir_fd=parent_fd)
        except FileExistsError:
            if not links or not following:
                raise
            # A link to what is not there yet: that is made, inside the root as all else.
            target = os.path.join(_path_of(root_fd, parent_fd), os.readlink(name, dir_fd=parent_fd))
            return find_or_make(root_fd, target, directory=directory, following=following - 1)
        return os.open(name, fs.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def find_parent(root_fd: int, path: str, *, links: bool = True) -> tuple[int, str]:
    """Open the directory that ``path`` lies in, made if missing; return it and the last name of ``path``."""
    parent, name = os.path.split(os.path.normpath("/" + path.lstrip("/")))
    if not name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    return find_or_make(root_fd, parent, directory=True, links=links), name


def _path_of(root_fd: int, fd: int) -> str:
    """Return where the directory ``fd`` lies below ``root_fd``, as an absolute path in that root."""
    root, path = (os.readlink(f"/proc/self/fd/{number}") for number in (root_fd, fd))
    return "/" + path.removeprefix(root).lstrip("/")


def set_attributes(tree_fd: int, flags: int, cleared: int, *, recursive: bool = False) -> None:
    """Set and clear mount flags (``MS_*``) of the attached mount of ``tree_fd``; others stay as they are."""
    attr_set, attr_clear = attributes(flags, cleared)
    if not attr_set and not attr_clear:
        return
    try:
        mount.mount_setattr(tree_fd, attr_set, attr_clear, recursive=recursive)
    except OSError as exc:
        if exc.errno != errno.ENOSYS or recursive:
            raise
        # Before Linux 5.12: a remount names all flags, so those that stand are repeated.
        present = os.fstatvfs(tree_fd).f_flag
        kept = present & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NODIRATIME)
        for shown, flag in _OLD_ATIMES.items():
            kept |= flag if present & shown else 0
        remount = mount.MS_REMOUNT | mount.MS_BIND | (kept & ~cleared) | flags
        mount.mount(None, f"/proc/self/fd/{tree_fd}", None, remount)


def bind(source_fd: int, target_fd: int, *, recursive: bool = False, flags: int = 0, cleared: int = 0) -> int:
    """Bind what ``source_fd`` is onto what ``target_fd`` is; return a descriptor of the new mount."""
    clone = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
    tree_fd = mount.open_tree(source_fd, "", clone | (mount.AT_RECURSIVE if recursive else 0))
    try:
        mount.move_mount(tree_fd, target_fd)
        set_attributes(tree_fd, flags, cleared)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd
