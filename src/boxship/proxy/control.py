"""What boxshipd says to the proxy, besides what every resident knows (:mod:`boxship.shim.resident`).

========= ========================= ==============================================================================
op        fields                    answer
========= ========================= ==============================================================================
``sync``  ``ports``                 ``missing``: keys of those that are not served. All others are given up
``open``  ``port``, 1 descriptor    when it is served: the bound socket, which listens if it is no datagram's
``close`` ``key``, ``drop``: bool   when the port is free; with ``drop`` its connections have ended, too
========= ========================= ==============================================================================

A port is ``{"key", "address", "port"}``: any text that names it, and where in a container it leads.
"""

from __future__ import annotations

import os
import socket

from boxship.proxy.datagrams import DatagramPort
from boxship.proxy.streams import StreamPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.shim.loop import Loop
    from boxship.shim.resident import Answer


class Ports:
    """All ports of the process, by key."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ports: dict[str, StreamPort | DatagramPort] = {}

    @property
    def empty(self) -> bool:
        """Whether no port is served."""
        return not self._ports

    def status(self) -> dict[str, int]:
        """Return counts."""
        return {"ports": len(self._ports), "connections": sum(port.connections for port in self._ports.values())}

    def close(self) -> None:
        """Give up all ports."""
        for key in list(self._ports):
            self._close(key, drop=True)

    def carry_out(self, request: dict[str, Any], fds: list[int], answer: Answer) -> None:
        """Do what a request says; raises KeyError, TypeError or ValueError for a bad one."""
        match request["op"]:
            case "sync":
                wanted = {str(port["key"]): (str(port["address"]), int(port["port"])) for port in request["ports"]}
                for key in [key for key, port in self._ports.items() if wanted.get(key) != port.target]:
                    self._close(key, drop=True)
                answer.send({"missing": [key for key in wanted if key not in self._ports]})
            case "open":
                port = request["port"]
                self._open(str(port["key"]), (str(port["address"]), int(port["port"])), fds)
                answer.send({})
            case "close":
                self._close(str(request["key"]), drop=bool(request["drop"]))
                answer.send({})
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")

    def _open(self, key: str, target: tuple[str, int], fds: list[int]) -> None:
        if len(fds) != 1:
            raise ValueError("a port needs one descriptor")
        self._close(key, drop=True)
        sock = socket.socket(fileno=os.dup(fds[0]))
        kind = DatagramPort if sock.type == socket.SOCK_DGRAM else StreamPort
        self._ports[key] = kind(sock, target, self._loop)

    def _close(self, key: str, *, drop: bool) -> None:
        port = self._ports.pop(key, None)
        if port is not None:
            port.close(drop=drop)
