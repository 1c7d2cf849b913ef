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
    """Return how many characters must be put in, taken out, changed or swapped with the next to make one of the other."""
    above: list[int] = []
    row = list(range(len(other) + 1))
    for index, character in enumerate(one, 1):
        twice, above, row = above, row, [index]
        for place, against in enumerate(other, 1):
            best = min(above[place] + 1, row[place - 1] + 1, above[place - 1] + (character != against))
            if index > 1 and place > 1 and character == other[place - 2] and against == one[index - 2]:
                best = min(best, twice[place - 2] + 1)
            row.append(best)
    return row[-1]
