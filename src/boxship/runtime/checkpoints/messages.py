"""Messages to and from CRIU's worker (``criu swrk``): Protocol Buffers, in the few shapes that are needed here.

The field numbers are those of CRIU's ``images/rpc.proto``. Options are data: a name, its number and what it holds.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Value = bool | int | str | list[str] | list[tuple[str, int]]

DUMP, RESTORE, NOTIFY = 1, 2, 6  # criu_req_type
IGNORE_CGROUPS = 0  # criu_cg_mode
LOCK_BY_NFTABLES = 2  # criu_network_lock_method

# criu_opts; a list is a repeated field, and (key, descriptor) pairs are messages of inherit_fd
OPTIONS = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "log_level": 9,
    "log_file": 10,
    "notify_scripts": 12,
    "root": 13,
    "work_dir_fd": 17,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "manage_cgroups_mode": 34,
    "external": 37,
    "timeout": 45,
    "orphan_pts_master": 50,
    "config_file": 51,
    "network_lock": 64,
}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Response:
    """What CRIU says: the end of the request's work, or (``kind`` is NOTIFY) a step of it that waits for an answer."""

    __slots__ = ("fd", "kind", "pid", "script", "success", "text")

    def __init__(self, kind: int, success: bool, pid: int, script: str, text: str) -> None:
        self.kind = kind
        self.success = success
        self.pid = pid  # of the restored init, 0 where the message has none
        self.script = script  # the step's name
        self.text = text  # the reason of a failure, often ""
        self.fd = -1  # the descriptor that came along, which belongs to whoever takes it away


def request(kind: int, options: "Mapping[str, Value]") -> bytes:
    """Return the request to ``kind`` (DUMP, RESTORE); ``options`` are by the names of OPTIONS."""
    return _number(1, kind) + _bytes(2, b"".join(_option(OPTIONS[name], value) for name, value in options.items()))


def confirmation(success: bool) -> bytes:
    """Return the answer to a notification; without success CRIU undoes the work and fails."""
    return _number(1, NOTIFY) + _number(3, int(success))


def response(data: bytes) -> Response:
    """Decode one message of CRIU. Raises ValueError."""
    fields = dict(_fields(data))  # the last of each, as the format has it
    restored, notify = dict(_fields(_block(fields, 4))), dict(_fields(_block(fields, 5)))
    return Response(
        kind=_integer(fields, 1),
        success=bool(_integer(fields, 2)),
        pid=_integer(notify, 2) or _integer(restored, 1),
        script=_block(notify, 1).decode("utf-8", "replace"),
        text=_block(fields, 9).decode("utf-8", "replace"),
    )


def _option(number: int, value: "Value") -> bytes:
    if isinstance(value, (bool, int)):
        return _number(number, int(value))
    if isinstance(value, str):
        return _bytes(number, value.encode("utf-8", "surrogateescape"))
    parts = []
    for item in value:
        if isinstance(item, str):
            parts.append(_bytes(number, item.encode("utf-8", "surrogateescape")))
        else:
            parts.append(_bytes(number, _bytes(1, item[0].encode("utf-8", "surrogateescape")) + _number(2, item[1])))
    return b"".join(parts)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> "Iterator[tuple[int, int | bytes]]":
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _read_varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"criu sent a field of unknown kind {kind}")
        if len(data) - place < size:
            raise ValueError("criu sent a message that is cut off")
        yield number, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if place >= len(data):
            raise ValueError("criu sent a message that is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("criu sent a number that is too long")


def _integer(fields: "Mapping[int, int | bytes]", number: int) -> int:
    value = fields.get(number, 0)
    if isinstance(value, bytes):
        raise ValueError(f"criu sent bytes in field {number}")
    return value


def _block(fields: "Mapping[int, int | bytes]", number: int) -> bytes:
    value = fields.get(number, b"")
    if isinstance(value, int):
        raise ValueError(f"criu sent a number in field {number}")
    return value
