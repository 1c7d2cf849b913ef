"""renameat2(2): rename that never replaces, or swaps."""

import ctypes
import os

from boxship.linux._libc import check, libc

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2

_renameat2 = libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def renameat2(old_dir_fd: int, old: str, new_dir_fd: int, new: str, flags: int) -> None:
    """Rename ``old`` in one directory to ``new`` in another under ``flags`` (``RENAME_*``).

    Raises OSError: EEXIST (``RENAME_NOREPLACE`` and ``new`` exists), EINVAL (the filesystem doesn't know the flag).
    """
    check(_renameat2(old_dir_fd, os.fsencode(old), new_dir_fd, os.fsencode(new), flags), "renameat2", new)
