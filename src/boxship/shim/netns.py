"""Make a network namespace: in a child, since a process cannot enter one and come back without side effects."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from boxship.linux import mount, namespaces
from boxship.linux.netlink import NETLINK_ROUTE
from boxship.wire import messages

_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1  # linux/if.h
_IFREQ = struct.Struct("16sH22x")
_LIMIT = 30.0  # seconds; a host that takes longer is ill


def create(path: str) -> int:
    """Make a network namespace with its loopback up, bind it at ``path`` and return a route netlink socket inside it.

    Raises OSError with the reason; nothing is left at ``path`` then.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = os.fork()
            if pid == 0:
                _run(path, theirs)
        ours.settimeout(_LIMIT)
        answer, fds = messages.receive(ours)
    if "error" in answer:
        messages.close_all(fds)
        raise OSError(answer["error"])
    return fds[0]


def _run(path: str, answer_to: socket.socket) -> None:
    try:
        try:
            fd = _make(path)
        except OSError as exc:
            messages.send(answer_to, {"error": f"{exc.strerror or exc}: {path}"})
        else:
            messages.send(answer_to, {}, [fd])
        os._exit(0)
    finally:
        os._exit(1)


def _make(path: str) -> int:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        _set_up("lo")
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        mount.mount("/proc/self/ns/net", path, None, mount.MS_BIND)
    except OSError:
        os.unlink(path)
        raise
    return route.detach()


def _set_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = _IFREQ.pack(interface.encode(), 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, request))
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(interface.encode(), flags | _IFF_UP))
