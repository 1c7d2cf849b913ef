"""Routes of our own for images that go from engine to engine without a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from aiohttp import web

from boxship.api import answers
from boxship.api.call import Call
from boxship.api.images import upload
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.spec.boxship.shipping import MissingLayer, Shipment


class Shipping(Protocol):
    """Describes images to another engine and takes theirs; nothing counts before ``receive``."""

    async def shipment(self, ref: str) -> Shipment: ...

    async def blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """Return the bytes of a layer's blob from ``offset`` on."""

    async def missing(self, shipment: Shipment) -> Sequence[MissingLayer]:
        """Return what must be written before the shipment can be received."""

    async def write(self, digest: str, size: int, offset: int, source: AsyncIterator[bytes]) -> None:
        """Take a blob's bytes from ``offset`` to its end; what came of an interrupted one is kept."""

    def receive(self, shipment: Shipment) -> AsyncIterator[dict[str, Any]]:
        """Make the image; yield progress messages."""


class ShippingRoutes:
    """Handlers over a ``Shipping`` backend."""

    def __init__(self, shipping: Shipping) -> None:
        self._shipping = shipping

    def routes(self) -> list[Route]:
        """Return these rows of the router's table; names hold slashes, so fixed paths come first."""
        kind = Kind.IMAGE
        return [
            Route("POST", "/boxship/images/missing", self.missing, Level.ADMIN, kind),
            Route("POST", "/boxship/images/receive", self.receive, Level.ADMIN, kind),
            Route("GET", "/boxship/images/{name*}/shipment", self.shipment, Level.READ, kind),
            Route("GET", "/boxship/blobs/{digest}", self.read, Level.READ, kind),
            Route("PUT", "/boxship/blobs/{digest}", self.write, Level.ADMIN, kind),
        ]

    async def shipment(self, call: Call) -> web.StreamResponse:
        """GET /boxship/images/{name}/shipment."""
        return answers.document(await self._shipping.shipment(call.params["name"]))

    async def missing(self, call: Call) -> web.StreamResponse:
        """POST /boxship/images/missing."""
        return answers.document(await self._shipping.missing(await call.json(Shipment)))

    async def receive(self, call: Call) -> web.StreamResponse:
        """POST /boxship/images/receive."""
        return await answers.progress(call, self._shipping.receive(await call.json(Shipment)))

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /boxship/blobs/{digest}."""
        chunks = await self._shipping.blob(call.params["digest"], call.integer("offset") or 0)
        return await answers.stream(call, "application/octet-stream", chunks)

    async def write(self, call: Call) -> web.StreamResponse:
        """PUT /boxship/blobs/{digest}."""
        size = call.integer("size")
        if size is None:
            raise InvalidInput("size must be specified")
        await self._shipping.write(call.params["digest"], size, call.integer("offset") or 0, upload(call))
        return answers.nothing(201)
