"""The C library, syscall numbers, and the one way a failed call becomes an OSError."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

# Calls without a wrapper in the C libraries we meet. asm/unistd_64.h (x86-64), asm-generic/unistd.h (aarch64); calls
# added since 2018 have one number everywhere.
_OWN_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {"clone": 56, "pivot_root": 155, "keyctl": 250, "sched_setattr": 314, "seccomp": 317, "execveat": 322},
    "aarch64": {"clone": 220, "pivot_root": 41, "keyctl": 219, "sched_setattr": 274, "seccomp": 277, "execveat": 281},
}
_SHARED_NUMBERS: dict[str, int] = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
NUMBERS: dict[str, int] = _SHARED_NUMBERS | _OWN_NUMBERS.get(os.uname().machine, {})


def check(result: int, call: str, path: str | None = None) -> int:
    """Return ``result``, or raise OSError with the thread's errno when it is -1."""
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}", path)
    return result
