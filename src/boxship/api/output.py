"""Routes of the tag Container that stream: attach, logs, stats, export."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from boxship.api import answers, query, sessions
from boxship.api.backend import AttachOptions, Containers, LogQuery
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.http import hijack


class OutputRoutes:
    """Handlers over a ``Containers`` backend."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        kind = Kind.CONTAINER
        return [
            Route("POST", "/containers/{id}/attach", self.attach, Level.OPERATE, kind),
            Route("GET", "/containers/{id}/attach/ws", self.attach_websocket, Level.OPERATE, kind),
            Route("GET", "/containers/{id}/logs", self.logs, Level.READ, kind),
            Route("GET", "/containers/{id}/stats", self.stats, Level.READ, kind),
            Route("GET", "/containers/{id}/export", self.export, Level.READ, kind),
        ]

    async def attach(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/attach."""
        hijack.hold(call.request)
        return await sessions.serve(call, await self._containers.attach(call.params["id"], _attach_options(call)))

    async def attach_websocket(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/attach/ws."""
        if call.request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidInput("not a websocket handshake")
        session = await self._containers.attach(call.params["id"], _attach_options(call))
        return await sessions.serve_websocket(call, session)

    async def logs(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/logs."""
        stdout, stderr = call.flag("stdout"), call.flag("stderr")
        if not (stdout or stderr):
            raise InvalidInput("Bad parameters: you must choose at least one stream")
        wanted = LogQuery(
            stdout=stdout,
            stderr=stderr,
            follow=call.flag("follow"),
            since=query.timestamp(call.text("since")),
            until=query.timestamp(call.text("until")),
            timestamps=call.flag("timestamps"),
            details=call.flag("details"),
            tail=query.tail(call.text("tail")),
        )
        found = await self._containers.logs(call.params["id"], wanted)
        try:
            return await answers.stream(call, answers.multiplexed_type(call, found.multiplexed), aiter(found))
        finally:
            await found.aclose()

    async def stats(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/stats."""
        stream = call.flag("stream", default=True)
        one_shot = call.flag("one-shot") and call.version >= (1, 41)
        if stream and one_shot:
            raise InvalidInput("cannot have stream=true and one-shot=true")
        samples = self._containers.stats(call.params["id"], stream=stream, one_shot=one_shot)
        first = await anext(samples)
        return await answers.stream(call, "application/json", _lines(first, samples))

    async def export(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/export."""
        return await answers.stream(call, "application/x-tar", await self._containers.export(call.params["id"]))


async def _lines(first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        yield msgspec.json.encode(first) + b"\n"
        async for item in rest:
            yield msgspec.json.encode(item) + b"\n"
    finally:
        await answers.close(rest)


def _attach_options(call: Call) -> AttachOptions:
    return AttachOptions(
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        logs=call.flag("logs"),
        stream=call.flag("stream"),
        detach_keys=call.text("detachKeys") or None,
    )
