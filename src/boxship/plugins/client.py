"""One call to a plugin: ``POST /Interface.Method`` with JSON in and out, bounded in time and memory.

A plugin may hang, lie, or send without end. Each call has its own connection, so that what one did to it does not
concern the next.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import Any
from urllib.parse import quote

import msgspec

from boxship.plugins.discovery import TLS, Address
from boxship.plugins.errors import PluginRefused, PluginUnreachable

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
_MAX_ANSWER = 4 * 1024 * 1024  # bytes; a list of 10,000 volumes has about a third of it
_ATTEMPTS = 40  # where the plugin's queue of connections is full
_PAUSE = 0.05  # seconds between them
_SHOWN = 1000  # characters of a plugin's own text

Body = dict[str, Any]  # a JSON object


class NotConnected(PluginUnreachable):
    """The plugin can't be reached: nothing was done."""


async def call(address: Address, method: str, body: Body | None, seconds: float) -> Body:
    """Return the answer without its nulls.

    Raises NotConnected, PluginUnreachable (no answer in time, or nonsense), PluginRefused (a status other than 200).
    """
    import aiohttp  # costs 150 ms; only who has plugins needs it

    async def attempt() -> tuple[int, bytes]:
        connector: aiohttp.BaseConnector
        if address.socket:
            connector = aiohttp.UnixConnector(path=address.socket, force_close=True)
        else:
            context = await asyncio.to_thread(_context, address.tls) if address.tls is not None else True
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        headers = {"Accept": CONTENT_TYPE, "Content-Type": CONTENT_TYPE}
        async with (
            aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.post(url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, await _read(response.content, method)

    where = quote(address.socket, safe="") if address.socket else address.host
    secure = address.tls is not None
    failed = f'Post "{"https" if secure else "http"}://{where}/{method}"'
    url = f"{'https' if secure else 'http'}://{'plugin' if address.socket else address.host}/{method}"
    data = b"" if body is None else msgspec.json.encode(body)
    try:
        async with asyncio.timeout(seconds):
            for number in range(_ATTEMPTS):
                try:
                    status, text = await attempt()
                    break
                except aiohttp.ClientConnectionError as exc:
                    if not _was_unsent(exc) or number == _ATTEMPTS - 1:
                        raise
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise PluginUnreachable(f"{failed}: context deadline exceeded") from None
    except aiohttp.ClientConnectorError as exc:
        target = f"unix {address.socket}" if address.socket else f"tcp {address.host}"
        reason = (exc.strerror or str(exc.os_error)).lower()
        raise NotConnected(f"{failed}: dial {target}: connect: {reason}") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise PluginUnreachable(f"{failed}: {exc or type(exc).__name__}") from exc
    answer = _decode(text)
    if status != 200:
        inside = answer.get("Err") if answer is not None else None
        words = inside if isinstance(inside, str) and inside else text.decode(errors="replace").strip()
        raise PluginRefused(f"{method}: {words[:_SHOWN]}", status)
    if answer is None:
        raise PluginUnreachable(f"{method}: the plugin's answer is no JSON object")
    return answer


def _was_unsent(error: Exception) -> bool:
    """Tell whether a request did not leave: a Unix socket whose peer has no room for more is connected only in appearance.

    connect(2) gives EAGAIN then, which asyncio takes for a connection that is on its way; the first write fails.
    """
    import aiohttp

    causes = (error, error.__cause__)
    return any(isinstance(each, aiohttp.ClientConnectionResetError) for each in causes) or any(
        isinstance(each, OSError) and each.errno == errno.ENOTCONN for each in causes
    )


async def _read(stream: Any, method: str) -> bytes:
    """Return the whole body; ``stream`` is aiohttp's StreamReader."""
    pieces = bytearray()
    while piece := await stream.read(64 * 1024):
        pieces += piece
        if len(pieces) > _MAX_ANSWER:
            raise PluginUnreachable(f"{method}: the plugin's answer is longer than {_MAX_ANSWER} bytes")
    return bytes(pieces)


def _decode(text: bytes) -> Body | None:
    """Return the object that a body holds, {} for an empty one, None for anything else."""
    if not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
        return without_nulls(found) if isinstance(found, dict) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def without_nulls(value: Any) -> Any:
    """Return a document without its nulls, which stand for "not said" in what Go programs write."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value if item is not None]
    return value


def _context(tls: TLS) -> ssl.SSLContext:
    """Return how to speak TLS; raises OSError for files that are missing or no certificates."""
    context = ssl.create_default_context(cafile=tls.authority or None)
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None)
    return context
