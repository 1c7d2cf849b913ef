"""Make a network namespace, or go into one, in a process that is there for that only."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from boxship.linux import mount, namespaces
from boxship.linux.netlink import NETLINK_ROUTE
from boxship.shim import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1  # linux/if.h
_IFREQ = struct.Struct("16sH22x")


def make(path: str, user: dict[str, Any] | None = None) -> int:
    """Make a network namespace with its loopback up, bind it at ``path`` and return a route netlink socket inside it.

    ``user``: the user namespace that is to own it (:func:`boxship.shim.userns.enter`), bound beside it; None is ours.
    The calling process is in that namespace from then on, so it should be one that ends soon. Raises OSError; nothing is
    left at ``path`` then.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    try:
        inside = userns.enter(user) if user is not None else None
        namespaces.unshare(namespaces.CLONE_NEWNET)
        _set_up("lo")
        allow_ipv6(False)
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        if inside is not None:
            inside.bind(path)
        else:
            mount.mount("/proc/self/ns/net", path, None, mount.MS_BIND)
    except OSError:
        os.unlink(path)
        raise
    return route.detach()


def enter(path: str, *, ipv6: bool) -> int:
    """Go into the network namespace at ``path`` and return a route netlink socket inside it.

    ``ipv6`` says whether interfaces that are made there from now on have IPv6. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(fd, namespaces.CLONE_NEWNET)
    finally:
        os.close(fd)
    allow_ipv6(ipv6)
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE).detach()


def allow_ipv6(allowed: bool) -> None:
    """Say whether interfaces to come have IPv6; without a network that has it they shall not.

    A container could tell its neighbours by router advertisements to use it. The loopback has ``::1`` already.
    """
    try:
        fd = os.open("/proc/sys/net/ipv6/conf/default/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        os.write(fd, b"0" if allowed else b"1")
    finally:
        os.close(fd)


def _set_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = _IFREQ.pack(interface.encode(), 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, request))
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(interface.encode(), flags | _IFF_UP))
