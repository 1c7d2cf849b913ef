r"""DNS messages (RFC 1035, EDNS: RFC 6891): read queries and answers, write answers. No I/O.

Messages come from containers and from the network: every reader raises :class:`FormatError` for bytes that are no message,
and nothing else. A compressed name may only point backwards, so no loop is possible, is at most 255 bytes long, and points
at most 32 times, so that a message made to be slow to read is not.

A name is text here: labels in lower case, joined by dots, "" for the root. In a label that has a dot, a backslash or bytes
outside printable ASCII these are written as ``\ddd``, so such a name never equals one of a container.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
SOA, AXFR, IXFR = 6, 252, 251
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS = 16

PLAIN_LIMIT = 512  # bytes of an answer over UDP to who says nothing else
LIMIT = 65535

_HEADER = struct.Struct("!HHHHHH")
_TAIL = struct.Struct("!HH")  # type and class after a name
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of data
_QR, _OPCODE, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_DO = 0x8000  # in the lower half of an OPT record's TTL
_EDNS_SIZE = 1232  # what we say that we take, as is usual
_NAME_LIMIT = 255
_LABEL_LIMIT = 63
_POINTER_LIMIT = 32
_OPT_LENGTH = 11


class FormatError(ValueError):
    """The bytes are no DNS message that we can work with."""


class Query:
    """One question of a client.

    ``question`` are its bytes on the wire (name, type, class); ``limit`` is how long an answer over UDP may be.
    """

    __slots__ = ("class_", "data", "dnssec", "edns", "edns_version", "flags", "id", "limit", "name", "question", "type")

    def __init__(self, data: bytes) -> None:
        """Read a query with exactly one question; raises FormatError."""
        self.data = data
        self.id, self.flags, questions, answers, authorities, additional = _header(data)
        if self.flags & _QR or questions != 1 or answers:
            raise FormatError("not a query with one question")
        self.name, end = read_name(data, len(_EMPTY))
        self.type, self.class_ = _unpack(_TAIL, data, end)
        end += _TAIL.size
        self.question = data[len(_EMPTY) : end]
        self.edns = False
        self.edns_version = 0
        self.dnssec = False
        self.limit = PLAIN_LIMIT
        for _ in range(authorities + additional):
            owner, end = read_name(data, end)
            kind, size, ttl, length = _unpack(_RECORD, data, end)
            end += _RECORD.size + length
            if end > len(data):
                raise FormatError("a record ends beyond the message")
            if kind == OPT:
                if self.edns or owner:
                    raise FormatError("more than one OPT record, or one with a name")
                self.edns = True
                self.edns_version = ttl >> 16 & 0xFF
                self.dnssec = bool(ttl & _DO)
                self.limit = max(PLAIN_LIMIT, size)

    @property
    def opcode(self) -> int:
        return (self.flags & _OPCODE) >> 11

    @property
    def cache_key(self) -> bytes:
        """What two queries share that get the same answer from a server outside."""
        return self.question.lower() + bytes(
            (self.edns, self.dnssec, bool(self.flags & _RD), bool(self.flags & _CD), bool(self.flags & _AD))
        )


class Record:
    """One resource record of an answer of ours; it belongs to the question's name."""

    __slots__ = ("data", "ttl", "type")

    def __init__(self, type: int, data: bytes, ttl: int) -> None:
        self.type = type
        self.data = data
        self.ttl = ttl


def answer(query: Query, code: int, records: Sequence[Record] = (), *, limit: int = LIMIT) -> bytes:
    """Return our answer of at most ``limit`` bytes; records that find no place are left out, and it says so (TC).

    What fits is sent all the same: there are resolvers that never ask again over TCP.
    """
    body = bytearray(query.question)
    room = limit - len(_EMPTY) - len(body) - (_OPT_LENGTH if query.edns else 0)
    count = 0
    for record in records:
        encoded = b"\xc0\x0c" + _RECORD.pack(record.type, IN, record.ttl, len(record.data)) + record.data
        if len(encoded) > room:
            break
        room -= len(encoded)
        body += encoded
        count += 1
    flags = _QR | _RA | query.flags & (_OPCODE | _RD | _CD) | code & 0xF
    flags |= _TC if count < len(records) else 0
    if query.edns:
        body += b"\0" + _RECORD.pack(OPT, _EDNS_SIZE, (code >> 4) << 24 | (_DO if query.dnssec else 0), 0)
    return _HEADER.pack(query.id, flags, 1, count, 0, int(query.edns)) + body


def refusal(data: bytes, code: int) -> bytes | None:
    """Return the answer to a message that is no good query, None if it is best left unanswered.

    Whoever answers answers may end in a quarrel with another server; less than a header has no id to answer to.
    """
    if len(data) < len(_EMPTY):
        return None
    id, flags = struct.unpack_from("!HH", data)
    if flags & _QR:
        return None
    return _HEADER.pack(id, _QR | flags & (_OPCODE | _RD) | code, 0, 0, 0, 0)


def with_id(message: bytes, id: int) -> bytes:
    """Return ``message`` under another id."""
    return id.to_bytes(2, "big") + message[2:]


def for_client(query: Query, reply: bytes) -> bytes:
    """Return a server's reply with the id of the client's query and its way of writing the name."""
    end = len(_EMPTY) + len(query.question)
    return query.data[:2] + reply[2 : len(_EMPTY)] + query.question + reply[end:]


