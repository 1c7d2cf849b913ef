"""Masked and read-only paths (runtime-spec, config-linux.md): what of /proc and /sys a container must not touch."""

import os
import stat

from boxship.linux import fs, mount
from boxship.runtime import devices, places
from boxship.runtime.failure import RuntimeFailure, reason

_KERNEL_FILESYSTEMS = (fs.PROC_SUPER_MAGIC, fs.SYSFS_MAGIC)


def apply(root_fd: int, masked: list[str], readonly: list[str]) -> None:
    """Cover each of ``masked`` and make each of ``readonly`` read-only; paths that do not exist are left out.

    Raises RuntimeFailure, also when a path that should be the kernel's is something else.
    """
    for path in readonly:
        fd = _open(root_fd, path)
        if fd >= 0:
            try:
                os.close(places.bind(fd, fd, recursive=True, flags=mount.MS_RDONLY))
            except OSError as exc:
                raise RuntimeFailure(f'unable to make "{path}" read-only: {reason(exc)}') from exc
            finally:
                os.close(fd)
    if not masked:
        return
    try:
        null_fd = devices.open_null(root_fd)
    except OSError as exc:
        raise RuntimeFailure(f"unable to mask paths: open /dev/null: {reason(exc)}") from exc
    try:
        for path in masked:
            fd = _open(root_fd, path)
            if fd >= 0:
                try:
                    _mask(fd, null_fd)
                except OSError as exc:
                    raise RuntimeFailure(f'unable to mask path "{path}": {reason(exc)}') from exc
                finally:
                    os.close(fd)
    finally:
        os.close(null_fd)


def _open(root_fd: int, path: str) -> int:
    """Open ``path``, or return -1 if there is no such thing.

    Below /proc and /sys no link is followed and what is found must be procfs or sysfs: an image or a volume that puts
    something else there would have the protection land beside the real files.
    """
    kernel = path.startswith(("/proc/", "/sys/"))
    try:
        fd = places.find(root_fd, path, links=not kernel)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError as exc:
        raise RuntimeFailure(f'unable to protect path "{path}": {reason(exc)}') from exc
    if kernel and fs.fstatfs_type(fd) not in _KERNEL_FILESYSTEMS and _has_kernel_files(root_fd, path):
        os.close(fd)
        raise RuntimeFailure(f'unable to protect path "{path}": it is not a file of procfs or sysfs')
    return fd


def _has_kernel_files(root_fd: int, path: str) -> bool:
    """Tell whether the top directory of ``path`` is procfs or sysfs; a root filesystem without them has nothing to hide."""
    fd = places.find(root_fd, "/" + path.split("/")[1], links=False)
    try:
        return fs.fstatfs_type(fd) in _KERNEL_FILESYSTEMS
    finally:
        os.close(fd)


def _mask(fd: int, null_fd: int) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        mount.mount("tmpfs", f"/proc/self/fd/{fd}", "tmpfs", mount.MS_RDONLY)
    else:
        os.close(places.bind(null_fd, fd))
