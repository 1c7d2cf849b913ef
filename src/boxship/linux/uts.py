"""Names of the machine as its processes see them: sethostname(2), setdomainname(2)."""

import ctypes
import socket

from boxship.linux._libc import check, libc

_setdomainname = libc.setdomainname
_setdomainname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace. Raises OSError: EPERM, EINVAL (longer than 64 bytes)."""
    socket.sethostname(name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this UTS namespace. Raises OSError: EPERM, EINVAL (longer than 64 bytes)."""
    encoded = name.encode()
    check(_setdomainname(encoded, len(encoded)), "setdomainname")
