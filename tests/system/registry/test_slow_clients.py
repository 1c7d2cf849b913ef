"""Clients that are slow on purpose: heads and bodies that never end, answers that nobody reads, and far too many of them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from harness.registry_server import RegistryServer
from harness.waiting import until

pytestmark = pytest.mark.system

SIZE = 32 << 20  # bytes of a blob that fits into no socket's buffers
Connect = Callable[[], socket.socket]


@pytest.fixture
def impatient() -> Iterator[RegistryServer]:
    server = RegistryServer({"http": {"clients": {"connections": 20, "head": "1s", "stall": "1s"}}})
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def connect(impatient: RegistryServer) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=60))

        yield connect


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /v2/ HTTP/1.1\r\nX: ", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_without_end_ends_the_connection(connect: Connect, sent: bytes) -> None:
    client = connect()
    client.sendall(sent)
    rest_of(client)


def test_a_head_that_trickles_ends_the_connection(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /v2/ HTTP/1.1\r\n")

    def trickle() -> bool:
        try:
            client.sendall(b"X-Header: y\r\n")
        except OSError:
            return True
        client.settimeout(0.05)
        try:
            return client.recv(65536) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    until(trickle)


@pytest.mark.parametrize("path", ["/v2/a/blobs/uploads/?digest=sha256:" + "0" * 64, "/v2/a/manifests/x"])
def test_a_body_that_does_not_come_is_answered_408(connect: Connect, path: str) -> None:
    client = connect()
    method = "PUT" if "manifests" in path else "POST"
    type = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{type}Content-Length: 1000\r\n\r\n".encode() + b"{")
    assert b" 408 " in client.recv(65536).split(b"\r\n")[0]
    rest_of(client)


def test_a_body_that_trickles_is_answered_408(impatient: RegistryServer, connect: Connect) -> None:
    begun = impatient.client().call("POST", "/v2/a/blobs/uploads/")
    client = connect()
    client.sendall(f"PATCH {begun.headers['Location']} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode())
    client.settimeout(0.05)
    answers: list[bytes] = []

    def trickle() -> bool:
        with contextlib.suppress(TimeoutError):
            client.sendall(b"x")
            answers.append(client.recv(65536))
        return bool(answers)

    until(trickle)
    assert b" 408 " in answers[0].split(b"\r\n")[0]
    # What did come is kept, and the upload can go on at another pace.
    assert impatient.client().call("GET", begun.headers["Location"]).status == 204


def test_an_answer_that_nobody_reads_ends_the_connection(impatient: RegistryServer, connect: Connect) -> None:
    client = connect()
    begin_download(impatient, client)
    until(lambda: not any("/blobs/" in target for target in descriptors(impatient)))
    assert rest_of(client) < SIZE


def test_too_many_connections_make_room_for_new_ones_and_leave_downloads_alone() -> None:
    server = RegistryServer({"http": {"clients": {"connections": 20}}})
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        server.start()

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))

        client = connect()
        begun = begin_download(server, client)
        for each in [connect() for _ in range(60)]:
            with contextlib.suppress(OSError):
                each.sendall(b"GET /v2/ HTTP/1.1\r\n")
        assert server.client().call("GET", "/v2/").status == 200
        until(lambda: sum("socket:" in target for target in descriptors(server)) < 30)
        assert begun + rest_of(client) > SIZE


def begin_download(server: RegistryServer, client: socket.socket) -> int:
    """Ask for a large blob and read the head of the answer; return how much came."""
    blob = server.client().push_blob("a", bytes(SIZE))
    path = f"/v2/a/blobs/{blob['digest']}"
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return len(client.recv(1000))


def descriptors(server: RegistryServer) -> list[str]:
    """Return what the registry has open."""
    assert server.process is not None
    found = []
    for entry in os.scandir(f"/proc/{server.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry.path))
    return found


def rest_of(client: socket.socket) -> int:
    """Return how many bytes come until the connection ends, one way or the other."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 20):
            count += len(data)
    return count
