"""Routes of the tag Volume."""

from __future__ import annotations

from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Volumes
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.api.swarm import not_a_manager
from boxship.base.errors import Unavailable
from boxship.spec.docker.volume import VolumeCreate


class VolumeRoutes:
    """Handlers over a ``Volumes`` backend."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table."""
        kind = Kind.VOLUME
        return [
            Route("GET", "/volumes", self.list, Level.READ, kind),
            Route("POST", "/volumes/create", self.create, Level.ADMIN, kind),
            Route("POST", "/volumes/prune", self.prune, Level.ADMIN, kind),
            Route("GET", "/volumes/{name*}", self.inspect, Level.READ, kind),
            Route("PUT", "/volumes/{name*}", self.update, Level.ADMIN, kind),
            Route("DELETE", "/volumes/{name*}", self.remove, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /volumes."""
        return answers.document(await self._volumes.list_all(call.filters()))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /volumes/create; volumes of a cluster need a swarm."""
        wanted = await call.json(VolumeCreate)
        if wanted.cluster_volume_spec is not None and call.version >= (1, 42):
            raise not_a_manager()
        return answers.document(await self._volumes.create(wanted), status=201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /volumes/{name}."""
        return answers.document(await self._volumes.inspect(call.params["name"]))

    async def update(self, call: Call) -> web.StreamResponse:  # noqa: ARG002
        """PUT /volumes/{name}: for volumes of a cluster, which there is none of."""
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /volumes/{name}."""
        await self._volumes.remove(call.params["name"], force=call.flag("force"))
        return answers.nothing()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /volumes/prune; from 1.42 on only anonymous volumes unless the filter ``all`` says otherwise."""
        filters = call.filters()
        if call.version < (1, 42) and "all" not in filters:
            filters["all"] = ["true"]
        return answers.document(await self._volumes.prune(filters))
