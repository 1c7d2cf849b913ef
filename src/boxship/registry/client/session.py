"""HTTP towards registries for one operation: connections, TLS, proxies, redirects, and bounds on what a peer may cost.

A registry is a stranger. It may be slow, endless, or point elsewhere, so: every wait has a deadline, every document a size,
a body that only trickles is broken off, redirects are counted, and ``Authorization`` goes to the origin it was made for and
nowhere else. Addresses that only this machine or its cloud can reach are not followed to from a registry outside.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp

from boxship import __version__
from boxship.registry.client import certificates
from boxship.registry.client.errors import Misbehaved, NotConnected, Unreachable
from boxship.registry.client.hosts import Endpoint, RegistrySettings
from boxship.registry.client.proxies import proxy_for

DOCUMENT_LIMIT = 4 * 1024 * 1024  # bytes of a manifest, a page of tags, a token
_ERROR_LIMIT = 64 * 1024
_REDIRECTS = 8
_REDIRECTING = (301, 302, 303, 307, 308)
_BUFFER = 512 * 1024


class Timeouts(NamedTuple):
    """How long a peer may take, in seconds."""

    connect: float = 15
    answer: float = 60  # until the head of the answer
    document: float = 60  # the body of a small answer, whole
    stall: float = 30  # a long body must bring ``slowest`` bytes in this time
    slowest: int = 8192
    pause: float = 0.5  # before the second attempt; doubles
    longest_pause: float = 15
    longest_wanted: float = 60  # that a registry may ask for (``Retry-After``), until it brings something


class Answer:
    """The head of an answer, and its body to be read."""

    def __init__(self, response: aiohttp.ClientResponse, timeouts: Timeouts) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)
        self._response = response
        self._timeouts = timeouts
        self._waited = 0.0
        self._brought = 0

    @property
    def size(self) -> int | None:
        """The announced length of the body in bytes."""
        return self._response.content_length

    def challenges(self) -> list[str]:
        """Return the ``WWW-Authenticate`` headers."""
        return self._response.headers.getall("WWW-Authenticate", [])

    async def document(self, limit: int = DOCUMENT_LIMIT) -> bytes:
        """Return the body whole. Raises Misbehaved above ``limit`` bytes, Unreachable when it takes too long."""
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self._timeouts.document):
                async for piece in self._response.content.iter_any():
                    size += len(piece)
                    if size > limit:
                        raise Misbehaved(f"{self._shown()}: the answer is larger than {limit} bytes")
                    pieces.append(piece)
        except (TimeoutError, aiohttp.ClientError) as exc:
            raise Unreachable(f"{self._shown()}: {_reason(exc)}") from exc
        return b"".join(pieces)

    async def error_text(self) -> bytes:
        """Return the start of the body, whatever happens to the rest."""
        try:
            async with asyncio.timeout(self._timeouts.document):
                return await self._response.content.read(_ERROR_LIMIT)
        except (TimeoutError, aiohttp.ClientError):
            return b""

    async def read(self) -> bytes:
        """Return the next piece of a long body, none at its end. Raises Unreachable when it breaks off or trickles."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._timeouts.stall):
                piece = await self._response.content.readany()
        except (TimeoutError, aiohttp.ClientError) as exc:
            raise Unreachable(f"{self._shown()}: {_reason(exc)}") from exc
        self._waited += loop.time() - started
        self._brought += len(piece)
        if self._waited >= self._timeouts.stall:
            if self._brought < self._timeouts.slowest:
                raise Unreachable(f"{self._shown()}: only {self._brought} bytes came in {self._waited:.0f} seconds")
            self._waited, self._brought = 0.0, 0
        return piece

    def _shown(self) -> str:
        return f'{self._response.method.capitalize()} "{shown(self.url)}"'


