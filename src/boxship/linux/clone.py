"""clone(2) for what fork(2) cannot: a child that belongs to the caller's own parent."""

import ctypes
import signal

from boxship.linux._libc import NUMBERS, check, libc

CLONE_PARENT = 0x00008000  # linux/sched.h

_clone = libc.syscall
_clone.restype = ctypes.c_long


def fork_sibling() -> int:
    """Fork so that the new process is a child of the caller's parent; return 0 in it and its pid in the caller.

    The parent reaps it, and PR_SET_PDEATHSIG in it means the parent. Made past Python's own fork: for processes with one
    thread and no at-fork handlers only, that end in execve(2) or _exit(2) soon. Raises OSError.
    """
    flags = ctypes.c_ulong(CLONE_PARENT | signal.SIGCHLD)
    zero = ctypes.c_ulong(0)
    return int(check(_clone(ctypes.c_long(NUMBERS["clone"]), flags, zero, zero, zero, zero), "clone"))
