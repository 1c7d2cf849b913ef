"""Records of the json-file log: raw output in, lines of ``{"log":...,"stream":...,"time":...}`` out, and back.

A record is one line of output with its newline. A line of more than 16 KiB becomes several records of which only the last
one ends with a newline; so does a last line without one. Escapes are those of Docker (Go's JSON for the web: ``<``, ``>``,
``&``, U+2028 and U+2029 escaped, each byte that is not UTF-8 written as U+FFFD). One departure: a line is never cut inside
a UTF-8 sequence, which Docker does and thereby destroys it.

Speed comes from escaping a whole batch of lines at once; the newlines left in it are then replaced by the seam between two
records. Records of one batch share its time.
"""

from __future__ import annotations

import codecs
import json

from boxship.base import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_LIMIT = 16 * 1024  # bytes of one record's "log" before escaping, as in Docker's copier

_SHORT = {0x22: b'\\"', 0x5C: b"\\\\", 0x0D: b"\\r"}
_ESCAPES = {
    code: _SHORT.get(code, b"\\u%04x" % code)
    for code in (0x5C, 0x22, *(code for code in range(0x20) if code != 0x0A), *b"<>&")  # backslash must come first
}
_PLAIN = bytes(code for code in range(256) if code not in _ESCAPES)
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


class Encoder:
    """Makes records of one stream of one container; holds back a line's beginning until its end or 16 KiB of it came."""

    __slots__ = ("_head", "_rest", "_rest_time", "_tail")

    def __init__(self, stream: str, attrs: dict[str, str] | None = None) -> None:
        """``stream`` is "stdout" or "stderr"; ``attrs`` are the log options' labels and variables, put into each record."""
        self._head = b'{"log":"'
        extra = f',"attrs":{json.dumps(attrs, separators=(",", ":"))}' if attrs else ""
        self._tail = f'","stream":"{stream}"{extra},"time":"'.encode()
        self._rest = b""
        self._rest_time = 0  # when the first piece of the line in _rest was recorded; 0: none was

    def encode(self, data: bytes, time_ns: int) -> bytes:
        """Take output that was read at ``time_ns``; return the records that are complete, perhaps none."""
        if self._rest:
            data = self._rest + data
        out: list[bytes] = []
        tail = self._tail_at(time_ns)
        start = 0  # what comes before is written
        line = 0  # here begins a line, or the rest of one whose beginning is written
        while True:
            if self._rest_time:
                newline = data.find(b"\n", line, line + LINE_LIMIT)
                if newline >= 0:
                    out.append(self._lines(data[line : newline + 1], self._tail_at(self._rest_time)))
                    self._rest_time = 0
                    start = line = newline + 1
                    continue
            else:
                newline = data.rfind(b"\n", line, line + LINE_LIMIT)
                if newline >= 0:
                    line = newline + 1
                    continue
            if len(data) - line < LINE_LIMIT:
                break
            if line > start:
                out.append(self._lines(data[start:line], tail))
            self._rest_time = self._rest_time or time_ns
            start = _cut(data, line)
            out.append(self._partial(data[line:start], self._tail_at(self._rest_time)))
            line = start
        if line > start:
            out.append(self._lines(data[start:line], tail))
        self._rest = data[line:]
        return b"".join(out)

    def finish(self, time_ns: int) -> bytes:
        """Say that the stream ended; return the record of a last line without a newline, or nothing."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        tail = self._tail_at(self._rest_time or time_ns)
        self._rest_time = 0
        return self._partial(rest, tail)

    def _lines(self, lines: bytes, tail: bytes) -> bytes:
        """Return the records of whole lines; ``lines`` ends with a newline."""
        body = escape(lines).replace(b"\n", b"\\n" + tail + self._head)
        return self._head + body[: -len(self._head)]

    def _partial(self, piece: bytes, tail: bytes) -> bytes:
        return self._head + escape(piece) + tail

    def _tail_at(self, time_ns: int) -> bytes:
        return self._tail + clock.rfc3339(time_ns).encode() + b'"}\n'


def escape(data: bytes) -> bytes:
    """Return ``data`` as the inside of a JSON string, except that newlines stay as they are."""
    if not data.isascii():
        try:
            codecs.utf_8_decode(data, "strict", True)
        except UnicodeDecodeError:
            return _escape_broken(data)
    return _escape_utf8(data)


class Record:
    """One record read back; ``log`` is the line's bytes, with its newline if it had one."""

    __slots__ = ("attrs", "log", "stream", "time_ns")

    def __init__(self, stream: str, time_ns: int, log: bytes, attrs: dict[str, str]) -> None:
        self.stream = stream
        self.time_ns = time_ns
        self.log = log
        self.attrs = attrs

    def __repr__(self) -> str:
        return f"Record({self.stream!r}, {self.time_ns}, {self.log!r}, {self.attrs!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]  # compared by value, never a key


