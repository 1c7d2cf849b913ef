"""TLS in front of the HTTP server, with half-close.

asyncio's own TLS transport ends a connection in both directions as soon as one side says close_notify. A client of
``run -i`` does so when its input ends and still waits for output. Therefore TLS ends here: each connection is decrypted
onto one end of a socket pair whose other end the HTTP server serves like any plain connection. That end can also be passed
to another process, which a TLS connection cannot.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Protocol

from boxship.http.peer import Peer, address_text, common_name

CHUNK = 64 * 1024
HANDSHAKE_TIMEOUT = 10.0


class Serve(Protocol):
    async def __call__(self, plain: socket.socket, peer: Peer) -> None:
        """Begin to serve the plain connection of ``peer``; takes ownership of the socket."""


def server_context(*, certificate: str, key: str, authority: str | None, verify: bool) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer; with ``verify`` clients need a certificate signed by ``authority``.

    Raises OSError (ssl.SSLError too) when a file is missing or no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if verify:
        context.verify_mode = ssl.CERT_REQUIRED
        if authority is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            context.load_verify_locations(authority)
    return context


class TlsRelay:
    """Serves one accepted TCP connection: ``run`` returns when both directions have ended."""

    def __init__(self, tcp: socket.socket, context: ssl.SSLContext) -> None:
        tcp.setblocking(False)
        self._tcp = tcp
        self._from_client = ssl.MemoryBIO()
        self._to_client = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_client, self._to_client, server_side=True)
        self._sending = asyncio.Lock()

    async def run(self, serve: Serve) -> None:
        """Shake hands, hand the plain end to ``serve`` and relay. A client that fails the handshake is dropped."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await self._handshake()
        except (OSError, TimeoutError):
            self._tcp.close()
            return
        try:
            address = address_text(self._tcp.getpeername())
        except OSError:  # left already
            self._tcp.close()
            return
        peer = Peer(transport="tls", address=address, certificate=common_name(self._tls.getpeercert()))
        near, far = socket.socketpair()
        far.setblocking(False)
        try:
            await serve(near, peer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._inward(far))
                group.create_task(self._outward(far))
        finally:
            far.close()
            self._tcp.close()

    async def _handshake(self) -> None:
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._receive()
                    if self._from_client.eof:
                        raise ConnectionResetError("end of stream in the handshake") from None
        finally:
            await self._flush()  # the last message, or the alert that says why

    async def _inward(self, far: socket.socket) -> None:
        """Client to server."""
        loop = asyncio.get_running_loop()
        try:
            while data := await self._read():
                await loop.sock_sendall(far, data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            # Bad records or a vanished client: the server must not wait for more.
            _shutdown(far, socket.SHUT_RDWR)
            _shutdown(self._tcp, socket.SHUT_RDWR)

    async def _outward(self, far: socket.socket) -> None:
        """Server to client."""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(far, CHUNK):
                self._tls.write(data)
                await self._flush()
            try:
                self._tls.unwrap()  # writes close_notify; the client's own may come later or never
            except ssl.SSLError:
                pass
            await self._flush()
            self._tcp.shutdown(socket.SHUT_WR)
        except OSError:
            _shutdown(far, socket.SHUT_RDWR)
            _shutdown(self._tcp, socket.SHUT_RDWR)

    async def _read(self) -> bytes:
        """Return decrypted bytes, empty at the client's close_notify or end of stream."""
        while True:
            try:
                data = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                if self._from_client.eof:
                    return b""
                await self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                await self._flush()
                return data

    async def _receive(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._tcp, CHUNK)
        if data:
            self._from_client.write(data)
        else:
            self._from_client.write_eof()

    async def _flush(self) -> None:
        async with self._sending:  # both directions may have something for the client
            while data := self._to_client.read():
                await asyncio.get_running_loop().sock_sendall(self._tcp, data)


def _shutdown(end: socket.socket, how: int) -> None:
    try:
        end.shutdown(how)
    except OSError:
        pass
