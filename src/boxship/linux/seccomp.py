"""Install a ready seccomp filter; see seccomp(2). Compiling one is ``runtime.seccomp``."""

from __future__ import annotations

import ctypes
import errno

from boxship.linux._libc import NUMBERS, check, libc

# linux/seccomp.h
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 16
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000

SOCK_FILTER_SIZE = 8  # struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}
BPF_MAXINSNS = 4096  # linux/bpf_common.h


class _SockFprog(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(program: bytes, flags: int = 0) -> int:
    """Make ``program`` (an array of ``struct sock_filter``) filter the calling thread from now on, for good.

    ``flags`` is a mask of SECCOMP_FILTER_FLAG_*. Returns a new descriptor with NEW_LISTENER, else 0. The caller needs
    CAP_SYS_ADMIN or no_new_privs (else EACCES). Raises OSError; EINVAL for a program that the kernel finds faulty.
    """
    count, rest = divmod(len(program), SOCK_FILTER_SIZE)
    if rest or not 0 < count <= BPF_MAXINSNS:
        raise OSError(errno.EINVAL, f"seccomp: a program of {len(program)} bytes")
    code = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(count, ctypes.addressof(code))
    result = _seccomp(SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog))
    if result > 0 and flags & SECCOMP_FILTER_FLAG_TSYNC and not flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        raise OSError(errno.ESRCH, f"seccomp: thread {result} cannot take the filter")
    return result


def action_available(action: int) -> bool:
    """Return whether the kernel knows the filter answer ``action`` (SECCOMP_RET_*); False without seccomp at all."""
    value = ctypes.c_uint32(action)
    try:
        _seccomp(SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(value))
    except OSError:
        return False
    return True


def _seccomp(operation: int, flags: int, argument: object) -> int:
    if "seccomp" not in NUMBERS:
        raise OSError(errno.ENOSYS, "seccomp: not known for this architecture")
    number = ctypes.c_long(NUMBERS["seccomp"])
    return check(libc.syscall(number, ctypes.c_uint(operation), ctypes.c_uint(flags), argument), "seccomp")
