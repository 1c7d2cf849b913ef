"""Signal actions of the calling process: signal(2)."""

import ctypes
import signal

from boxship.linux._libc import libc

_signal = libc.signal
_signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_signal.restype = ctypes.c_void_p


def reset_all() -> None:
    """Give every signal its default action and unblock all, for a process that is about to execute a program.

    Python's own table of handlers is left as it is: ten times slower to change, and gone with execve.
    """
    for number in range(1, signal.NSIG):
        _signal(number, None)  # SIG_DFL; fails for SIGKILL, SIGSTOP and those the C library keeps, which have it
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
