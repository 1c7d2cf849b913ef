"""Routes of checkpoints, an experimental part of Docker's API: a daemon without experimental features refuses them all.

A checkpoint directory that the caller names is a directory of the host, so whoever may name one may do everything.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Checkpoints
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput, NotSupported

_EXPERIMENTAL = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."


class CheckpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /containers/{id}/checkpoints."""

    name: str = msgspec.field(name="CheckpointID", default="")
    directory: str = msgspec.field(name="CheckpointDir", default="")
    exit: bool = msgspec.field(name="Exit", default=False)


class CheckpointRoutes:
    """Handlers over a ``Checkpoints`` backend."""

    def __init__(self, checkpoints: Checkpoints, *, experimental: bool) -> None:
        self._checkpoints = checkpoints
        self._experimental = experimental

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        kind = Kind.CONTAINER
        return [
            Route("GET", "/containers/{id}/checkpoints", self.list, Level.ADMIN, kind),
            Route("POST", "/containers/{id}/checkpoints", self.create, Level.ADMIN, kind),
            Route("DELETE", "/containers/{id}/checkpoints/{checkpoint}", self.remove, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/checkpoints."""
        self._check_mode()
        names = await self._checkpoints.list(call.params["id"], directory=call.text("dir"))
        return answers.document([{"Name": name} for name in names])

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/checkpoints."""
        self._check_mode()
        body = await call.json(CheckpointRequest)
        await self._checkpoints.create(call.params["id"], body.name, directory=body.directory, exit=body.exit)
        return answers.nothing(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /containers/{id}/checkpoints/{checkpoint}."""
        self._check_mode()
        await self._checkpoints.remove(call.params["id"], call.params["checkpoint"], directory=call.text("dir"))
        return answers.nothing()

    def _check_mode(self) -> None:
        if not self._experimental:
            raise NotSupported(_EXPERIMENTAL)


def asked_for(call: Call, *, experimental: bool) -> str:
    """Return the checkpoint that a start asks for, "" for none. Raises InvalidInput unless the daemon is experimental."""
    name = call.text("checkpoint")
    if name and not experimental:
        raise InvalidInput("checkpoint is only supported in experimental mode")
    return name
