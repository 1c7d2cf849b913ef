"""Kernel keyrings: keyctl(2)."""

import ctypes

from boxship.linux._libc import NUMBERS, check, libc

# linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
KEYCTL_DESCRIBE = 6

KEY_USR_SEARCH = 0x00080000  # linux/key.h

_keyctl = libc["syscall"]
_keyctl.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_keyctl.restype = ctypes.c_long


def join_session_keyring(name: str) -> int:
    """Join the session keyring called ``name``, made anew unless one can be found; return its serial number.

    Raises OSError: ENOSYS (no keyrings in this kernel), EPERM, EDQUOT.
    """
    text = ctypes.create_string_buffer(name.encode())
    call = (NUMBERS["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, ctypes.addressof(text), None, 0)
    return int(check(_keyctl(*call), "keyctl(JOIN_SESSION_KEYRING)"))


def permissions(serial: int) -> int:
    """Return the permission mask of key ``serial`` (``KEY_*``)."""
    text = ctypes.create_string_buffer(512)
    call = (NUMBERS["keyctl"], KEYCTL_DESCRIBE, serial, ctypes.addressof(text), len(text))
    check(_keyctl(*call), "keyctl(DESCRIBE)")
    return int(text.value.split(b";")[3], 16)


def set_permissions(serial: int, mask: int) -> None:
    """Set the permission mask of key ``serial``."""
    check(_keyctl(NUMBERS["keyctl"], KEYCTL_SETPERM, serial, mask, 0), "keyctl(SETPERM)")
