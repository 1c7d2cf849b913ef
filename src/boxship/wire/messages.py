"""Messages between boxshipd, launcher and shim: a length, a JSON object, and descriptors beside the first byte.

A message on the wire is four bytes big-endian length and that many bytes of a JSON object. Descriptors (SCM_RIGHTS) are
sent with the message's first byte. The kernel ends a read after a piece that carried descriptors, so the descriptors that
a read returns belong to the last message that begins in it; :class:`Decoder` relies on this. Every message carries
``"v"``, the version of the protocol.

Senders and receivers trust each other with their lives, not with their bugs: a length above :data:`LIMIT`, bytes that are
not a JSON object, and an end in the middle of a message raise :class:`MessageError`, and never anything else.
"""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

VERSION = 1
LIMIT = 16 << 20  # bytes of JSON in one message
NOT_RUNNING = "container is not running"  # refusal of what needs a live first process
MAX_FDS = 253  # SCM_MAX_FD in net/scm.h: more do not travel with one message

_HEADER = 4
_FDS_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class MessageError(ValueError):
    """The bytes received are not a message; the connection cannot be used any further."""


def encode(message: dict[str, Any]) -> bytes:
    """Return the bytes of ``message``; ``"v"`` is added. Raises MessageError when it is above the limit."""
    body = json.dumps({"v": VERSION, **message}, separators=(",", ":")).encode()
    if len(body) > LIMIT:
        raise MessageError(f"message of {len(body)} bytes is above the limit of {LIMIT}")
    return len(body).to_bytes(_HEADER, "big") + body


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message on a blocking socket; ``fds`` stay open here. Raises OSError."""
    data = encode(message)
    sent = send_some(sock, data, fds)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def send_some(sock: socket.socket, data: bytes | bytearray | memoryview, fds: Sequence[int] = ()) -> int:
    """Send the beginning of an encoded message together with its descriptors; return the number of bytes sent.

    For non-blocking senders: the descriptors are on their way once this returns, the rest goes out without them.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Wait for one message on a blocking socket; return it and its descriptors, which the caller owns from now on.

    Raises EOFError when the other side closed between two messages, MessageError when it sent something else.
    """
    fds: list[int] = []
    try:
        header = _receive_exactly(sock, _HEADER, fds)
        if not header:
            raise EOFError("the other side closed the connection")
        return _parse(_receive_exactly(sock, _body_length(header), fds)), fds
    except BaseException:
        close_all(fds)
        raise


def receive_some(sock: socket.socket, size: int = 65536) -> tuple[bytes, list[int]]:
    """Read what is there, for :meth:`Decoder.feed_with_fds`; no bytes mean the end. Raises OSError, also when none wait."""
    data, ancillary, _, _ = sock.recvmsg(size, _FDS_SPACE, socket.MSG_CMSG_CLOEXEC)
    return data, _fds_of(ancillary)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that came with a message nobody wants."""
    for fd in fds:
        os.close(fd)


class Decoder:
    """Turns the bytes of one connection into messages, whatever the pieces they come in."""

    __slots__ = ("_buffer", "_fds")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take the next bytes of a connection without descriptors; return the messages that are now complete."""
        return [message for message, _ in self.feed_with_fds(data)]

    def feed_with_fds(self, data: bytes, fds: Sequence[int] = ()) -> list[tuple[dict[str, Any], list[int]]]:
        """Take what one read returned; return complete messages with their descriptors, which the caller owns then.

        Raises MessageError; the descriptors of unfinished messages are closed and the decoder is of no further use.
        """
        buffer = self._buffer
        buffer += data
        done: list[tuple[dict[str, Any], list[int]]] = []
        at = 0
        try:
            while len(buffer) - at >= _HEADER:
                end = at + _HEADER + _body_length(buffer[at : at + _HEADER])
                if len(buffer) < end:
                    break
                done.append((_parse(buffer[at + _HEADER : end]), self._fds))
                self._fds = []
                at = end
        except MessageError:
            close_all(fds)
            for _, owned in done:
                close_all(owned)
            self.close()
            raise
        owner = self._fds if at < len(buffer) or not done else done[-1][1]
        owner.extend(fds)
        del buffer[:at]
        return done

    def finish(self) -> None:
        """Say that the connection ended; raises MessageError when that was in the middle of a message."""
        torn = len(self._buffer)
        self.close()
        if torn:
            raise MessageError(f"the connection ended {torn} bytes into a message")

    def close(self) -> None:
        """Close the descriptors of an unfinished message and forget its bytes."""
        close_all(self._fds)
        self._fds = []
        self._buffer.clear()


def _body_length(header: bytes | bytearray) -> int:
    length = int.from_bytes(header, "big")
    if length > LIMIT:
        raise MessageError(f"message of {length} bytes is above the limit of {LIMIT}")
    return length


def _parse(body: bytes | bytearray) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise MessageError(f"not a message: {exc}") from exc
    if not isinstance(message, dict):
        raise MessageError(f"not a message: JSON {type(message).__name__} in place of an object")
    return message


def _receive_exactly(sock: socket.socket, size: int, fds: list[int]) -> bytearray:
    data = bytearray()
    while len(data) < size:
        piece, more = receive_some(sock, size - len(data))
        fds += more
        if not piece:
            if data or size != _HEADER:
                raise MessageError(f"the connection ended {len(data)} bytes into a message")
            break
        data += piece
    return data


def _fds_of(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()
