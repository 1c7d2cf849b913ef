"""Project quotas: how much the files of a directory tree may take, on ext4 and XFS mounted with ``prjquota``.

A directory with ``FS_XFLAG_PROJINHERIT`` gives its project number to all that is made in it. Limits belong to numbers, not
to directories. See quotactl_fd(2) (Linux 5.14) and ioctl_xfs_fsgetxattr(2), which both file systems have.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from boxship.linux._libc import NUMBERS, check, libc

# linux/fs.h
FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
# What changes a file's project or whether it is inherited: the flags ioctl does the latter, in its compat form too.
CHANGING_IOCTLS = (FS_IOC_FSSETXATTR, 0x40086602, 0x40046602)
_FSXATTR = struct.Struct("=IIIII8x")  # xflags, extent size, number of extents, project, copy-on-write extent size

# linux/quota.h
Q_GETQUOTA = 0x800007
Q_SETQUOTA = 0x800008
PRJQUOTA = 2
QIF_BLIMITS = 1
_DQBLK = struct.Struct(
    "=8QI4x"
)  # hard and soft limit of KiB, bytes in use, the same of inodes, two times, valid fields
_BLOCK = 1024
_FIRST, _LAST = 1 << 20, (1 << 31) - 1  # people number theirs from 1
_TRIES = 64

_quotactl_fd = libc["syscall"]
_quotactl_fd.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p)
_quotactl_fd.restype = ctypes.c_long


def project(fd: int) -> int:
    """Return the project that the directory ``fd`` gives to its files; 0: none, or a file system without projects."""
    try:
        flags, _, _, number, _ = _FSXATTR.unpack(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
    except OSError as exc:
        if exc.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            return 0
        raise
    return number if flags & FS_XFLAG_PROJINHERIT else 0


def set_project(fd: int, number: int) -> None:
    """Make ``number`` the project of the empty directory ``fd`` and of all that will be made in it.

    Raises OSError: ENOTTY, EOPNOTSUPP, EINVAL on file systems without projects.
    """
    flags, extent, _, _, cow = _FSXATTR.unpack(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, _FSXATTR.pack(flags | FS_XFLAG_PROJINHERIT, extent, 0, number, cow))


def usage(fd: int, number: int) -> tuple[int, int]:
    """Return limit (0: none) and use of a project in bytes, on the file system of ``fd``.

    Raises OSError: ENOSYS before Linux 5.14 and without quotas, ESRCH where they are switched off.
    """
    buffer = ctypes.create_string_buffer(_DQBLK.size)
    try:
        _call(fd, Q_GETQUOTA, number, buffer)
    except FileNotFoundError:  # XFS about a number that it never met
        return 0, 0
    hard, _, used, *_ = _DQBLK.unpack(buffer.raw)
    return hard * _BLOCK, used


def set_limit(fd: int, number: int, size: int) -> None:
    """Let the files of a project take ``size`` bytes, rounded up to KiB; 0 lifts the limit. Raises OSError as `usage`."""
    blocks = -(-size // _BLOCK)
    _call(fd, Q_SETQUOTA, number, ctypes.create_string_buffer(_DQBLK.pack(blocks, blocks, *[0] * 6, QIF_BLIMITS)))


def unused(fd: int) -> int:
    """Return a project number that nobody uses on the file system of ``fd``. Raises OSError as `usage`.

    It is chosen at random, since several engines may share a file system.
    """
    for _ in range(_TRIES):
        number = _FIRST + int.from_bytes(os.urandom(8), "little") % (_LAST - _FIRST)
        if usage(fd, number) == (0, 0):
            return number
    raise OSError(errno.EBUSY, "no unused project number found")


def _call(fd: int, command: int, number: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    check(_quotactl_fd(NUMBERS["quotactl_fd"], fd, command << 8 | PRJQUOTA, number, buffer), "quotactl_fd")
