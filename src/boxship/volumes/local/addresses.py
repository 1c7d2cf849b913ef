"""Names of servers in a volume's options, looked up as Docker does: the kernel's NFS and CIFS take addresses only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from boxship.base.errors import SystemFailure
from boxship.volumes.local.options import MountOptions

_TYPES = ("nfs", "cifs")

LookUp = Callable[[str], str]
"""Return an address of a name; raises OSError."""


def look_up(name: str) -> str:
    """Return an address of a host, of IPv4 where it has one; blocking, raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def resolved(options: MountOptions, look_up: LookUp = look_up) -> MountOptions:
    """Return the options with addresses for the name in ``addr=``, or, of CIFS without that, in the device ``//host/share``.

    Raises SystemFailure in Docker's words.
    """
    if options.type not in _TYPES:
        return options
    words = options.data.split(",")
    named = next((word.removeprefix("addr=") for word in words if word.startswith("addr=")), "")
    if named:
        if _is_ipv4(named):
            return options
        first = words.index(f"addr={named}")
        words[first] = f"addr={_address(named, look_up)}"
        return msgspec.structs.replace(options, data=",".join(words))
    if options.type == "cifs":
        return msgspec.structs.replace(options, device=_device(options.device, look_up))
    return options


def _device(device: str, look_up: LookUp) -> str:
    try:
        url = urlsplit(device)
        host = url.hostname or ""
    except ValueError as exc:
        raise SystemFailure(f"error parsing mount device url: {exc}") from exc
    if not host or _is_ipv4(host) or ":" in host:
        return device
    return unquote(urlunsplit(url._replace(netloc=_address(host, look_up))))


def _address(name: str, look_up: LookUp) -> str:
    try:
        return look_up(name)
    except (OSError, UnicodeError) as exc:
        missing = isinstance(exc, socket.gaierror) and exc.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        reason = "no such host" if missing or isinstance(exc, UnicodeError) else (exc.strerror or str(exc)).lower()
        raise SystemFailure(f"error resolving passed in network volume address: lookup {name}: {reason}") from exc


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
