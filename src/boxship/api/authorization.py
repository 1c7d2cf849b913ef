"""Who else has a say: an authorizer sees each request before its handler, and each answer before the client.

A request's body is shown when it is JSON, but for credentials (``/auth``); headers with credentials never are. What is streamed
to the client can't be kept back any more: its end is shown without the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from boxship.api.call import MAX_JSON, Call
from boxship.http.server import peer_of

_SECRET = frozenset(("authorization", "x-registry-config", "x-registry-auth"))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request: ``user`` is the common name of the client's certificate, ``uri`` the target as it came."""

    user: str
    method: str
    uri: str
    headers: dict[str, str]
    body: bytes


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Authorizer(Protocol):
    """Lets requests and answers pass, or raises Forbidden; SystemFailure when nobody can tell."""

    async def admit(self, asked: Asked) -> None:
        """Decide about a request before anything is done for it."""

    async def release(self, asked: Asked, answered: Answered) -> None:
        """Decide about its answer."""


async def asked(call: Call) -> Asked:
    """Return a call as an authorizer sees it; its body stays readable. Raises InvalidInput, ClientGone."""
    request = call.request
    body = b""
    if _is_shown(request.path, request.headers.get("Content-Type", "")):
        body = call.kept = await call.body(MAX_JSON)
    peer = peer_of(request)
    return Asked(
        user=peer.certificate if peer is not None else "",
        method=request.method,
        uri=request.raw_path,
        headers=_headers(request.headers),
        body=body,
    )


def answered(call: Call, response: web.StreamResponse) -> Answered:
    """Return a call's answer as an authorizer sees it."""
    body = b""
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and not response.prepared:
        body = response.body if _is_shown(call.request.path, response.headers.get("Content-Type", "")) else b""
    return Answered(status=response.status, headers=_headers(response.headers), body=body)


def _is_shown(path: str, content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json" and not path.endswith("/auth")


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET}
