"""Routes of the tag Container that stream: attach, logs, stats, export."""

from __future__ import annotations

from collections.abc import AsyncIterator

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
            Route("GET", "/boxship/stats", self.stats_of_all, Level.READ, kind),
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
        return await _send(call, samples, stream=stream)

    async def stats_of_all(self, call: Call) -> web.StreamResponse:
        """GET /boxship/stats: what all containers use, in one array; with ``stream`` an array each second."""
        stream = call.flag("stream")
        samples = self._containers.stats_of_all(stopped_too=call.flag("all"), stream=stream)
        return await _send(call, samples, stream=stream)

    async def export(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/export."""
        return await answers.stream(call, "application/x-tar", await self._containers.export(call.params["id"]))


async def _send(call: Call, samples: AsyncIterator[bytes], *, stream: bool) -> web.StreamResponse:
    """Answer with documents, one a line; an error before the first is an HTTP error."""
    first = await anext(samples)
    if not stream:
        await answers.close(samples)
        return web.Response(body=first + b"\n", content_type="application/json")
    return await answers.stream(call, "application/json", _lines(first, samples))


async def _lines(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first + b"\n"
        async for line in rest:
            yield line + b"\n"
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
