"""Routes of the tag Image."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from boxship.api import answers, versions
from boxship.api.backend import Images
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.http.server import ClientGone

CHUNK = 256 * 1024


class ImageRoutes:
    """Handlers over an ``Images`` backend."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table; names hold slashes, so fixed paths come first."""
        kind = Kind.IMAGE
        return [
            Route("GET", "/images/json", self.list, Level.READ, kind),
            Route("GET", "/images/get", self.save, Level.READ, kind),
            Route("POST", "/images/create", self.create, Level.ADMIN, kind),
            Route("POST", "/images/load", self.load, Level.ADMIN, kind),
            Route("POST", "/images/prune", self.prune, Level.ADMIN, kind),
            Route("GET", "/images/{name*}/json", self.inspect, Level.READ, kind),
            Route("GET", "/images/{name*}/history", self.history, Level.READ, kind),
            Route("GET", "/images/{name*}/get", self.save, Level.READ, kind),
            Route("POST", "/images/{name*}/push", self.push, Level.ADMIN, kind),
            Route("POST", "/images/{name*}/tag", self.tag, Level.ADMIN, kind),
            Route("DELETE", "/images/{name*}", self.remove, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /images/json."""
        found = await self._images.list(
            all=call.flag("all"),
            filters=call.filters(),
            shared_size=call.flag("shared-size"),
            digests=call.flag("digests"),
        )
        return answers.document(versions.reshape("image-summary", call.version, found))

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/json."""
        found = await self._images.inspect(call.params["name"])
        return answers.document(versions.reshape("image", call.version, found))

    async def history(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/history."""
        return answers.document(await self._images.history(call.params["name"]))

    async def tag(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/tag."""
        await self._images.tag(call.params["name"], call.text("repo"), call.text("tag"))
        return answers.nothing(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /images/{name}."""
        name = call.params["name"]
        if not name.strip():
            raise InvalidInput("image name cannot be blank")
        removed = await self._images.remove(name, force=call.flag("force"), prune=not call.flag("noprune"))
        return answers.document(removed)

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /images/prune."""
        return answers.document(await self._images.prune(call.filters()))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /images/create: a pull (``fromImage``) or an import (``fromSrc``)."""
        platform = call.text("platform") or None if call.version >= (1, 32) else None
        image, source = call.text("fromImage"), call.text("fromSrc")
        if image:
            auth = call.request.headers.get("X-Registry-Auth") or None
            return await answers.progress(
                call, self._images.pull(image, call.text("tag"), platform=platform, auth=auth)
            )
        if not source:
            raise InvalidInput("either fromImage or fromSrc must be specified")
        messages = self._images.import_(
            upload(call) if source == "-" else source,
            repository=call.text("repo"),
            tag=call.text("tag"),
            message=call.text("message"),
            changes=call.query.get("changes", []),
            platform=platform,
        )
        return await answers.progress(call, messages)

    async def push(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/push."""
        auth = call.request.headers.get("X-Registry-Auth") or None
        return await answers.progress(call, self._images.push(call.params["name"], call.text("tag"), auth=auth))

    async def load(self, call: Call) -> web.StreamResponse:
        """POST /images/load."""
        return await answers.progress(call, self._images.load(upload(call), quiet=call.flag("quiet", default=True)))

    async def save(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/get and GET /images/get?names=..."""
        refs = [call.params["name"]] if "name" in call.params else call.query.get("names", [])
        return await answers.stream(call, "application/x-tar", await self._images.save(refs))


async def upload(call: Call) -> AsyncIterator[bytes]:
    """Yield the request's body as it arrives. Raises ClientGone when the client leaves before its end."""
    try:
        async for chunk in call.request.content.iter_chunked(CHUNK):
            yield chunk
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise ClientGone from exc
