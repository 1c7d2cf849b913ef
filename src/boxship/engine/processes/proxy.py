"""The daemon's end of the proxy: the ports that it serves, told as they change."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

from boxship.engine.processes.resident import Link, Resident
from boxship.networks.models import PublishedPort
from boxship.networks.publishing.relay import SocketOf

log = logging.getLogger(__name__)


class Proxy:
    """A :class:`boxship.networks.publishing.relay.Relay` whose connections go through a process that outlives this one.

    Until :meth:`stop` one runs while there are ports for it.
    """

    def __init__(self, directory: str) -> None:
        """``directory`` is where the proxy of this engine has its control socket."""
        self._ports: dict[str, PublishedPort] = {}
        self._socket_of: SocketOf = lambda _: None
        self._process = Resident("proxy", "boxship.proxy", directory, sync=self._sync, needed=lambda: bool(self._ports))

    async def start(self, ports: Sequence[PublishedPort], socket_of: SocketOf) -> None:
        """Say all there is; a proxy of an earlier daemon is taken over, one is started if there are ports."""
        self._ports = {_key(port): port for port in ports}
        self._socket_of = socket_of
        await self._process.start()

    def open(self, port: PublishedPort, sock: socket.socket) -> None:
        """Serve a port."""
        self._ports[_key(port)] = port
        self._process.tell("open", {"port": _document(port)}, [sock.fileno()])

    def close(self, port: PublishedPort, *, drop: bool) -> None:
        """Serve a port no more."""
        if self._ports.pop(_key(port), None) is not None:
            self._process.tell("close", {"key": _key(port), "drop": drop})

    async def settle(self) -> None:
        """Return when all changes are in place; starts a proxy if there are ports and none runs."""
        if self._ports:
            await self._process.ask("status", {})
        else:
            await self._process.ask_if_there("status", {})

    async def stop(self, *, stop: bool) -> None:
        """Let go of the proxy."""
        await self._process.close(stop=stop)

    async def status(self) -> dict[str, Any]:
        """Return the proxy's counts; raises SystemFailure."""
        return await self._process.ask("status", {})

    async def _sync(self, link: Link) -> None:
        answer = await link.ask("sync", {"ports": [_document(port) for port in self._ports.values()]})
        if not answer.get("ok"):
            raise ConnectionError(str(answer.get("error")))
        for key in answer["missing"]:
            port = self._ports.get(key)
            sock = self._socket_of(port) if port is not None else None
            if port is None:
                continue  # it ended meanwhile
            if sock is None:
                log.error("port %s is not served by the proxy: another program has it", key)
                continue
            link.tell("open", {"port": _document(port)}, [sock.fileno()])


def _key(port: PublishedPort) -> str:
    return f"{port.protocol} {port.host_ip} {port.host_port}"


def _document(port: PublishedPort) -> dict[str, Any]:
    return {"key": _key(port), "address": port.container_ip, "port": port.container_port}
