"""Filters of image listings and prunes: which keys there are, what their values mean, whether an image passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from boxship.base.errors import InvalidInput
from boxship.images import reference
from boxship.images.model import Image

Filters = Mapping[str, Sequence[str]]
Passes = Callable[[Image], bool]

LIST_KEYS = frozenset(("dangling", "label", "before", "since", "reference", "until"))
PRUNE_KEYS = frozenset(("dangling", "label", "label!", "until"))

_TRUE = frozenset(("1", "true"))
_FALSE = frozenset(("0", "false"))
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?)(h|ms|us|ns|m|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|us|ns|m|s)", re.ASCII)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_FRACTION = re.compile(r"\.\d+")


def check_keys(filters: Filters, allowed: frozenset[str]) -> None:
    """Raise InvalidInput for a key that the operation does not know."""
    for key in filters:
        if key not in allowed:
            raise InvalidInput(f"invalid filter '{key}'")


def dangling(filters: Filters) -> bool | None:
    """Return what ``dangling`` asks for, None when it is not given. Raises InvalidInput."""
    values = filters.get("dangling", ())
    if not values:
        return None
    lowered = {value.lower() for value in values}
    if lowered <= _TRUE:
        return True
    if lowered <= _FALSE:
        return False
    raise InvalidInput(f"invalid filter 'dangling=[{' '.join(values)}]'")


def label_test(filters: Filters) -> Passes:
    """Return a test for ``label`` (all must match) and ``label!`` (none may)."""
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())

    def passes(image: Image) -> bool:
        labels = image.config.labels or {}
        return all(_has(labels, one) for one in wanted) and not any(_has(labels, one) for one in unwanted)

    return passes


def reference_test(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a test for familiar references; a pattern matches with or without the tag, ``*`` stops at a slash."""
    try:
        compiled = [re.compile(_glob(pattern)) for pattern in patterns]
    except re.error as exc:
        raise InvalidInput("syntax error in pattern") from exc

    def passes(familiar: str) -> bool:
        name = reference.parse(familiar).familiar_name
        return any(pattern.fullmatch(familiar) or pattern.fullmatch(name) for pattern in compiled)

    return passes


def until_seconds(values: Sequence[str], now: float) -> float:
    """Return the moment (Unix seconds) of an ``until`` filter: a duration ago, Unix seconds or a date. Raises InvalidInput."""
    if len(values) > 1:
        raise InvalidInput("more than one until filter specified")
    text = values[0]
    if _DURATION.fullmatch(text):
        return now - sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return _timestamp(text)
    except ValueError:
        raise InvalidInput(
            f"invalid filter 'until={text}': failed to parse value as time or duration: \"{text}\""
        ) from None


def seconds_of(created: str | None) -> int:
    """Return an RFC 3339 time as Unix seconds, 0 for none or nonsense."""
    try:
        return int(_timestamp(created or ""))
    except (ValueError, OverflowError):
        return 0


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(_FRACTION.sub(lambda m: m[0][:7], text, count=1))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _glob(pattern: str) -> str:
    """Return Go's path.Match as a regular expression. Raises InvalidInput for a class that does not end."""
    out, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[":
            end = pattern.find("]", position)
            if end <= position:
                raise InvalidInput("syntax error in pattern")
            negated = "^" if pattern[position] in "^!" else ""
            members = pattern[position + len(negated) : end].replace("\\", "\\\\").replace("[", "\\[")
            out += f"[{negated}{members}]"
            position = end + 1
        else:
            out += re.escape(character)
    return out
