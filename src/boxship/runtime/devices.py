"""Device nodes and links in a container's /dev."""

import errno
import os
import stat

from boxship.linux import fs
from boxship.runtime import places
from boxship.runtime.failure import RuntimeFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NULL_DEVICE = os.makedev(1, 3)

# Present in every container (runtime-spec, config-linux.md, default devices): (path, major, minor).
_DEFAULTS: tuple[tuple[str, int, int], ...] = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
# What every container may do with devices, whatever its configuration denies: make nodes, use those above and terminals.
DEFAULT_RULES: "tuple[dict[str, Any], ...]" = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": n, "minor": m, "access": "rwm"} for _, n, m in _DEFAULTS),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
)
_LINKS: tuple[tuple[str, str], ...] = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def open_null(root_fd: int) -> int:
    """Open the container's /dev/null (O_PATH), certain that it is that device. Raises OSError, RuntimeFailure.

    Not the host's: a container that owns the mask could change mode and owner of the host's node.
    """
    fd = places.find(root_fd, "/dev/null", fs.O_PATH, links=False)
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != NULL_DEVICE:
        os.close(fd)
        raise RuntimeFailure("/dev/null of the container is not the null device")
    return fd


def make_all(root_fd: int, devices: "list[dict[str, Any]]") -> None:
    """Make the default devices, those of ``linux.devices``, and the links; the process's umask must be 0.

    Where nodes cannot be made (user namespace), the host's are bound: from ``source`` of the entry, a field of our own, or
    from the same path. Raises RuntimeFailure.
    """
    wanted: dict[str, dict[str, Any]] = {
        path: {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
        for path, major, minor in _DEFAULTS
    }
    for device in devices:
        wanted[os.path.normpath(device["path"])] = device
    for path, device in wanted.items():
        try:
            _make(root_fd, path, device)
        except OSError as exc:
            raise RuntimeFailure(f"error creating device nodes: mount {path}: {reason(exc)}") from exc
    for path, target in _LINKS:
        _link(root_fd, path, target, replace=False)
    if os.path.exists("/proc/kcore"):
        _link(root_fd, "/dev/core", "/proc/kcore", replace=False)
    _link(root_fd, "/dev/ptmx", "pts/ptmx", replace=True)


def _make(root_fd: int, path: str, device: "dict[str, Any]") -> None:
    kind = _KINDS.get(device["type"])
    if kind is None:
        raise RuntimeFailure(f'invalid device type "{device["type"]}" for {path}')
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    mode = device.get("fileMode")
    parent_fd, name = places.find_parent(root_fd, path)
    try:
        try:
            os.mknod(name, kind | stat.S_IMODE(0o666 if mode is None else mode), number, dir_fd=parent_fd)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != number:
                raise
            return
        except PermissionError:
            _bind_host_device(parent_fd, name, device.get("source") or path, kind, number)
            return
        uid, gid = device.get("uid") or 0, device.get("gid") or 0
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
    finally:
        os.close(parent_fd)


def _bind_host_device(parent_fd: int, name: str, path: str, kind: int, number: int) -> None:
    """Bind the host's node at ``path`` onto a new file, if it is the device that is meant."""
    source_fd = os.open(path, fs.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(source_fd)
        if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != number:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), path)
        os.mknod(name, stat.S_IFREG | 0o600, dir_fd=parent_fd)
        target_fd = os.open(name, fs.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            os.close(places.bind(source_fd, target_fd))
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _link(root_fd: int, path: str, target: str, *, replace: bool) -> None:
    parent_fd, name = places.find_parent(root_fd, path)
    try:
        if replace:
            try:
                os.unlink(name, dir_fd=parent_fd)
            except FileNotFoundError:
                pass
        os.symlink(target, name, dir_fd=parent_fd)
    except FileExistsError:
        pass  # the image or a mount brought its own
    finally:
        os.close(parent_fd)
