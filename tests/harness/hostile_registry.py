"""A registry that means harm, as a program of its own: ``python -m harness.hostile_registry PORT SOCKET [CERTIFICATE KEY]``.

What it does is the first part of a repository's name: see ``_MANIFESTS`` and ``_BLOBS``. It serves PORT of all addresses, and on
the Unix socket SOCKET the same, so that a test outside of its network namespace can ask ``/log`` what it was asked, and
``/more`` to send the rest of the blobs that it holds back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from harness import hostile

LAYER = hostile.tar([hostile.entry("data", os.urandom(8 << 20))])
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [_digest(LAYER)]}}
).encode()


def _manifest(mode: str) -> bytes:
    layer = {"mediaType": _LAYER_TYPE, "digest": _digest(LAYER), "size": len(LAYER)}
    if mode == "size":
        layer["size"] = 1 << 50
    if mode == "digest":
        layer["digest"] = _digest(b"other")
    config = {"mediaType": _CONFIG_TYPE, "digest": _digest(CONFIG), "size": len(CONFIG)}
    document = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": config, "layers": [layer]}
    return json.dumps(document).encode()


class HostileRegistry:
    """Answers everything; remembers the paths that it was asked for."""

    def __init__(self) -> None:
        self._log: list[str] = []
        self._more = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.path == "/log":
            return web.json_response(self._log)
        if request.path == "/more":
            self._more.set()
            return web.Response()
        self._log.append(f"{request.method} {request.host}{request.path}")
        mode = request.path.removeprefix("/v2/").split("/")[0]
        if request.path.endswith("/tags/list") or request.path == "/v2/_catalog":
            return self._page(request)
        kind = _MANIFESTS if "/manifests/" in request.path else _BLOBS if "/blobs/" in request.path else {}
        if mode in kind:
            return await kind[mode](self, request)
        if "/manifests/" in request.path:
            return web.Response(body=_manifest(mode), content_type=_MANIFEST_TYPE)
        if "/blobs/" in request.path:
            return web.Response(body=CONFIG if request.path.endswith(_digest(CONFIG)) else LAYER)
        return web.json_response({})

    def _page(self, request: web.Request) -> web.Response:
        number = len(self._log)
        names = [f"name{number}-{each}" for each in range(500)]
        head = {"Link": f'<{request.path}?last={number}>; rel="next"'}
        return web.json_response({"repositories": names, "tags": names, "name": "x"}, headers=head)

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": request.path + "x"})

    async def unavailable(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "0"})

    async def heads(self, request: web.Request) -> web.StreamResponse:
        """Send a hundred megabytes of header lines."""
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            request.transport.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1600):
                request.transport.write(b"X-Filler: y\r\n" * 5000)
                await asyncio.sleep(0)
                if request.transport.is_closing():
                    break
        raise ConnectionResetError

    async def flood(self, request: web.Request) -> web.StreamResponse:
        """Send a document without end."""
        response = web.StreamResponse(headers={"Content-Type": _MANIFEST_TYPE})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 20))
        return response

    async def trickle(self, request: web.Request) -> web.StreamResponse:
        """Never come to the end of the head."""
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\n")
        while not request.transport.is_closing():
            request.transport.write(b"X: y\r\n")
            await asyncio.sleep(0.2)
        raise ConnectionResetError

    async def realm(self, request: web.Request) -> web.StreamResponse:
        challenge = 'Bearer realm="http://169.254.169.254/latest/token",service="x"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def downgrade(self, request: web.Request) -> web.StreamResponse:
        host = request.host.rpartition(":")[0]
        return web.Response(status=307, headers={"Location": f"http://{host}:80{request.path}"})

    async def limited(self, request: web.Request) -> web.StreamResponse:
        """Ask for time in the way that the repository's second part names; after an honest wait the answer is the right one."""
        how = request.path.split("/")[3]
        if how in ("seconds", "date") and self._log.count(f"{request.method} {request.host}{request.path}") > 1:
            return web.Response(body=_manifest(""), content_type=_MANIFEST_TYPE)
        soon = formatdate(time.time() + 2, usegmt=True)
        return web.Response(status=429, headers={"Retry-After": soon if how == "date" else _WAITS[how]})

    async def busy(self, request: web.Request) -> web.StreamResponse:
        """Ask for time each time that the layer is wanted."""
        if request.path.endswith(_digest(CONFIG)):
            return web.Response(body=CONFIG)
        return await self.limited(request)

    async def hold(self, request: web.Request) -> web.StreamResponse:
        """Send a megabyte of the layer, and the rest when it is asked for more."""
        if request.path.endswith(_digest(CONFIG)):
            return web.Response(body=CONFIG)
        response = web.StreamResponse(headers={"Content-Length": str(len(LAYER))})
        await response.prepare(request)
        await response.write(LAYER[: 1 << 20])
        await self._more.wait()
        await response.write(LAYER[1 << 20 :])
        return response


_WAITS = {
    "seconds": "1",
    "forever": "0",
    "huge": "9" * 300,
    "years": "Sun, 06 Nov 2094 08:49:37 GMT",
    "negative": "-1",
    "past": "Sun, 06 Nov 1994 08:49:37 GMT",
    "rubbish": "Thu, 99 (\\ Jan 99999 +99999999999",
}
Answer = Callable[[HostileRegistry, web.Request], Awaitable[web.StreamResponse]]
_MANIFESTS: dict[str, Answer] = {
    "redirect": HostileRegistry.redirect,
    "unavailable": HostileRegistry.unavailable,
    "heads": HostileRegistry.heads,
    "flood": HostileRegistry.flood,
    "trickle": HostileRegistry.trickle,
    "realm": HostileRegistry.realm,
    "downgrade": HostileRegistry.downgrade,
    "limited": HostileRegistry.limited,
}
_BLOBS: dict[str, Answer] = {"hold": HostileRegistry.hold, "busy": HostileRegistry.busy}


async def main(port: int, path: str, certificate: str = "", key: str = "") -> None:
    """Serve until killed; the socket is there when it can be asked."""
    app: Any = web.Application()
    app.router.add_route("*", "/{path:.*}", HostileRegistry().answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "0.0.0.0", port, ssl_context=context).start()
    await web.UnixSite(runner, path).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
