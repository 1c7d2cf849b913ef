"""JSON from strangers: bounded, without duplicate keys, one meaning only."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from boxship.base.errors import InvalidInput

DOCUMENT_LIMIT = 4 * 1024 * 1024  # bytes; what registries accept for a manifest
DEPTH_LIMIT = 64

T = TypeVar("T")


class InvalidDocument(InvalidInput):
    """A document of an image or archive is not what its format says."""


def parse_json(data: bytes, what: str) -> Any:  # a JSON document
    """Return the JSON value in ``data``; ``what`` names the document in errors.

    Raises InvalidDocument for more than DOCUMENT_LIMIT bytes, other encodings than UTF-8, nesting deeper than
    DEPTH_LIMIT, duplicate keys (readers differ in which one counts), NaN and Infinity, integers beyond 64 bits.
    """
    if len(data) > DOCUMENT_LIMIT:
        raise InvalidDocument(f"invalid {what}: {len(data)} bytes, more than the limit of {DOCUMENT_LIMIT}")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_int64
        )
    except (ValueError, RecursionError) as exc:
        raise InvalidDocument(f"invalid {what}: {exc}") from exc
    if _deeper_than(value, DEPTH_LIMIT):
        raise InvalidDocument(f"invalid {what}: nested deeper than {DEPTH_LIMIT} levels")
    return value


def convert(value: object, type: type[T], what: str) -> T:
    """Return ``value`` as ``type``. Raises InvalidDocument that names the field at fault."""
    try:
        return msgspec.convert(value, type=type)
    except (msgspec.ValidationError, OverflowError) as exc:
        raise InvalidDocument(f"invalid {what}: {exc}") from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # idiom
        raise ValueError(f"duplicate key {twice!r}")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _int64(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"number {text[:20]} is out of range")
    return int(text)


def _deeper_than(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
