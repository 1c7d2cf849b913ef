"""An engine that answers from a table, on a Unix socket; it records what it is asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

CONTAINER = "ab" * 32


@dataclass(frozen=True)
class Request:
    """One request as it arrived; ``body`` is JSON where it was."""

    method: str
    path: str
    query: tuple[str, ...]
    headers: dict[str, str]
    body: object


Answer = tuple[int, object] | Callable[[socket.socket, Request], None]


@dataclass
class FakeEngine:
    """Answers by method and path (without the version); records what was asked. A list is taken one answer at a time."""

    path: str
    api_version: str = "1.50"
    experimental: bool | None = None  # None: an engine that does not say
    answers: dict[tuple[str, str], Answer | list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:  # a client may leave any time
            while request := read_request(file):
                self.requests.append(request)
                answer = self._answer(request)
                if callable(answer):
                    answer(connection, request)
                    return
                self._send(connection, request, *answer)

    def _answer(self, request: Request) -> Answer:
        path = "/" + request.path.split("/", 2)[2] if request.path.startswith("/v1.") else request.path
        held = self.answers.get((request.method, path))
        if isinstance(held, list):
            return held.pop(0)
        return held or (404, {"message": f"no answer for {request.method} {path}"})

    def _send(self, connection: socket.socket, request: Request, status: int, document: object) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        mode = "" if self.experimental is None else f"Docker-Experimental: {str(self.experimental).lower()}\r\n"
        head = (
            f"HTTP/1.1 {status} X\r\nApi-Version: {self.api_version}\r\nOstype: linux\r\n{mode}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + (b"" if request.method == "HEAD" else body))


def read_request(file: BinaryIO) -> Request | None:
    line = file.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers = {}
    while name := file.readline().decode().strip():
        key, _, value = name.partition(":")
        headers[key.lower()] = value.strip()
    body = b""
    if "content-length" in headers:
        body = file.read(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    path, _, query = target.partition("?")
    try:
        document = json.loads(body)
    except ValueError:
        document = body
    return Request(method, path, tuple(sorted(query.split("&"))), headers, document)


def hijacked(*frames: bytes, echo: bool = False) -> Callable[[socket.socket, Request], None]:
    """Answer an upgrade: send ``frames``, then with ``echo`` frame back all that comes until the client half-closes."""

    def answer(connection: socket.socket, _request: Request) -> None:
        head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        connection.sendall(head + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + b"".join(frames))
        while echo and (data := connection.recv(1 << 16)):
            connection.sendall(frame(1, data))
        connection.shutdown(socket.SHUT_WR)

    return answer


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload
