"""Netlink: requests and answers as bytes, and a socket that sends several requests at once.

A request is a :class:`Request`; the socket gives it a sequence number, sends a batch with one system call and reads one
acknowledgement for each, so that an error names the request it belongs to. A netlink socket acts in the network namespace
in which it was opened, wherever its descriptor is used later; see netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETLINK_ROUTE = 0  # linux/netlink.h
NETLINK_NETFILTER = 12

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_ERRNO = struct.Struct("=i")
_UINT32 = struct.Struct("=I")
_RECEIVE_BYTES = 1 << 15  # the largest part in which the kernel sends a dump


class Request:
    """One request: its message ``type``, ``flags`` (NLM_F_REQUEST is added), payload, and what to call it in an error."""

    __slots__ = ("flags", "name", "payload", "type")

    def __init__(self, name: str, type: int, flags: int, payload: bytes) -> None:
        self.name = name
        self.type = type
        self.flags = flags
        self.payload = payload

    def encode(self, sequence: int) -> bytes:
        """Return the message as it goes over the socket; payloads of all families here are multiples of four bytes."""
        return (
            HEADER.pack(HEADER.size + len(self.payload), self.type, self.flags | NLM_F_REQUEST, sequence, 0)
            + self.payload
        )


class Message:
    """One received message; ``payload`` is what follows the header."""

    __slots__ = ("flags", "payload", "port_id", "sequence", "type")

    def __init__(self, type: int, flags: int, sequence: int, port_id: int, payload: bytes) -> None:
        self.type = type
        self.flags = flags
        self.sequence = sequence
        self.port_id = port_id
        self.payload = payload

    @property
    def errno(self) -> int:
        """Error number of an NLMSG_ERROR message, 0 for an acknowledgement."""
        number: int = -_ERRNO.unpack_from(self.payload)[0]
        return number


def attribute(type: int, value: bytes) -> bytes:
    """Return one attribute with its padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, type) + value + bytes(-length & 3)


def nested(type: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(type | NLA_F_NESTED, b"".join(attributes))


def text(type: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated string."""
    return attribute(type, os.fsencode(value) + b"\0")


def uint32(type: int, value: int) -> bytes:
    """Return an attribute with an unsigned number of 32 bits in host order."""
    return attribute(type, _UINT32.pack(value))


def read_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes of ``data`` from ``offset`` on by type, the flag bits of the type removed.

    Raises ValueError when a length leaves the data.
    """
    found: dict[int, bytes] = {}
    end = len(data)
    while end - offset >= _ATTRIBUTE.size:
        length, type = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at {offset} in {end}")
        found[type & NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def read_messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram; raises ValueError when a length leaves the data."""
    offset, end = 0, len(data)
    while end - offset >= HEADER.size:
        length, type, flags, sequence, port_id = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > end:
            raise ValueError(f"netlink message of {length} bytes at {offset} in {end}")
        yield Message(type, flags, sequence, port_id, data[offset + HEADER.size : offset + length])
        offset += (length + 3) & ~3


class Socket:
    """A blocking netlink socket; owns its descriptor and closes it at the end of a ``with`` block.

    Not for several threads at once: answers belong to the request that was sent last.
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0

    @classmethod
    def open(cls, family: int = NETLINK_ROUTE, groups: int = 0) -> Socket:
        """Open a socket in the caller's network namespace; ``groups`` is the mask of multicast groups to hear."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        try:
            sock.bind((0, groups))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def from_fd(cls, fd: int, family: int = NETLINK_ROUTE) -> Socket:
        """Take over a netlink socket that was opened elsewhere, in another namespace for example."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family, fileno=fd)
        sock.setblocking(True)
        return cls(sock)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def execute(self, requests: Sequence[Request]) -> None:
        """Send ``requests`` with one call and wait for the acknowledgement of each.

        The kernel carries them out in order and does not stop at a failure. Raises OSError with the errno and the name
        of the first that failed; the others have been tried all the same.
        """
        if not requests:
            return
        names: dict[int, str] = {}
        batch = bytearray()
        for request in requests:
            self._sequence += 1
            names[self._sequence] = request.name
            batch += Request(request.name, request.type, request.flags | NLM_F_ACK, request.payload).encode(
                self._sequence
            )
        self._socket.send(batch)
        failed: OSError | None = None
        while names:
            for message in read_messages(self._socket.recv(_RECEIVE_BYTES)):
                name = names.get(message.sequence)
                if name is None or message.type != NLMSG_ERROR:
                    continue
                del names[message.sequence]
                if message.errno and failed is None:
                    failed = OSError(message.errno, f"{name}: {os.strerror(message.errno)}")
        if failed is not None:
            raise failed

    def query(self, request: Request) -> Message:
        """Return the one message that answers ``request``; raises OSError with the kernel's errno and the request's name."""
        self._sequence += 1
        self._socket.send(request.encode(self._sequence))
        while True:
            for message in read_messages(self._socket.recv(_RECEIVE_BYTES)):
                if message.sequence != self._sequence:
                    continue
                if message.type == NLMSG_ERROR:
                    raise OSError(message.errno, f"{request.name}: {os.strerror(message.errno)}")
                return message

    def dump(self, request: Request) -> list[Message]:
        """Return all messages that answer a dump request; a dump that was disturbed by a change is asked again.

        Raises OSError with the kernel's errno and the request's name.
        """
        while True:
            messages, whole = self._dump_once(request)
            if whole:
                return messages

    def _dump_once(self, request: Request) -> tuple[list[Message], bool]:
        self._sequence += 1
        self._socket.send(
            Request(request.name, request.type, request.flags | NLM_F_DUMP, request.payload).encode(self._sequence)
        )
        found: list[Message] = []
        whole = True
        while True:
            for message in read_messages(self._socket.recv(_RECEIVE_BYTES)):
                if message.sequence != self._sequence:
                    continue
                if message.type == NLMSG_ERROR and message.errno:
                    raise OSError(message.errno, f"{request.name}: {os.strerror(message.errno)}")
                whole = whole and not message.flags & NLM_F_DUMP_INTR
                if message.type in (NLMSG_DONE, NLMSG_ERROR):
                    return found, whole
                found.append(message)

    def receive_events(self) -> list[Message]:
        """Return the multicast messages that have arrived, without waiting.

        Raises OSError with ENOBUFS when the kernel had to drop some.
        """
        found: list[Message] = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found += read_messages(data)
