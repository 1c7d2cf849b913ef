"""The values of query parameters as Docker reads them: booleans, numbers, times, filters. Pure functions."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import msgspec

from boxship.base.errors import InvalidInput

MAX_FIELDS = 1000
_FALSE = {"", "0", "no", "false", "none"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TIMESTAMP = re.compile(r"(-?[0-9]{1,11})(?:\.([0-9]{1,9}))?")


def parse_query(text: str, *, errors: str = "replace") -> dict[str, list[str]]:
    """Return the fields of a query string in order; escapes that are no UTF-8 become U+FFFD, or what ``errors`` says."""
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors=errors)
    except ValueError as exc:
        raise InvalidInput(f"invalid query: {exc}") from exc


def boolean(value: str) -> bool:
    """Return Docker's idea of truth: everything but "", "0", "no", "false" and "none", in any case."""
    return value.strip().lower() not in _FALSE


def integer(value: str) -> int:
    """Return a decimal number; the error is the text of Go's strconv.Atoi."""
    if not _INTEGER.fullmatch(value):
        raise InvalidInput(f"strconv.Atoi: parsing {quote(value)}: invalid syntax")
    return int(value)


def timestamp(value: str) -> int:
    """Return nanoseconds since 1970 for "seconds[.fraction]"; "" is 0 (no bound)."""
    if not value:
        return 0
    match = _TIMESTAMP.fullmatch(value)
    if match is None:
        raise InvalidInput(f"strconv.ParseInt: parsing {quote(value)}: invalid syntax")
    seconds, fraction = match.groups()
    return int(seconds) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def tail(value: str) -> int:
    """Return the number of last lines of a log, -1 for "all", "", or anything that is no number."""
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else -1


def filters(text: str) -> dict[str, list[str]]:
    """Return ``filters`` as key -> values, from ``{"k": ["v"]}`` or the older ``{"k": {"v": true}}``.

    Values that the older form switches off are left out, as are keys without values.
    """
    if not text:
        return {}
    try:
        parsed = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str] | None])
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidInput("invalid filter") from exc
    found: dict[str, list[str]] = {}
    for key, values in parsed.items():
        chosen = [value for value, on in values.items() if on] if isinstance(values, dict) else list(values or [])
        if chosen:
            found[key] = chosen
    return found


def quote(text: str) -> str:
    """Return ``text`` in double quotes, escaped as JSON does (Go's %q for what matters here)."""
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()
