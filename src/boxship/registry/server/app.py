"""The HTTP application: which handler answers, what every answer carries, how errors look."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict

from boxship.registry.server import handlers_blobs, handlers_manifests, pages
from boxship.registry.server.access import read_basic
from boxship.registry.server.call import Call, answer_json
from boxship.registry.server.connections import receive
from boxship.registry.server.errors import RegistryError, storage_full
from boxship.registry.server.metrics import CONTENT_TYPE
from boxship.registry.server.names import parse_path
from boxship.registry.server.service import Service
from boxship.registry.server.tokens import parse_scopes

log = logging.getLogger("boxship.registry")
access_log = logging.getLogger("boxship.registry.access")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

HANDLERS: dict[str, Handler] = {
    "blob": handlers_blobs.blob,
    "uploads": handlers_blobs.uploads,
    "upload": handlers_blobs.upload,
    "manifest": handlers_manifests.manifest,
    "tags": handlers_manifests.tags,
    "referrers": handlers_manifests.referrers,
}
MAX_LINE = 16 * 1024  # bytes of a request line or header
TOKEN_FORM_LIMIT = 64 * 1024  # bytes


class Application:
    """Answers all requests of one registry."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._headers = {
            "Docker-Distribution-Api-Version": "registry/2.0",
            "X-Content-Type-Options": "nosniff",
            **{name: ", ".join(values) for name, values in service.config.http.headers.items()},
        }

    def make(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(middlewares=[self._around], client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, service = request.path, self._service
        if path.startswith("/v2/") or path == "/v2":
            if path in ("/v2/", "/v2"):
                return await self._base(request)
            if path == "/v2/_catalog":
                return await handlers_manifests.catalog(service, request)
            target = parse_path(path)
            if target is None:
                raise RegistryError("NAME_UNKNOWN", message="no such endpoint")
            request["handler"] = target.kind
            caller = await service.access.identify(request)
            return await HANDLERS[target.kind](Call(service, request, caller, target))
        match path:
            case "/token" if service.access.issuer is not None:
                return await self._token(request)
            case "/healthz" | "/debug/health":
                return await self._health()
            case "/metrics":
                text = await asyncio.to_thread(service.metrics.text)
                return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
        if service.config.pages.enabled and request.method in ("GET", "HEAD"):
            request["handler"] = "pages"
            return await pages.answer(service, request)
        return web.Response(status=404, text="404 page not found\n")

    async def _base(self, request: web.Request) -> web.StreamResponse:
        """``GET /v2/``: is this a registry, and who am I?"""
        caller = await self._service.access.identify(request)
        self._service.access.require_known(request, caller)
        return answer_json({})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        """``GET`` and ``POST /token``: Docker's token endpoint, for the users of htpasswd and for nobody in particular."""
        access = self._service.access
        assert access.issuer is not None
        user, password = "", ""
        fields: Mapping[str, str] = request.query
        scopes = request.query.getall("scope", [])
        if request.method == "POST":
            form = await _read_form(request, self._service.stall)
            fields, scopes = form, form.getall("scope", [])
            user, password = fields.get("username", ""), fields.get("password", "")
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, password = read_basic(value.strip())
        if (user or password or scheme) and not await access.sign_in(user, password):
            raise RegistryError("UNAUTHORIZED", headers={"WWW-Authenticate": f'Basic realm="{access.issuer.service}"'})
        if fields.get("service", access.issuer.service) != access.issuer.service:
            raise RegistryError("DENIED", message="this issuer knows no such service")
        token = access.issuer.issue(user, parse_scopes(scopes), access.grants)
        return answer_json(token, headers={"Cache-Control": "no-store"})

    async def _health(self) -> web.StreamResponse:
        """``GET /healthz``: can the storage be read?"""
        try:
            await asyncio.to_thread(self._service.storage.repositories.exists, "health")
        except (OSError, sqlite3.Error) as exc:
            return web.json_response({"storage": str(exc)}, status=503)
        return web.json_response({})

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Count the request, turn errors into answers, put the common headers on."""
        metrics, begun = self._service.metrics, time.monotonic()
        request["handler"] = "other"
        request["headers"] = self._headers
        metrics.active.inc()
        status = 499
        try:
            response = await self._guarded(request, handler)
            status = response.status
            return response
        finally:
            metrics.active.dec()
            metrics.requests.labels(request["handler"], request.method[:10], str(status)).inc()
            metrics.seconds.labels(request["handler"]).observe(time.monotonic() - begun)
            access_log.info(
                '%s "%s %s" %d %.3f',
                request.remote,
                request.method,
                request.rel_url.raw_path,
                status,
                time.monotonic() - begun,
            )

    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except RegistryError as exc:
            error = exc
        except web.HTTPException:
            raise
        except TimeoutError:
            error = RegistryError("BLOB_UPLOAD_INVALID", message="the client stopped sending", status=408)
        except (sqlite3.OperationalError, OSError) as exc:
            if isinstance(exc, ConnectionError):
                raise
            full = isinstance(exc, sqlite3.Error) and "full" in str(exc)
            if not full and getattr(exc, "errno", 0) not in (errno.ENOSPC, errno.EDQUOT):
                log.exception("%s %s", request.method, request.path)
                error = RegistryError("UNKNOWN")
            else:
                error = storage_full()
        except Exception:
            log.exception("%s %s", request.method, request.path)
            error = RegistryError("UNKNOWN")
        body = json.dumps(error.document()).encode()
        response = web.Response(status=error.status, body=body, headers=error.headers, content_type="application/json")
        if request.can_read_body and not request.content.at_eof():
            response.force_close()  # whatever the client is still sending is not read
        return response


async def put_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal of aiohttp: every answer that is about to be sent gets the common headers."""
    for name, value in request.get("headers", {}).items():
        response.headers.setdefault(name, value)


async def _read_form(request: web.Request, stall: float) -> MultiDict[str]:
    data = bytearray()
    async for piece in receive(request, stall):
        data += piece
        if len(data) > TOKEN_FORM_LIMIT:
            raise RegistryError("DENIED", status=413)
    return MultiDict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True))
