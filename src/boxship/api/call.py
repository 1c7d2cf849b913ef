"""One API call, parsed once: what the permission check sees is what the handler acts on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from boxship.api import decode, query
from boxship.api.versions import ApiVersion
from boxship.base.errors import InvalidInput
from boxship.http.server import ClientGone

if TYPE_CHECKING:
    from boxship.api.router import Route

T = TypeVar("T")

MAX_JSON = 16 * 1024 * 1024  # bytes of a JSON body


class Call:
    """A request with its route, version and parameters."""

    __slots__ = ("headers", "kept", "params", "query", "request", "route", "version")

    def __init__(
        self,
        request: web.BaseRequest,
        route: Route,
        version: ApiVersion,
        params: dict[str, str],
        fields: dict[str, list[str]],
        headers: Mapping[str, str],
    ) -> None:
        self.request = request
        self.route = route
        self.version = version
        self.params = params  # of the path, decoded
        self.query = fields
        self.headers = headers  # that every answer carries
        self.kept: bytes | None = None  # the body, where somebody has read it already

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a query field."""
        return self.query.get(name, (default,))[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean query field."""
        return query.boolean(self.query[name][0]) if name in self.query else default

    def integer(self, name: str) -> int | None:
        """Return a number, None when the field is absent or empty. Raises InvalidInput."""
        value = self.text(name)
        return query.integer(value) if value else None

    def filters(self) -> dict[str, list[str]]:
        """Return the ``filters`` field. Raises InvalidInput."""
        return query.filters(self.text("filters"))

    async def json(self, model: type[T], *, empty: T | None = None) -> T:
        """Return the body as ``model``; a call without a body gives ``empty``, or an error when there is none.

        Raises InvalidInput for a body that is no JSON, too long, or not declared as JSON.
        """
        check_json_type(self.request)
        body = await self.body(MAX_JSON)
        if body.strip():
            return decode.decode(body, model)
        if empty is not None and not body:
            return empty
        raise InvalidInput("invalid JSON: got EOF while reading request body")

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raises InvalidInput above ``limit`` bytes, ClientGone when the client leaves before its end."""
        if self.kept is not None and len(self.kept) <= limit:
            return self.kept
        length = self.request.content_length or 0
        received = bytearray()
        if length <= limit:
            try:
                async for chunk in self.request.content.iter_any():
                    received += chunk
                    if len(received) > limit:
                        break
            except (ConnectionError, web.RequestPayloadError) as exc:
                raise ClientGone from exc
            except BadHttpMessage as exc:
                raise InvalidInput(f"invalid request body: {exc.message}") from exc
        if max(length, len(received)) > limit:
            raise InvalidInput("http: request body too large")
        return bytes(received)


def check_json_type(request: web.BaseRequest) -> None:
    """Refuse a body whose Content-Type is not JSON; without a body none is needed."""
    declared = request.headers.get("Content-Type", "")
    if not declared and not request.body_exists:
        return
    mimetype = declared.partition(";")[0].strip().lower()
    if not mimetype:
        raise InvalidInput(f"malformed Content-Type header ({declared}): mime: no media type")
    if mimetype != "application/json":
        raise InvalidInput(f"unsupported Content-Type header ({declared}): must be 'application/json'")
