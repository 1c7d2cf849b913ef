"""Frames of Docker's multiplexed attach and log streams (API: POST /containers/{id}/attach, "Stream format").

A frame is one byte stream type, three zero bytes, four bytes big-endian payload length, and the payload.
"""

from __future__ import annotations

import struct

STDIN = 0  # written to the output as it is; Docker never sends it
STDOUT = 1
STDERR = 2
SYSTEM_ERROR = 3

HEADER_LENGTH = 8
LIMIT = 16 << 20  # bytes of payload that the decoder accepts in one frame

_HEADER = struct.Struct(">BxxxL")


class FrameError(ValueError):
    """The bytes are not a frame; the stream cannot be read any further."""


def header(stream: int, length: int) -> bytes:
    """Return the eight bytes in front of ``length`` bytes of payload."""
    return _HEADER.pack(stream, length)


def encode(stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    return _HEADER.pack(stream, len(payload)) + payload


class Decoder:
    """Turns bytes into (stream, payload) pairs, whatever the pieces they come in.

    Payload is handed out as it arrives: a frame that comes in several pieces gives several pairs.
    """

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next bytes; return the payload in them. Raises FrameError."""
        pieces: list[tuple[int, bytes]] = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append((self._stream, piece))
                self._left -= len(piece)
                at += len(piece)
                continue
            wanted = HEADER_LENGTH - len(self._head)
            self._head += data[at : at + wanted]
            at += wanted
            if len(self._head) == HEADER_LENGTH:
                self._begin(self._head)
                self._head = b""
        return pieces

    def finish(self) -> None:
        """Say that the stream ended; raises FrameError when that was in the middle of a frame."""
        if self._left or self._head:
            raise FrameError("the stream ended in the middle of a frame")

    def _begin(self, head: bytes) -> None:
        self._stream, self._left = _HEADER.unpack(head)
        if self._stream > SYSTEM_ERROR or head[1:4] != b"\0\0\0":
            raise FrameError(f"unrecognized input header: {self._stream}")
        if self._left > LIMIT:
            raise FrameError(f"frame of {self._left} bytes is above the limit of {LIMIT}")