class Session:
    """The connections of one operation; use it in an ``async with``, and again for a task that outlives the first."""

    def __init__(self, settings: RegistrySettings, timeouts: Timeouts | None = None) -> None:
        self.settings = settings
        self.timeouts = timeouts or Timeouts()
        self._contexts: dict[Endpoint, ssl.SSLContext] = {}
        self._http: aiohttp.ClientSession | None = None
        self._users = 0

    async def __aenter__(self) -> Session:
        self._users += 1
        if self._http is not None:
            return self
        timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=self.timeouts.connect, sock_read=None)
        self._http = aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_BUFFER,
            headers={"User-Agent": f"boxship/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._http is not None
        self._users -= 1
        if not self._users:
            await self._http.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[Answer]:
        """Give the answer to a request; redirects of GET and HEAD are followed.

        ``authorization`` is sent to ``url`` and never beyond its origin. Raises Unreachable, Misbehaved, SystemFailure.
        """
        assert self._http is not None
        for _ in range(_REDIRECTS + 1):
            self.check(url, endpoint)
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            try:
                async with asyncio.timeout(self.timeouts.answer if not isinstance(body, AsyncIterator) else None):
                    response = await self._http.request(
                        method,
                        url,
                        headers=sent,
                        data=body,
                        allow_redirects=False,
                        ssl=await self._context(url, endpoint),
                        proxy=proxy_for(url, self.settings, os.environ),
                    )
            except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
                raise _failure(method, url, exc) from exc
            try:
                target = response.headers.get("Location", "")
                if response.status not in _REDIRECTING or method not in ("GET", "HEAD") or not target:
                    yield Answer(response, self.timeouts)
                    return
            finally:
                response.close()  # a connection whose answer was read to its end has gone back to the pool by itself
            following = urljoin(url, target)
            if origin(following) != origin(url):
                authorization = ""
            url = following
        raise Misbehaved(f'{method.capitalize()} "{shown(url)}": stopped after {_REDIRECTS} redirects')

    def check(self, url: str, endpoint: Endpoint) -> None:
        """Refuse what a registry must not make us ask. Raises Misbehaved."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misbehaved(f'unsupported protocol scheme "{parts.scheme}" in a registry\'s answer')
        if origin(url) == origin(endpoint.url):
            return
        if parts.scheme == "http" and endpoint.url.startswith("https") and endpoint.verify:
            raise Misbehaved(f"{endpoint.host} points to {shown(url)}, which is not encrypted")
        if _is_private(parts.hostname) and not _is_private(urlsplit(endpoint.url).hostname or ""):
            raise Misbehaved(f"{endpoint.host} points to {shown(url)}, an address of this machine")

    async def _context(self, url: str, endpoint: Endpoint) -> ssl.SSLContext | bool:
        if not url.startswith("https"):
            return True
        # Another host has its own certificates, and whether this endpoint's are verified says nothing of it.
        place = endpoint
        if origin(url) != origin(endpoint.url):
            parts = urlsplit(url)
            place = Endpoint(f"https://{parts.netloc}", "", verify=endpoint.verify)
        place = place._replace(path="", credentials=None)
        if place not in self._contexts:
            self._contexts[place] = await asyncio.to_thread(certificates.context, place, self.settings.certificates)
        return self._contexts[place]


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def shown(url: str) -> str:
    """Return a URL for an error text: without its query and user, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:500]


def _is_private(host: str) -> bool:
    """Return whether the literal address is one that only this machine or its cloud answers on."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _failure(method: str, url: str, exc: Exception) -> Unreachable | Misbehaved:
    if isinstance(exc, aiohttp.ClientConnectorError):  # where Docker finds it out
        method, url = "GET", f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/v2/"
    text = f'{method.capitalize()} "{shown(url)}": {_reason(exc)}'
    permanent = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ValueError)
    if isinstance(exc, permanent) or (isinstance(exc, aiohttp.ClientResponseError) and exc.status == 400):
        return Misbehaved(text)  # a certificate, a head without end: no second attempt helps
    if isinstance(exc, aiohttp.ClientConnectorError):
        return NotConnected(text)
    return Unreachable(text)


_CERTIFICATE = {10: "certificate has expired or is not yet valid", 9: "certificate has expired or is not yet valid"}
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)  # X509_V_ERR_*: self-signed or no issuer found


def _reason(exc: BaseException) -> str:
    """Return why a connection failed, as Go's net/http words it."""
    if isinstance(exc, TimeoutError):
        return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        error = exc.certificate_error
        code = getattr(error, "verify_code", 0)
        if code in _UNKNOWN_AUTHORITY:
            return "x509: certificate signed by unknown authority"
        return f"x509: {_CERTIFICATE.get(code) or getattr(error, 'verify_message', '') or error}"
    if isinstance(exc, aiohttp.ClientConnectorSSLError):
        if "WRONG_VERSION_NUMBER" in str(exc) or "RECORD_LAYER_FAILURE" in str(exc):
            return "http: server gave HTTP response to HTTPS client"
        return f"remote error: tls: {exc.os_error}"
    if isinstance(exc, aiohttp.ClientConnectorError):
        error = exc.os_error
        if isinstance(error, socket.gaierror) or isinstance(exc, aiohttp.ClientConnectorDNSError):
            return f"dial tcp: lookup {exc.host}: no such host"
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        host = "127.0.0.1" if exc.host == "localhost" else exc.host
        return f"dial tcp {host}:{exc.port}: connect: {reason}"
    if isinstance(exc, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "unexpected EOF"
    if isinstance(exc, aiohttp.ClientOSError) and exc.errno:
        return os.strerror(exc.errno).lower()
    return str(exc)[:300] or type(exc).__name__
