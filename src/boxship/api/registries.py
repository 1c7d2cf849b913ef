"""Routes that ask registries: POST /auth, GET /distribution/{name}/json, GET /images/search, GET /boxship/images/{name}/referrers."""

from __future__ import annotations

from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Remotes
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.spec.docker.registry import AuthConfig


class RegistryRoutes:
    """Handlers over a ``Remotes`` backend."""

    def __init__(self, remotes: Remotes) -> None:
        self._remotes = remotes

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        return [
            Route("POST", "/auth", self.auth, Level.OPERATE, Kind.SYSTEM),
            Route("GET", "/distribution/{name*}/json", self.distribution, Level.READ, Kind.IMAGE),
            Route("GET", "/boxship/images/{name*}/referrers", self.referrers, Level.READ, Kind.IMAGE),
            Route("GET", "/images/search", self.search, Level.READ, Kind.IMAGE),
        ]

    async def auth(self, call: Call) -> web.StreamResponse:
        """POST /auth."""
        return answers.document(await self._remotes.login(await call.json(AuthConfig)))

    async def distribution(self, call: Call) -> web.StreamResponse:
        """GET /distribution/{name}/json."""
        auth = call.request.headers.get("X-Registry-Auth") or None
        return answers.document(await self._remotes.distribution(call.params["name"], auth))

    async def referrers(self, call: Call) -> web.StreamResponse:
        """GET /boxship/images/{name}/referrers."""
        auth = call.request.headers.get("X-Registry-Auth") or None
        return answers.document(await self._remotes.referrers(call.params["name"], auth))

    async def search(self, call: Call) -> web.StreamResponse:
        """GET /images/search."""
        auth = call.request.headers.get("X-Registry-Auth") or None
        found = await self._remotes.search(
            call.text("term"), limit=call.integer("limit"), filters=call.filters(), auth=auth
        )
        return answers.document(found)
