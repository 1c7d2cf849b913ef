"""Errors as HTTP: one table from ``base.errors`` to status codes, one shape for all answers that are no success."""

from __future__ import annotations

import msgspec
from aiohttp import web

from boxship.base.errors import (
    BoxshipError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    NotSupported,
    SystemFailure,
    Unauthorized,
    Unavailable,
)
from boxship.spec.dockerfile.errors import DockerfileError

STATUS: dict[type[BoxshipError], int] = {
    InvalidInput: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    SystemFailure: 500,
    NotSupported: 501,
    Unavailable: 503,
}


def status_of(error: BoxshipError) -> int:
    """Return the HTTP status of an error: its nearest class of the table, 500 for the base class."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)


def answer_of(error: BoxshipError) -> web.Response:
    """Return what is answered to a request that failed so."""
    return error_response(status_of(error), str(error), error.excerpt if isinstance(error, DockerfileError) else "")


def error_response(status: int, message: str, excerpt: str = "") -> web.Response:
    """Return Docker's error document, ``{"message": ...}``; ours has an ``excerpt`` of a Dockerfile besides."""
    return web.Response(status=status, body=error_body(message, excerpt), content_type="application/json")


def error_body(message: str, excerpt: str = "") -> bytes:
    """Return the error document as a line of JSON; bytes that are no UTF-8 in names become U+FFFD."""
    texts = {"message": message, "excerpt": excerpt} if excerpt else {"message": message}
    document = {key: text.encode("utf-8", "replace").decode() for key, text in texts.items()}
    return msgspec.json.encode(document) + b"\n"
