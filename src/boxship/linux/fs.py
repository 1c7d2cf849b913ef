"""Files by descriptor: openat2(2), close_range(2), filesystem types, execveat(2), writing out."""

import ctypes
import errno
import os
import sys

from boxship.linux._libc import NUMBERS, check, libc

# linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

O_PATH = os.O_PATH
AT_EMPTY_PATH = 0x1000  # linux/fcntl.h
CLOSE_RANGE_CLOEXEC = 4  # linux/close_range.h
MAX_FD = 0xFFFFFFFF

# linux/magic.h
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270
NSFS_MAGIC = 0x6E736673
OVERLAYFS_SUPER_MAGIC = 0x794C7630

SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h

# linux/stat.h
_STATX_ATTR_MOUNT_ROOT = 0x2000
_STATX_BYTES = 256

_RACE_TRIES = 128


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Statfs(ctypes.Structure):
    """``struct statfs`` of 64-bit Linux (asm-generic/statfs.h)."""

    _fields_ = [
        ("f_type", ctypes.c_long),
        ("f_bsize", ctypes.c_long),
        ("f_blocks", ctypes.c_ulong),
        ("f_bfree", ctypes.c_ulong),
        ("f_bavail", ctypes.c_ulong),
        ("f_files", ctypes.c_ulong),
        ("f_ffree", ctypes.c_ulong),
        ("f_fsid", ctypes.c_int * 2),
        ("f_namelen", ctypes.c_long),
        ("f_frsize", ctypes.c_long),
        ("f_flags", ctypes.c_long),
        ("f_spare", ctypes.c_long * 4),
    ]


_openat2 = libc["syscall"]
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_openat2.restype = ctypes.c_long
_close_range = libc["syscall"]
_close_range.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)
_close_range.restype = ctypes.c_long
_statx = libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
_sync_file_range = libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_fstatfs = libc.fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.POINTER(_Statfs))
_execveat = libc["syscall"]
_execveat.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_char_p),
    ctypes.POINTER(ctypes.c_char_p),
    ctypes.c_int,
)
_execveat.restype = ctypes.c_long


def openat2(dir_fd: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below ``dir_fd`` under the rules ``resolve`` (``RESOLVE_*``); the descriptor is close-on-exec.

    Tries again when a rename elsewhere disturbed the walk (EAGAIN), a bounded number of times. Linux 5.6.
    Raises OSError: ELOOP (a link that is not allowed), EXDEV (would leave ``dir_fd``), and those of open(2).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    tries = _RACE_TRIES
    while True:
        result = _openat2(NUMBERS["openat2"], dir_fd, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if result != -1:
            return int(result)
        tries -= 1
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR) or tries == 0:
            check(result, "openat2", path)


def close_range(first: int, last: int = MAX_FD, flags: int = 0) -> None:
    """Close the descriptors ``first`` to ``last`` (both included), or mark them with ``CLOSE_RANGE_CLOEXEC``.

    Linux 5.9 (the flag 5.11). Raises OSError.
    """
    check(_close_range(NUMBERS["close_range"], first, last, flags), "close_range")


def fstatfs_type(fd: int) -> int:
    """Return the magic number of the filesystem that ``fd`` lies on (``PROC_SUPER_MAGIC`` ...)."""
    buffer = _Statfs()
    check(_fstatfs(fd, ctypes.byref(buffer)), "fstatfs")
    return int(buffer.f_type) & 0xFFFFFFFF


def is_mount_root(fd: int) -> bool:
    """Tell whether ``fd`` is the root of a mount, that is whether it can be unmounted by name; statx(2), Linux 5.8."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    check(_statx(fd, b"", AT_EMPTY_PATH, 0, buffer), "statx")
    attributes = int.from_bytes(buffer.raw[8:16], sys.byteorder)  # after stx_mask and stx_blksize
    return bool(attributes & _STATX_ATTR_MOUNT_ROOT)


def execveat(fd: int, args: list[str], env: list[str]) -> None:
    """Execute the file open at ``fd``; ``env`` are ``NAME=value``. Returns only by raising OSError."""
    argv = (ctypes.c_char_p * (len(args) + 1))(*[os.fsencode(arg) for arg in args], None)
    envp = (ctypes.c_char_p * (len(env) + 1))(*[os.fsencode(entry) for entry in env], None)
    check(_execveat(NUMBERS["execveat"], fd, b"", argv, envp, AT_EMPTY_PATH), "execveat")


def syncfs(fd: int) -> None:
    """Write out all of the filesystem that ``fd`` lies on. Raises OSError; EIO and ENOSPC of writing since Linux 5.8."""
    check(libc.syncfs(fd), "syncfs")


def sync_file_range(fd: int, offset: int, size: int, flags: int = SYNC_FILE_RANGE_WRITE) -> None:
    """Start to write out part of a file, without waiting for it; makes nothing durable. Raises OSError; see the man page."""
    check(_sync_file_range(fd, offset, size, flags), "sync_file_range")