def parse(line: bytes) -> Record | None:
    """Return the record that ``line`` holds, or None when it is torn or something else."""
    try:
        document = json.loads(line)
        attrs = document.get("attrs") or {}
        stream = document.get("stream", "stdout")
        if not isinstance(attrs, dict) or not isinstance(stream, str):
            return None
        log = document.get("log", "").encode("utf-8", "replace")
        return Record(stream, parse_time(document["time"]), log, attrs)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def parse_lines(lines: Iterable[bytes]) -> list[Record]:
    """Return the records in ``lines``, without those that are torn."""
    return [record for record in map(parse, lines) if record is not None]


def parse_time(text: str) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 time in UTC as the records carry it. Raises ValueError."""
    stamp, zone, fraction = text[:19], text[-1:], text[20:-1]
    if zone != "Z" or (text[19:20] != "." and len(text) != 20) or (fraction and not fraction.isdecimal()):
        raise ValueError(f"not a time: {text!r}")
    return _seconds(stamp) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


_last_stamp = ("", 0)  # neighbouring records nearly always share the second


def _seconds(stamp: str) -> int:
    global _last_stamp
    known, seconds = _last_stamp
    if known == stamp:
        return seconds
    if stamp[4:5] + stamp[7:8] + stamp[10:11] + stamp[13:14] + stamp[16:17] != "--T::":
        raise ValueError(f"not a time: {stamp!r}")
    year, month, day = int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10])
    hours, minutes, rest = int(stamp[11:13]), int(stamp[14:16]), int(stamp[17:19])
    # Days since 1970 of a date in the Gregorian calendar, counting years from March so that the leap day is the last.
    years = year - (month <= 2)
    months = (month + 9) % 12
    days = years * 365 + years // 4 - years // 100 + years // 400 + (months * 153 + 2) // 5 + day - 719469
    seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    _last_stamp = (stamp, seconds)
    return seconds


def _escape_utf8(data: bytes) -> bytes:
    present = set(data.translate(None, _PLAIN))
    if present:
        for code, escaped in _ESCAPES.items():
            if code in present:
                data = data.replace(bytes((code,)), escaped)
    for separator, escaped in _SEPARATORS:
        if separator in data:
            data = data.replace(separator, escaped)
    return data


def _escape_broken(data: bytes) -> bytes:
    """Escape text with bytes that are not UTF-8: each of them becomes the escape of U+FFFD.

    No Python code runs per byte: decoding turns each bad byte into a surrogate, encoding turns each surrogate into a
    question mark, and a private character that the text lacks stands in for the question marks that were there.
    """
    text = data.decode("utf-8", "surrogateescape")
    stand_in = next(character for character in map(chr, range(0xE000, 0xF8FF)) if character not in text)
    marked = text.replace("?", stand_in).encode("utf-8", "replace")
    return _escape_utf8(marked).replace(b"?", b"\\ufffd").replace(stand_in.encode(), b"?")


def _cut(data: bytes, start: int) -> int:
    """Return where to cut a line that is longer than the limit: at the limit, or before the sequence that spans it."""
    limit = start + LINE_LIMIT
    for cut in range(limit, limit - 4, -1):
        if cut >= len(data) or data[cut] & 0xC0 != 0x80:
            return cut
    return limit
