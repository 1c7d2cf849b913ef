"""How large the cache may become: ``builder.gc`` of daemon.json, with dockerd's keys (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from boxship.base.errors import InvalidInput
from boxship.build.caching.usage import KEEP_STORAGE, Choice

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?([kmgtp]?)i?b?", re.ASCII)
_PARTS = frozenset(("entitlements", "gc"))


class _Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    all: bool = False
    filter: list[str] | dict[str, dict[str, bool]] = []  # "unused-for=48h", or the form in which the API has filters
    keep_storage: str | int = ""
    reserved_space: str | int = ""
    max_used_space: str | int = ""
    min_free_space: str | int = ""


class _Collection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    enabled: bool = True
    default_keep_storage: str | int = ""
    default_reserved_space: str | int = ""
    default_max_used_space: str | int = ""
    default_min_free_space: str | int = ""
    policy: list[_Rule] = []


def parse(builder: Mapping[str, Any]) -> tuple[Choice, ...]:
    """Return what is deleted after each build, by the rules one after the other. Raises InvalidInput.

    Without a policy that is what was used longest ago, of all, beyond the default bounds.
    """
    unknown = sorted(builder.keys() - _PARTS)
    if unknown:
        raise InvalidInput(f"builder: unknown setting {unknown[0]}")
    try:
        found = msgspec.convert(builder.get("gc", {}), _Collection)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"builder.gc: {exc}") from exc
    if not found.enabled:
        return ()
    if found.policy:
        return tuple(map(_choice, found.policy))
    default = _Rule(
        all=True,
        keep_storage=found.default_keep_storage,
        reserved_space=found.default_reserved_space,
        max_used_space=found.default_max_used_space,
        min_free_space=found.default_min_free_space,
    )
    choice = _choice(default)
    return (choice if choice.is_bounded else msgspec.structs.replace(choice, reserved=KEEP_STORAGE),)


def _choice(rule: _Rule) -> Choice:
    try:
        return Choice.parse(
            _filters(rule.filter),
            all=rule.all,
            reserved=_size(rule.reserved_space) or _size(rule.keep_storage),
            max_used=_size(rule.max_used_space),
            min_free=_size(rule.min_free_space),
        )
    except InvalidInput as exc:
        raise InvalidInput(f"builder.gc: {exc}") from exc


def _filters(given: list[str] | dict[str, dict[str, bool]]) -> dict[str, Sequence[str]]:
    if isinstance(given, dict):
        return {name: [value for value, counts in values.items() if counts] for name, values in given.items()}
    found: dict[str, list[str]] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise InvalidInput(f"invalid filter {item!r}: expected name=value")
        found.setdefault(name, []).append(value.removeprefix("="))
    return dict(found)


def _size(given: str | int) -> int:
    """Return bytes; units are powers of 1024, as dockerd has it. Raises InvalidInput."""
    if isinstance(given, int):
        if given < 0:
            raise InvalidInput(f"invalid size: '{given}'")
        return given
    if not given:
        return 0
    match = _SIZE.fullmatch(given.strip().lower())
    if match is None:
        raise InvalidInput(f"invalid size: '{given}'")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2] or " "))
