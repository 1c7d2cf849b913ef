"""Subvolumes of Btrfs: directories of which a copy costs nothing until it changes. See btrfs-subvolume(8), ioctl(2)."""

from __future__ import annotations

import fcntl
import os
import struct

# linux/btrfs.h
BTRFS_IOC_SNAP_CREATE = 0x50009401
BTRFS_IOC_SUBVOL_CREATE = 0x5000940E
BTRFS_IOC_SNAP_DESTROY = 0x5000940F
_ARGUMENTS = struct.Struct("=q4088s")  # descriptor of what is copied, name


def create_subvolume(directory_fd: int, name: str) -> None:
    """Make an empty subvolume in the directory. Raises OSError: ENOTTY (another file system), EEXIST, ENOSPC."""
    _call(directory_fd, BTRFS_IOC_SUBVOL_CREATE, name, 0)


def create_snapshot(directory_fd: int, name: str, source_fd: int) -> None:
    """Make a writable copy of the subvolume ``source_fd``. Raises OSError: ENOTTY, EEXIST, EINVAL (no subvolume)."""
    _call(directory_fd, BTRFS_IOC_SNAP_CREATE, name, source_fd)


def destroy(directory_fd: int, name: str) -> None:
    """Delete the subvolume with all that is in it. Raises OSError: ENOTTY, EINVAL, ENOTDIR, ENOTEMPTY (others in it)."""
    _call(directory_fd, BTRFS_IOC_SNAP_DESTROY, name, 0)


def _call(directory_fd: int, request: int, name: str, source_fd: int) -> None:
    arguments = bytearray(_ARGUMENTS.pack(source_fd, os.fsencode(name)))  # bytes may not be as long as that
    try:
        fcntl.ioctl(directory_fd, request, arguments)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, name) from None
