"""A small HTTP/1.1 client over one connected stream: what a single Engine API call of the command line needs.

``http.client`` costs 25 ms to import, this module nothing: it uses no other module. Bodies are read by length, in chunks or to
the end of the stream; a ``101`` (or a ``200`` to an upgrade request, as old engines answer) gives the stream itself away.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    class Stream(Protocol):
        """The part of a connected socket that is used here."""

        def recv(self, size: int, /) -> bytes: ...
        def sendall(self, data: bytes, /) -> None: ...
        def close(self) -> None: ...
        def send(self, data: memoryview, /) -> int: ...
        def setblocking(self, flag: bool, /) -> None: ...
        def shutdown(self, how: int, /) -> None: ...
        def fileno(self) -> int: ...


RECEIVE_SIZE = 1 << 18
MAX_HEAD = 1 << 16  # bytes of status line and headers


class ProtocolError(Exception):
    """The other side does not speak HTTP/1.1, or stopped in the middle of an answer."""


class Response:
    """One answer: ``status``, ``headers`` (lower-case names) and a body that is read once, from front to back."""

    __slots__ = ("_left", "connection", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], left: int) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._left = left  # bytes of the body (or of this chunk) still to come; CHUNKED or UNTIL_CLOSE

    def read_some(self) -> bytes:
        """Return the next piece of the body, as it arrives; empty at its end."""
        if self._left == 0:
            return b""
        if self._left == CHUNKED:
            piece = self.connection.read_chunk()
        elif self._left == UNTIL_CLOSE:
            piece = self.connection.read_some(RECEIVE_SIZE)
        else:
            piece = self.connection.read_some(min(self._left, RECEIVE_SIZE))
            if not piece:
                raise ProtocolError("unexpected EOF")
            self._left -= len(piece)
            return piece
        if not piece:
            self._left = 0
        return piece

    def read(self) -> bytes:
        """Return the rest of the body."""
        return b"".join(iter(self.read_some, b""))

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now."""
        return self._left == 0 and self.headers.get("connection", "").lower() != "close"


CHUNKED = -1
UNTIL_CLOSE = -2


class Connection:
    """One connected stream, one request at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None = None
    ) -> None:
        """Send a request; a body that is not bytes goes out in chunks as it is produced.

        Raises OSError when the stream breaks.
        """
        head = [f"{method} {target} HTTP/1.1"]
        head.extend(f"{name}: {value}" for name, value in headers.items())
        if isinstance(body, bytes):
            head.append(f"Content-Length: {len(body)}")
        elif body is not None:
            head.append("Transfer-Encoding: chunked")
        elif method == "POST":
            head.append("Content-Length: 0")
        data = "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        if body is None or isinstance(body, bytes):
            self._stream.sendall(data + (body or b""))
            return
        self._stream.sendall(data)
        for piece in body:
            if piece:
                self._stream.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._stream.sendall(b"0\r\n\r\n")

    def receive(self, method: str, *, upgrade: bool = False) -> Response:
        """Return the answer's head; informational answers other than 101 are skipped.

        Raises ProtocolError, and OSError when the stream breaks.
        """
        while True:
            status, headers = self._read_head()
            if status == 101 or status >= 200:
                break
        if method == "HEAD" or status in (101, 204, 304) or (upgrade and status == 200):
            left = 0
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            left = CHUNKED
        elif "content-length" in headers:
            left = _length(headers["content-length"])
        else:
            left = UNTIL_CLOSE
        return Response(self, status, headers, left)

    def detach(self) -> tuple[Stream, bytes]:
        """Give away the stream and what was already read from it, after an upgrade."""
        leftover, self._buffer = self._buffer, b""
        return self._stream, leftover

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    def hung_up(self) -> bool:
        """Whether the other side has ended an idle stream, or sent what nobody asked for."""
        from select import POLLIN, poll

        poller = poll()
        poller.register(self._stream.fileno(), POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def read_some(self, size: int) -> bytes:
        """Return at most ``size`` bytes, empty at the end of the stream."""
        if self._buffer:
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            return piece
        return self._stream.recv(size)

    def read_chunk(self) -> bytes:
        """Return the next whole chunk, empty after the last one."""
        size_text = self._read_line().split(b";", 1)[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError as exc:
            raise ProtocolError(f"malformed chunk size {size_text!r}") from exc
        if size == 0:
            while self._read_line():
                pass
            return b""
        pieces = []
        while size > 0:
            piece = self.read_some(min(size, RECEIVE_SIZE))
            if not piece:
                raise ProtocolError("unexpected EOF")
            pieces.append(piece)
            size -= len(piece)
        self._read_line()
        return b"".join(pieces)

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._fill()
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        first, *rest = head.decode("utf-8", "surrogateescape").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise ProtocolError(f"malformed HTTP response {first[:60]!r}")
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers

    def _fill(self) -> None:
        if len(self._buffer) > MAX_HEAD:
            raise ProtocolError("too long a header")
        piece = self._stream.recv(RECEIVE_SIZE)
        if not piece:
            raise ProtocolError("EOF" if not self._buffer else "unexpected EOF")
        self._buffer += piece


def _length(text: str) -> int:
    if not text.isdecimal():
        raise ProtocolError(f"malformed Content-Length {text!r}")
    return int(text)
