"""The small HTTP client over a scripted stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.http.client import MAX_HEAD, Connection, ProtocolError


class ScriptedStream:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def send(self, data: memoryview) -> int:
        self.sent += bytes(data)
        return len(data)

    def setblocking(self, flag: bool) -> None: ...
    def close(self) -> None: ...
    def shutdown(self, how: int) -> None: ...
    def fileno(self) -> int:
        return -1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"


@given(cuts=st.sets(st.integers(1, len(CHUNKED) - 1)))
def test_a_chunked_body_may_come_in_any_pieces(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(CHUNKED)]
    stream = ScriptedStream(*(CHUNKED[a:b] for a, b in pairwise(edges)))
    response = Connection(stream).receive("GET")
    assert response.read() == b"hello world"
    assert response.reusable


def test_a_body_is_read_by_its_length_and_the_rest_left_for_the_next_answer() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    connection = Connection(ScriptedStream(one + one))
    assert [connection.receive("GET").read() for _ in range(2)] == [b"ok", b"ok"]


def test_a_body_without_length_ends_with_the_stream() -> None:
    response = Connection(ScriptedStream(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def")).receive("GET")
    assert response.read() == b"abcdef"


@pytest.mark.parametrize("method_and_status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_some_answers_have_no_body_whatever_they_say(method_and_status) -> None:
    method, status = method_and_status
    head = f"HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n".encode()
    assert Connection(ScriptedStream(head)).receive(method).read() == b""


def test_an_upgrade_gives_away_the_stream_and_what_came_with_the_answer() -> None:
    stream = ScriptedStream(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nfirst")
    connection = Connection(stream)
    assert connection.receive("POST", upgrade=True).status == 101
    assert connection.detach() == (stream, b"first")


def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    stream = ScriptedStream()
    Connection(stream).send("POST", "/x", {"Host": "h"}, iter([b"ab", b"", b"cde"]))
    assert stream.sent == (
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_HEAD + (1 << 18)),
    ],
)
def test_what_is_not_http_or_stops_in_the_middle_is_an_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        Connection(ScriptedStream(answer)).receive("GET").read()
