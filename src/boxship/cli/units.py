"""Sizes and spans of time as people write and read them, in Docker's words and roundings."""

from __future__ import annotations

DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
SECOND = 1_000_000_000  # nanoseconds, the API's unit of duration
DURATION_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
HOUR, DAY = 3600, 86400


def decimal_size(size: float, digits: int = 4) -> str:
    """Return bytes as a decimal size with that many significant digits: ``223MB``, ``0B``."""
    return _scaled(size, 1000.0, DECIMAL_UNITS, digits)


def binary_size(size: float) -> str:
    """Return bytes as a binary size: ``1.952GiB``."""
    return _scaled(size, 1024.0, BINARY_UNITS, 4)


def _scaled(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return go_float(size, digits) + units[index]


def go_float(number: float, digits: int) -> str:
    """Return ``number`` as Go's ``%.<digits>g``."""
    return f"{number:.{digits}g}"


def human_duration(seconds: float) -> str:
    """Return a span of time roughly: ``Less than a second``, ``48 seconds``, ``About a minute``, ``4 weeks``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / HOUR + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / HOUR) // 24 // 365} years"


def parse_size(text: str) -> int:
    """Return the bytes that ``512m``, ``1.5GiB`` or ``1000`` say (units are binary). Raises ValueError."""
    last = max((index for index, letter in enumerate(text) if letter in "0123456789. "), default=-1)
    if last < 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: last + 1].removesuffix(" "), text[last + 1 :].lower()
    try:
        if "_" in number or number != number.strip():
            raise ValueError
        size = float(number)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    if not suffix or suffix == "b":
        return int(size)
    power = "bkmgtp".find(suffix[0])
    if power < 1 or suffix[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(size * 1024**power)


def parse_swap(text: str) -> int:
    """Return bytes of memory plus swap; ``-1`` means no limit. Raises ValueError."""
    return -1 if text == "-1" else parse_size(text)


def parse_cpus(text: str) -> int:
    """Return billionths of a CPU. Raises ValueError."""
    from fractions import Fraction

    try:
        nano = Fraction(text) * SECOND
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def parse_duration(text: str) -> int:
    """Return nanoseconds of a Go duration: ``1h30m``, ``1.5s``, ``0``. Raises ValueError in Go's words."""
    rest = text
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = 0.0
    whole = 0
    while rest:
        length = _prefix(rest, "0123456789.")
        number, rest = rest[:length], rest[length:]
        if not number or number.count(".") > 1 or number == ".":
            raise ValueError(f'time: invalid duration "{text}"')
        length = next((index for index, letter in enumerate(rest) if letter in "0123456789."), len(rest))
        unit, rest = rest[:length], rest[length:]
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in DURATION_UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        if "." in number:
            total += float(number) * DURATION_UNITS[unit]
        else:
            whole += int(number) * DURATION_UNITS[unit]
    return sign * (whole + int(total))


def format_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: ``1h30m0s``, ``1.5s``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    for unit in ("ns", "µs", "ms"):
        size = DURATION_UNITS[unit]
        if rest < size * 1000:
            return f"{sign}{_fraction(rest, size)}{unit}"
    minutes, left = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(left, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _fraction(amount: int, size: int) -> str:
    whole, left = divmod(amount, size)
    if not left:
        return str(whole)
    return f"{whole}." + str(left).rjust(len(str(size)) - 1, "0").rstrip("0")


def _prefix(text: str, letters: str) -> int:
    return next((index for index, letter in enumerate(text) if letter not in letters), len(text))
