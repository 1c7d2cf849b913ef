"""Which handler serves a request, what it must be allowed to do, and what every answer has in common.

A route cannot exist without its permission: ``Route`` asks for it. The path is taken apart once (escapes, version,
segments); permission and handler see the same :class:`Call`. A path that is not in its plain form (``//``, ``/../``, also
written with escapes) is never served: it is redirected to its plain form, as Docker does.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from posixpath import normpath
from typing import NamedTuple
from urllib.parse import quote, unquote

from aiohttp import web

from boxship import __version__
from boxship.api import authorization, query, versions
from boxship.api.authorization import Authorizer
from boxship.api.call import Call
from boxship.api.errors import answer_of, error_response
from boxship.api.versions import ApiVersion
from boxship.base.errors import BoxshipError
from boxship.http import peer
from boxship.http.server import ClientGone, connection_of, peer_of

log = logging.getLogger("boxship.api")

COMMON_HEADERS = {
    "Api-Version": str(versions.NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Boxship/{__version__} (linux)",
}


class Level(enum.IntEnum):
    """What a caller may do with an object: look, run and stop it, or everything."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


class Kind(enum.StrEnum):
    """The object a route acts on."""

    CONTAINER = "container"
    EXEC = "exec"
    IMAGE = "image"
    NETWORK = "network"
    VOLUME = "volume"
    SYSTEM = "system"
    SWARM = "swarm"


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One row of the API: ``path`` holds ``{name}`` for a segment, ``{name*}`` for one or more."""

    method: str
    path: str
    handler: Handler
    level: Level
    kind: Kind


class Target(NamedTuple):
    """A request's target, taken apart; ``version`` is None for an unversioned path."""

    path: str  # decoded, plain, without the version
    query: str
    version: ApiVersion | None
    redirect: str | None  # the plain path to go to instead


_VERSION = re.compile(r"/v([0-9.]+)(/.*)")
_PLACEHOLDER = re.compile(r"\{(\w+)(\*?)\}")


class Router:
    """Finds routes and answers requests; the handler of ``http.server.Server``."""

    def __init__(
        self, routes: Iterable[Route], *, experimental: bool = False, authorizer: Authorizer | None = None
    ) -> None:
        self._authorizer = authorizer
        self.routes = tuple(routes)
        self._headers = {**COMMON_HEADERS, "Docker-Experimental": "true" if experimental else "false"}
        self._table: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in self.routes:
            key = (route.method, route.path.split("/")[1])
            self._table.setdefault(key, []).append((_pattern(route.path), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the first route that serves ``method`` at the plain ``path``, with the path's parameters."""
        for pattern, route in self._table.get((method, path.split("/")[1]), ()):
            match = pattern.fullmatch(path)
            if match:
                return route, match.groupdict()
        return None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; no exception but cancellation leaves."""
        try:
            response = await self._answer(request)
        except BoxshipError as error:
            response = answer_of(error)
        except (ClientGone, ConnectionError):
            response = _drop(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("%s %s failed", request.method, request.raw_path)
            response = error_response(500, f"{type(error).__name__}: {error}")
        if response.status >= 400:
            if request.writer.output_size > 0:  # the head of another answer is out already
                return _drop(request)
            if "Upgrade" in request.headers:
                response.force_close()  # what follows is the stream the client hoped for, not a request
        if not response.prepared:
            for name, value in self._headers.items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if _is_of_a_browser(request):
            return error_response(403, "requests of web pages are not served on a TCP address without TLS")
        target = parse_target(request.raw_path)
        if target.redirect is not None:
            return web.Response(status=301, headers={"Location": target.redirect})
        found = self.find(request.method, target.path)
        if found is None:
            return error_response(404, "page not found")
        version = versions.NEWEST if target.version is None else versions.check(target.version)
        route, params = found
        log.debug("Calling %s %s", request.method, request.raw_path)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        fields = query.parse_query(target.query)
        if request.method != "GET":
            peer.current.set(peer_of(request))
        call = Call(request, route, version, params, fields, self._headers)
        return await (route.handler(call) if self._authorizer is None else self._authorized(call, self._authorizer))

    async def _authorized(self, call: Call, authorizer: Authorizer) -> web.StreamResponse:
        """Answer a request that an authorizer admits, if it releases the answer too."""
        asked = await authorization.asked(call)
        await authorizer.admit(asked)
        try:
            response = await call.route.handler(call)
        except BoxshipError as error:
            response = answer_of(error)
        await authorizer.release(asked, authorization.answered(call, response))
        return response


def parse_target(raw: str) -> Target:
    """Take a request's target apart: origin form (``/path?query``) or absolute form (``http://host/path``)."""
    if "://" in raw.partition("?")[0]:
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    raw_path, _, fields = raw.partition("#")[0].partition("?")
    path = unquote(raw_path, errors="replace")
    plain = _plain(path)
    if plain != path:
        return Target(path, fields, None, quote(plain) + (f"?{fields}" if fields else ""))
    match = _VERSION.fullmatch(path)
    if match is None:
        return Target(path, fields, None, None)
    return Target(match[2], fields, ApiVersion.parse(match[1]), None)


def _plain(path: str) -> str:
    """Return ``path`` rooted, without empty, ``.`` and ``..`` segments; a final slash stays."""
    plain = normpath("/" + path.lstrip("/"))
    return plain + "/" if path.endswith("/") and plain != "/" else plain


def _pattern(template: str) -> re.Pattern[str]:
    parts = []
    end = 0
    for match in _PLACEHOLDER.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        parts.append(f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})")
        end = match.end()
    parts.append(re.escape(template[end:]))
    return re.compile("".join(parts), re.DOTALL)


def _is_of_a_browser(request: web.BaseRequest) -> bool:
    """Return whether a web page may be behind a request that came over plain TCP.

    A page can make a browser send requests to any address its user reaches (also by rebinding the page's own name). The
    browser shows itself by its user agent, or by Origin, which API clients send for websockets only.
    """
    sock = request.transport and request.transport.get_extra_info("socket")
    if not sock or sock.family == socket.AF_UNIX:  # TLS connections arrive over a Unix socket pair
        return False
    headers = request.headers
    upgrade = headers.get("Upgrade", "").lower()
    return headers.get("User-Agent", "").startswith("Mozilla/") or ("Origin" in headers and upgrade != "websocket")


def _drop(request: web.BaseRequest) -> web.Response:
    """Close the connection of a client that left; the response goes nowhere."""
    transport = connection_of(request).transport
    if transport is not None:
        transport.abort()
    response = web.Response(status=499)
    response.force_close()
    return response
