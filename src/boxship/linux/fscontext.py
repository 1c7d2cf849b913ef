"""File systems configured call by call: fsopen(2), fsconfig(2), fsmount(2). Linux 5.2.

Unlike mount(2)'s single page of options this has no bound on the number of an overlay's layers.
"""

import ctypes
import os

from boxship.linux._libc import check, libc

# The same number on every architecture.
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432

# linux/mount.h
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

_fsopen = libc["syscall"]
_fsopen.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_uint)
_fsopen.restype = ctypes.c_long
_fsconfig = libc["syscall"]
_fsconfig.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_int,
)
_fsconfig.restype = ctypes.c_long
_fsmount = libc["syscall"]
_fsmount.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_fsmount.restype = ctypes.c_long


def fsopen(fstype: str) -> int:
    """Return a descriptor of a file system of ``fstype`` that is yet to be configured. Raises OSError."""
    return int(check(_fsopen(_SYS_FSOPEN, fstype.encode(), FSOPEN_CLOEXEC), "fsopen", fstype))


def fsconfig_set_string(fs_fd: int, key: str, value: str) -> None:
    """Set the option ``key``; ``value`` is at most 255 bytes. Raises OSError: EINVAL for an option it does not know."""
    check(_fsconfig(_SYS_FSCONFIG, fs_fd, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0), "fsconfig", key)


def fsconfig_create(fs_fd: int) -> None:
    """Make the file system with the options set so far. Raises OSError."""
    check(_fsconfig(_SYS_FSCONFIG, fs_fd, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """Return a descriptor of a mount of it that is attached nowhere yet; ``attributes`` are ``MOUNT_ATTR_*``."""
    return int(check(_fsmount(_SYS_FSMOUNT, fs_fd, FSMOUNT_CLOEXEC, attributes), "fsmount"))
