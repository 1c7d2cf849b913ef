"""What a person may have meant: the known name nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return " (did you mean x?)" for the known name that is fewest changes away, "" when none is near."""
    limit = 1 if len(wrong) < 4 else 2 if len(wrong) < 8 else 3
    if len(wrong) > 64:
        return ""
    near = sorted((distance(wrong.lower(), name.lower()), name) for name in known)
    return f" (did you mean {near[0][1]}?)" if near and 0 < near[0][0] <= limit else ""


def distance(one: str, other: str) -> int:
    """Return how many characters must be put in, taken out or changed to make one of the other."""
    row = list(range(len(other) + 1))
    for index, character in enumerate(one, 1):
        diagonal, row[0] = row[0], index
        for place, against in enumerate(other, 1):
            diagonal, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, diagonal + (character != against)),
            )
    return row[-1]
