"""Routes of the tag Exec."""

from __future__ import annotations

import msgspec
from aiohttp import web

from boxship.api import answers, sessions
from boxship.api.backend import Debugging, Execs
from boxship.api.call import Call
from boxship.api.containers import size
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.http import hijack
from boxship.spec.boxship.debugging import DebugRequest
from boxship.spec.docker.container import ExecConfig, ExecStart


class ExecRoutes:
    """Handlers over an ``Execs`` and a ``Debugging`` backend."""

    def __init__(self, execs: Execs, debugging: Debugging) -> None:
        self._execs = execs
        self._debugging = debugging

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table."""
        return [
            Route("POST", "/containers/{id}/exec", self.create, Level.OPERATE, Kind.CONTAINER),
            Route("POST", "/boxship/debug", self.debug, Level.ADMIN, Kind.CONTAINER),
            Route("POST", "/exec/{id}/start", self.start, Level.OPERATE, Kind.EXEC),
            Route("POST", "/exec/{id}/resize", self.resize, Level.OPERATE, Kind.EXEC),
            Route("GET", "/exec/{id}/json", self.inspect, Level.READ, Kind.EXEC),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/exec."""
        config = await call.json(ExecConfig)
        if not config.cmd:
            raise InvalidInput("no exec command specified")
        if config.console_size is not None and (call.version < (1, 42) or not config.tty):
            config = msgspec.structs.replace(config, console_size=None)
        return answers.document({"Id": await self._execs.create(call.params["id"], config)}, status=201)

    async def debug(self, call: Call) -> web.StreamResponse:
        """POST /boxship/debug."""
        request = await call.json(DebugRequest)
        if not request.target:
            raise InvalidInput("no container or image specified")
        return answers.document(await self._debugging.create(request), status=201)

    async def start(self, call: Call) -> web.StreamResponse:
        """POST /exec/{id}/start; an exec that cannot start is an HTTP error as long as the connection is HTTP."""
        options = await call.json(ExecStart, empty=ExecStart())
        if options.console_size is not None and (call.version < (1, 42) or not options.tty):
            options = msgspec.structs.replace(options, console_size=None)
        if not options.detach:
            hijack.hold(call.request)
        session = await self._execs.start(call.params["id"], options)
        return answers.nothing(200) if session is None else await sessions.serve(call, session)

    async def resize(self, call: Call) -> web.StreamResponse:
        """POST /exec/{id}/resize."""
        height, width = size(call)
        await self._execs.resize(call.params["id"], height, width)
        return answers.nothing(200)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /exec/{id}/json."""
        return answers.document(await self._execs.inspect(call.params["id"]))
