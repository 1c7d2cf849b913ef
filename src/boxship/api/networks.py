"""Routes of the tag Network."""

from __future__ import annotations

from aiohttp import web

from boxship.api import answers, versions
from boxship.api.backend import Networks
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.spec.docker.network import NetworkConnect, NetworkCreate, NetworkDisconnect


class NetworkRoutes:
    """Handlers over a ``Networks`` backend."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table."""
        kind = Kind.NETWORK
        return [
            Route("GET", "/networks", self.list, Level.READ, kind),
            Route("POST", "/networks/create", self.create, Level.ADMIN, kind),
            Route("POST", "/networks/prune", self.prune, Level.ADMIN, kind),
            Route("POST", "/networks/{id*}/connect", self.connect, Level.OPERATE, kind),
            Route("POST", "/networks/{id*}/disconnect", self.disconnect, Level.OPERATE, kind),
            Route("GET", "/boxship/networks/explain/{target*}", self.explain, Level.READ, kind),
            Route("GET", "/networks/{id*}", self.inspect, Level.READ, kind),
            Route("DELETE", "/networks/{id*}", self.remove, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /networks."""
        found = await self._networks.list(call.filters())
        return answers.document(versions.reshape("network", call.version, found))

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /networks/{id}."""
        found = await self._networks.inspect(call.params["id"])
        return answers.document(versions.reshape("network", call.version, found))

    async def explain(self, call: Call) -> web.StreamResponse:
        """GET /boxship/networks/explain/{target}: who reaches a port ("8080", "8080/udp") or a container."""
        return answers.document(await self._networks.explain(call.params["target"]))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /networks/create."""
        return answers.document(await self._networks.create(await call.json(NetworkCreate)), status=201)

    async def connect(self, call: Call) -> web.StreamResponse:
        """POST /networks/{id}/connect."""
        await self._networks.connect(call.params["id"], await call.json(NetworkConnect))
        return web.Response()

    async def disconnect(self, call: Call) -> web.StreamResponse:
        """POST /networks/{id}/disconnect."""
        await self._networks.disconnect(call.params["id"], await call.json(NetworkDisconnect))
        return web.Response()

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /networks/{id}."""
        await self._networks.remove(call.params["id"])
        return answers.nothing()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /networks/prune."""
        return answers.document(await self._networks.prune(call.filters()))
