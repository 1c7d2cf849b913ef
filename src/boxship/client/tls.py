"""TLS over a connected socket; a module of its own because ``ssl`` takes 15 ms to import."""

from __future__ import annotations

import os
import socket
import ssl

from boxship.client.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from boxship.client.host import TlsFiles


class TlsStream:
    """A TLS connection that behaves as a socket does, also when it does not block.

    Raises HostError from the constructor for files that cannot be used, OSError when the handshake fails.
    """

    def __init__(self, stream: _socket.socket, name: str, files: TlsFiles) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if files.verify:
                context.load_verify_locations(files.ca)
            else:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if os.path.exists(files.cert) or files.verify:
                context.load_cert_chain(files.cert, files.key)
        except OSError as exc:
            raise HostError(f"unable to use TLS files ({files.ca}, {files.cert}, {files.key}): {exc}") from exc
        whole = socket.socket(stream.family, stream.type, stream.proto, stream.detach())
        self._tls = context.wrap_socket(whole, server_hostname=name)

    def recv(self, size: int, /) -> bytes:
        """Return what has arrived, all that was decrypted: what stays inside would wake no poll."""
        try:
            data = self._tls.recv(size)
            while self._tls.pending():
                data += self._tls.recv(self._tls.pending())
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc
        except ssl.SSLEOFError:
            return b""
        return data

    def send(self, data: memoryview, /) -> int:
        """Send a part of ``data`` and return how much."""
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc

    def sendall(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        self._tls.sendall(data)

    def setblocking(self, flag: bool, /) -> None:
        """Say whether calls wait."""
        self._tls.setblocking(flag)

    def shutdown(self, how: int, /) -> None:
        """Close one direction of the connection below: SSLSocket's own method would end decryption, too."""
        socket.socket.shutdown(self._tls, how)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._tls.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._tls.close()
