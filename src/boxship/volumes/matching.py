"""Filters of volume listings and prunes, in Docker's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from boxship.base.errors import InvalidInput

Filters = Mapping[str, Sequence[str]]

LIST = frozenset(("dangling", "driver", "label", "name"))
PRUNE = frozenset(("all", "label", "label!"))
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def check(filters: Filters, known: frozenset[str]) -> None:
    """Raise InvalidInput for a filter that there is not."""
    for key in filters:
        if key not in known:
            raise InvalidInput(f"invalid filter '{key}'")


def truth(filters: Filters, key: str) -> bool | None:
    """Return the value of a yes-or-no filter, None when it is not given; raises InvalidInput."""
    values = filters.get(key)
    if not values:
        return None
    chosen = {_TRUTH.get(value) for value in values}
    if len(chosen) != 1 or None in chosen:
        raise InvalidInput(f"invalid filter '{key}=[{' '.join(values)}]'")
    return chosen.pop()


def name_matches(name: str, patterns: Sequence[str] | None) -> bool:
    """Tell whether a pattern occurs in the name, as such or as a regular expression; no patterns match all."""
    return not patterns or any(pattern in name or _search(pattern, name) for pattern in patterns)


def labels_match(labels: Mapping[str, str], filters: Filters) -> bool:
    """Tell whether the labels have all of ``label`` and none of ``label!`` ("key" or "key=value")."""
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())
    return all(_has(labels, text) for text in wanted) and not any(_has(labels, text) for text in unwanted)


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _search(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False
