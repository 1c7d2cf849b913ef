"""Routes of the tag Image."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from boxship.api import answers, versions
from boxship.api.backend import Images
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.http.server import ClientGone
from boxship.spec.oci import Platform

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
            Route("GET", "/images/{name*}/attestations", self.attestations, Level.READ, kind),
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
            manifests=call.version >= (1, 47) and call.flag("manifests"),
        )
        return answers.document(versions.reshape("image-summary", call.version, found))

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/json."""
        manifests = call.version >= (1, 48) and call.flag("manifests")
        platform = _platform(call, since=(1, 49))
        if manifests and platform:
            raise InvalidInput("conflicting options: manifests and platform options cannot both be set")
        found = await self._images.inspect(call.params["name"], platform=platform, manifests=manifests)
        return answers.document(versions.reshape("image", call.version, found))

    async def history(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/history."""
        return answers.document(await self._images.history(call.params["name"], platform=_platform(call)))

    async def attestations(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/attestations."""
        platforms = call.query.get("platform", [])
        if len(platforms) > 1:
            raise InvalidInput("only one platform can be specified")
        found = await self._images.attestations(
            call.params["name"],
            platform=_platform_text(platforms[0]) if platforms and platforms[0] else None,
            types=call.query.get("type", []),
            verbatim=call.flag("statement"),
        )
        return answers.document(found)

    async def tag(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/tag."""
        await self._images.tag(call.params["name"], call.text("repo"), call.text("tag"))
        return answers.nothing(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /images/{name}."""
        name = call.params["name"]
        if not name.strip():
            raise InvalidInput("image name cannot be blank")
        wanted = [_platform_text(text) for text in call.query.get("platforms", ())] if call.version >= (1, 50) else []
        removed = await self._images.remove(
            name, force=call.flag("force"), prune=not call.flag("noprune"), wanted=wanted
        )
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
        platform = _platform(call, since=(1, 46))
        messages = self._images.push(call.params["name"], call.text("tag"), auth=auth, platform=platform)
        return await answers.progress(call, messages)

    async def load(self, call: Call) -> web.StreamResponse:
        """POST /images/load."""
        messages = self._images.load(upload(call), quiet=call.flag("quiet", default=True), platform=_platform(call))
        return await answers.progress(call, messages)

    async def save(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/get and GET /images/get?names=..."""
        refs = [call.params["name"]] if "name" in call.params else call.query.get("names", [])
        return await answers.stream(call, "application/x-tar", await self._images.save(refs, platform=_platform(call)))


def _platform(call: Call, *, since: tuple[int, int] = (1, 48)) -> str | None:
    """Return the platform that the call is about. Raises InvalidInput."""
    text = call.text("platform") if call.version >= since else ""
    return _platform_text(text) if text else None


def _platform_text(text: str) -> str:
    """Return the JSON of a platform as ``os[/architecture[/variant]]``. Raises InvalidInput."""
    try:
        platform = msgspec.json.decode(text, type=Platform)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidInput(f"failed to parse platform: {exc}") from exc
    if not platform.os or bool(platform.variant) > bool(platform.architecture):
        raise InvalidInput("failed to parse platform: platform OS must not be empty")
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


async def upload(call: Call) -> AsyncIterator[bytes]:
    """Yield the request's body as it arrives. Raises ClientGone when the client leaves before its end."""
    try:
        async for chunk in call.request.content.iter_chunked(CHUNK):
            yield chunk
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise ClientGone from exc
