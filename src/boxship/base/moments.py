"""Times and durations as people write them in filters: Go durations, RFC 3339, Unix times."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a Go duration such as ``1h30m`` or ``1.5s``; raises ValueError."""
    total, left = 0.0, text
    while left:
        after_number = left.lstrip("0123456789.")
        after_unit = after_number.lstrip("hmsun")
        number = left[: len(left) - len(after_number)]
        unit = after_number[: len(after_number) - len(after_unit)]
        if not number or unit not in _UNITS:
            raise ValueError(f'time: invalid duration "{text}"')
        total += float(number) * _UNITS[unit]
        left = after_unit
    if not text:
        raise ValueError('time: invalid duration ""')
    return int(total)


def format_duration(duration_ns: int) -> str:
    """Return nanoseconds as Go prints a duration: ``1m30s``, ``1.5s``, ``300ms``, ``0s``."""
    if duration_ns < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if duration_ns >= size:
                return _decimal(duration_ns, size) + unit
        return "0s"
    minutes, rest = divmod(duration_ns, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    return f"{text}{minutes}m{_decimal(rest, _UNITS['s'])}s" if hours or minutes else f"{_decimal(rest, _UNITS['s'])}s"


def _decimal(number: int, unit: int) -> str:
    """Return ``number`` in units of a power of ten, without trailing zeros."""
    whole, fraction = divmod(number, unit)
    digits = f"{unit + fraction}"[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def parse_moment(text: str, *, now_ns: int) -> int:
    """Return the nanoseconds since 1970 of a Unix time, an RFC 3339 time (UTC without a zone), or a duration ago.

    Raises ValueError.
    """
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and (fraction.isdecimal() or not fraction):
        return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    try:
        return now_ns - parse_duration(text)
    except ValueError:
        pass
    for form in _FORMS:
        try:
            return int(datetime.strptime(text.removesuffix("Z"), form).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
        except ValueError:
            continue
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000) * 1000
