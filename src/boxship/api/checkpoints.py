"""Routes of checkpoints, an experimental part of Docker's API: this engine saves no processes, and says so.

``start --checkpoint`` is refused too: starting the container anew instead would throw away what the user means to have.
"""

from __future__ import annotations

from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Containers
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput, NotFound, NotSupported

_EXPERIMENTAL = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."
_REASON = "checkpoints are not supported by this engine"


class CheckpointRoutes:
    """Handlers over a ``Containers`` backend."""

    def __init__(self, containers: Containers, *, experimental: bool) -> None:
        self._containers = containers
        self._experimental = experimental

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        kind = Kind.CONTAINER
        return [
            Route("GET", "/containers/{id}/checkpoints", self.list, Level.READ, kind),
            Route("POST", "/containers/{id}/checkpoints", self.create, Level.OPERATE, kind),
            Route("DELETE", "/containers/{id}/checkpoints/{checkpoint}", self.remove, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/checkpoints; there are none."""
        await self._container(call)
        return answers.document([])

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/checkpoints."""
        raise NotSupported(f"Cannot checkpoint container {await self._container(call)}: {_REASON}")

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /containers/{id}/checkpoints/{checkpoint}."""
        name = await self._container(call)
        raise NotFound(f"checkpoint {call.params['checkpoint']} does not exist for container {name}")

    async def _container(self, call: Call) -> str:
        """Return the container's name. Raises NotSupported unless the daemon is experimental, NotFound."""
        if not self._experimental:
            raise NotSupported(_EXPERIMENTAL)
        return (await self._containers.inspect(call.params["id"])).name.removeprefix("/")


def refuse_restore(call: Call, *, experimental: bool) -> None:
    """Raise for a start that asks for a checkpoint; ``experimental`` is the daemon's mode."""
    if not call.text("checkpoint"):
        return
    if not experimental:
        raise InvalidInput("checkpoint is only supported in experimental mode")
    raise NotSupported(f"Cannot restore container {call.params['id']}: {_REASON}")
