"""Resource limits: prlimit(2)."""

import ctypes

from boxship.linux._libc import check, libc

RLIM_INFINITY = 0xFFFFFFFFFFFFFFFF

# asm-generic/resource.h
NUMBERS: dict[str, int] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}


class _RLimit64(ctypes.Structure):
    _fields_ = [("rlim_cur", ctypes.c_uint64), ("rlim_max", ctypes.c_uint64)]


_prlimit = libc.prlimit64
_prlimit.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_RLimit64), ctypes.POINTER(_RLimit64))


def get(pid: int, number: int) -> tuple[int, int]:
    """Return (soft, hard) of limit ``number`` of process ``pid`` (0: the caller)."""
    limit = _RLimit64()
    check(_prlimit(pid, number, None, ctypes.byref(limit)), "prlimit")
    return limit.rlim_cur, limit.rlim_max


def set(pid: int, number: int, soft: int, hard: int) -> None:
    """Set limit ``number`` of process ``pid`` (0: the caller).

    Raises OSError: EPERM (raising a hard limit needs CAP_SYS_RESOURCE), EINVAL (soft above hard).
    """
    limit = _RLimit64(soft & RLIM_INFINITY, hard & RLIM_INFINITY)
    check(_prlimit(pid, number, ctypes.byref(limit), None), "prlimit")