def is_reply(query: Query, id: int, message: bytes) -> bool:
    """Tell whether a message answers ``query`` as it was sent under ``id``: same id, operation and question."""
    if len(message) < len(_EMPTY) + len(query.question):
        return False
    got, flags, questions = struct.unpack_from("!HHH", message)
    return (
        got == id
        and bool(flags & _QR)
        and flags & _OPCODE == query.flags & _OPCODE
        and questions == 1
        and message[len(_EMPTY) : len(_EMPTY) + len(query.question)].lower() == query.question.lower()
    )


def code_of(message: bytes) -> int:
    """Return the response code in a message's header."""
    return message[3] & 0xF


def is_truncated(message: bytes) -> bool:
    """Tell whether the server had more to say."""
    return bool(message[2] & (_TC >> 8))


class Lifetime:
    """How long a reply holds, and where in it its records say so."""

    __slots__ = ("offsets", "seconds")

    def __init__(self, seconds: int, offsets: tuple[int, ...]) -> None:
        self.seconds = seconds
        self.offsets = offsets


def lifetime(message: bytes) -> Lifetime:
    """Walk through a whole reply and return how long it may be kept: its shortest TTL, 0 for not at all.

    What a server says about a name that does not exist, or has nothing of that type, holds as long as the zone's SOA record
    allows (RFC 2308). Raises FormatError when any part of it is broken.
    """
    _, flags, questions, answers, authorities, additional = _header(message)
    at = len(_EMPTY)
    for _ in range(questions):
        _, at = read_name(message, at)
        at += _TAIL.size
    shortest: int | None = None
    negative: int | None = None
    offsets = []
    for number in range(answers + authorities + additional):
        _, at = read_name(message, at)
        kind, _, ttl, length = _unpack(_RECORD, message, at)
        data = at + _RECORD.size
        if data + length > len(message):
            raise FormatError("a record ends beyond the message")
        if kind != OPT:
            ttl = 0 if ttl >> 31 else ttl  # RFC 2181, 8
            offsets.append(at + 4)
            shortest = ttl if shortest is None else min(shortest, ttl)
            if kind == SOA and answers <= number < answers + authorities:
                if length < 20:
                    raise FormatError("a SOA record is too short")
                negative = min(ttl, int.from_bytes(message[data + length - 4 : data + length], "big"))
        at = data + length
    code = flags & 0xF
    if code == NXDOMAIN or (code == NOERROR and not answers):
        return Lifetime(negative or 0, tuple(offsets))
    return Lifetime((shortest or 0) if code == NOERROR else 0, tuple(offsets))


def aged(message: bytes, offsets: Sequence[int], seconds: int) -> bytes:
    """Return a kept reply with all TTLs ``seconds`` shorter."""
    aged = bytearray(message)
    for offset in offsets:
        left = max(0, int.from_bytes(aged[offset : offset + 4], "big") - seconds)
        aged[offset : offset + 4] = left.to_bytes(4, "big")
    return bytes(aged)


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at an offset and the offset behind it; raises FormatError."""
    labels: list[str] = []
    end = -1
    length = 1
    pointers = 0
    start = at
    try:
        while size := data[at]:
            if size <= _LABEL_LIMIT:
                length += size + 1
                if length > _NAME_LIMIT:
                    raise FormatError("a name is longer than 255 bytes")
                label = data[at + 1 : at + 1 + size]
                if len(label) < size:
                    raise FormatError("a name ends beyond the message")
                labels.append(_text(label))
                at += 1 + size
            elif size >= 0xC0:
                target = (size & 0x3F) << 8 | data[at + 1]
                pointers += 1
                if target >= start or pointers > _POINTER_LIMIT:
                    raise FormatError("a name points forward, or too often")
                end = at + 2 if end < 0 else end
                at = start = target
            else:
                raise FormatError("a label of an unknown kind")
    except IndexError:
        raise FormatError("a name ends beyond the message") from None
    return ".".join(labels), at + 1 if end < 0 else end


def write_name(name: str) -> bytes:
    """Return a name of plain labels on the wire; raises FormatError for one that does not fit."""
    encoded = bytearray()
    for label in name.split(".") if name else ():
        part = label.encode("utf-8")
        if not 0 < len(part) <= _LABEL_LIMIT:
            raise FormatError(f"not a label: {label!r}")
        encoded.append(len(part))
        encoded += part
    encoded.append(0)
    if len(encoded) > _NAME_LIMIT:
        raise FormatError(f"a name is longer than 255 bytes: {name!r}")
    return bytes(encoded)


def normal(name: str) -> str:
    """Return a name that a person wrote as :func:`read_name` would return it; raises FormatError for one that does not fit."""
    return read_name(write_name(name), 0)[0]


def stream_messages(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete messages off a TCP stream's bytes: each has its length in two bytes in front."""
    while len(buffer) >= 2:
        end = 2 + int.from_bytes(buffer[:2], "big")
        if len(buffer) < end:
            return
        message = bytes(buffer[2:end])
        del buffer[:end]
        yield message


def for_stream(message: bytes) -> bytes:
    """Return a message as it is sent over TCP."""
    return len(message).to_bytes(2, "big") + message


_EMPTY = bytes(_HEADER.size)


def _header(data: bytes) -> tuple[int, int, int, int, int, int]:
    if len(data) < _HEADER.size:
        raise FormatError("shorter than a header")
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    return id, flags, questions, answers, authorities, additional


def _unpack(layout: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return layout.unpack_from(data, at)
    except struct.error:
        raise FormatError("the message ends too early") from None


def _text(label: bytes) -> str:
    if label.isalnum() and label.isascii():
        return label.lower().decode("ascii")
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte not in b".\\" else f"\\{byte:03d}" for byte in label.lower()
    )
