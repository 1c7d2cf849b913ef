"""When a thread gets a processor, as far as the standard library has no name for it."""

import ctypes
import errno
import os
import struct

from boxship.linux._libc import NUMBERS, check, libc

_SCHED_OTHER = 0  # linux/sched.h
_ATTRIBUTES = struct.Struct(
    "=IIQiIQQQ"
)  # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
_AUTOGROUP = "/proc/self/autogroup"


def set_slice(slice_ns: int, *, nice: int) -> None:
    """Give the calling thread short turns, which it then gets sooner, and a nice value; see sched_setattr(2).

    A slice is at least 100 us; before Linux 6.12 only ``nice`` counts. Raises OSError: EPERM for a lower nice value without
    CAP_SYS_NICE, ENOSYS.
    """
    if "sched_setattr" not in NUMBERS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    number = ctypes.c_long(NUMBERS["sched_setattr"])
    check(libc.syscall(number, ctypes.c_int(0), attributes, ctypes.c_uint(0)), "sched_setattr")


def set_group_nice(nice: int) -> None:
    """Set the nice value of the caller's session among other sessions, where the kernel groups by them; see sched(7).

    Raises OSError: ENOENT where it does not, EPERM, EAGAIN when it was set a moment ago.
    """
    with open(_AUTOGROUP, "w", encoding="ascii") as file:
        file.write(str(nice))
