"""Routes of the tag System."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from boxship.api import answers, query, versions
from boxship.api.backend import EventQuery, System
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.spec.docker.system import EventMessage

USAGE_TYPES = ("container", "image", "volume", "build-cache")
PING_HEADERS = {
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
EVENT_TYPES = ("application/jsonl", "application/x-ndjson", "application/json-seq")
RECORD_SEPARATOR = b"\x1e"  # RFC 7464


class SystemRoutes:
    """Handlers over a ``System`` backend."""

    def __init__(self, system: System) -> None:
        self._system = system

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table."""
        kind = Kind.SYSTEM
        return [
            Route("GET", "/_ping", self.ping, Level.READ, kind),
            Route("HEAD", "/_ping", self.ping, Level.READ, kind),
            Route("GET", "/version", self.version, Level.READ, kind),
            Route("GET", "/info", self.info, Level.READ, kind),
            Route("GET", "/events", self.events, Level.READ, kind),
            Route("GET", "/system/df", self.disk_usage, Level.READ, kind),
        ]

    async def ping(self, call: Call) -> web.StreamResponse:  # noqa: ARG002
        """GET and HEAD /_ping."""
        return web.Response(body=b"OK", headers=PING_HEADERS, content_type="text/plain", charset="utf-8")

    async def version(self, call: Call) -> web.StreamResponse:  # noqa: ARG002
        """GET /version."""
        return answers.document(await self._system.version())

    async def info(self, call: Call) -> web.StreamResponse:
        """GET /info."""
        return answers.document(versions.reshape("info", call.version, await self._system.info()))

    async def disk_usage(self, call: Call) -> web.StreamResponse:
        """GET /system/df; the objects themselves only on request from 1.52 on."""
        types = call.query.get("type", []) if call.version >= (1, 42) else []
        for type in types:
            if type not in USAGE_TYPES:
                raise InvalidInput(f"unknown object type: {type}")
        usage = versions.reshape("disk-usage", call.version, await self._system.disk_usage(types))
        if call.version >= (1, 52) and not call.flag("verbose"):
            for summary in usage.values():
                summary.pop("Items", None)
        return answers.document(usage)

    async def events(self, call: Call) -> web.StreamResponse:
        """GET /events."""
        since, until = query.timestamp(call.text("since")), query.timestamp(call.text("until"))
        if until and since > until:
            raise InvalidInput(
                f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
            )
        if call.text("since"):
            since = max(since, 1)  # "0" asks for everything that is kept; 0 here means that nothing was asked for
        wanted = EventQuery(since=since, until=until, filters=call.filters())
        content_type = _event_type(call)
        prefix = RECORD_SEPARATOR if content_type == "application/json-seq" else b""
        return await answers.stream(call, content_type, _event_lines(call, self._system.events(wanted), prefix))


async def _event_lines(call: Call, messages: AsyncIterator[EventMessage], prefix: bytes) -> AsyncIterator[bytes]:
    try:
        async for message in messages:
            yield prefix + msgspec.json.encode(versions.reshape("event", call.version, message)) + b"\n"
    finally:
        await answers.close(messages)


def _event_type(call: Call) -> str:
    """Return the content type of an event stream: negotiated from 1.52 on, before that plain JSON."""
    if call.version < (1, 52):
        return "application/json"
    accepted = [part.partition(";")[0].strip() for part in call.request.headers.get("Accept", "").split(",")]
    return next((type for type in accepted if type in EVENT_TYPES), EVENT_TYPES[0])
