"""Patterns of ``${name#pattern}`` and its like: ``*`` stands for any characters, ``?`` for one.

Places in a text are bits of an integer, so that all ways to match are followed at once: the time is linear in the pattern and
in the text, whatever the pattern.
"""

from __future__ import annotations

_STAR, _ONE = None, ""  # tokens; any other is the character itself


class Glob:
    """A parsed pattern."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError for an escape that means nothing."""
        self._tokens = _tokens(pattern)

    def without_prefix(self, text: str, longest: bool) -> str:
        """Return ``text`` without the shortest or the longest prefix that matches."""
        ends = _ends(self._tokens, text, 1)
        return text[_last(ends) if longest else _first(ends) :] if ends else text

    def without_suffix(self, text: str, longest: bool) -> str:
        """Return ``text`` without the shortest or the longest suffix that matches."""
        ends = _ends(self._tokens[::-1], text[::-1], 1)
        return text[: len(text) - (_last(ends) if longest else _first(ends))] if ends else text

    def replace(self, text: str, replacement: str, *, everywhere: bool, limit: int) -> str:
        """Return ``text`` with the first match replaced, or each; of several at one place the longest counts.

        What would become longer than ``limit`` stops there.
        """
        backwards = _ends(self._tokens[::-1], text[::-1], (2 << len(text)) - 1)
        starts = f"{backwards:0{len(text) + 1}b}"  # "1" where a match begins
        pieces: list[str] = []
        size = position = 0
        while (start := starts.find("1", position)) >= 0 and size <= limit:
            end = self._end(text, start)
            if end == start == position and pieces:  # nothing, right behind a match, is no other one
                break
            pieces += [text[position:start], replacement]
            size += len(pieces[-1]) + len(pieces[-2])
            position = end
            if end == start:  # an empty match: go on behind the next character
                pieces.append(text[start : start + 1])
                position += 1
            if not everywhere:
                break
        return "".join(pieces) + text[position:]

    def _end(self, text: str, start: int) -> int:
        if _STAR not in self._tokens:
            return start + len(self._tokens)
        return start + _last(_ends(self._tokens, text[start:], 1))


def _tokens(pattern: str) -> list[str | None]:
    tokens: list[str | None] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if tokens[-1:] != [_STAR]:
                tokens.append(_STAR)
        elif character == "?":
            tokens.append(_ONE)
        elif character == "\\":
            escaped = pattern[position : position + 1]
            position += 1
            if escaped not in ("*", "?", "\\", "}", "/"):
                raise ValueError(f"invalid escape '\\{escaped}'")
            tokens.append(escaped)
        else:
            tokens.append(character)
    return tokens


def _ends(tokens: list[str | None], text: str, begins: int) -> int:
    """Return the places where a match can end that begins at one of ``begins``."""
    everywhere = (2 << len(text)) - 1
    places = {each: _places(text, each) for each in set(tokens) if each}
    reached = begins
    for token in tokens:
        if token is _STAR:
            reached = everywhere & -(reached & -reached)  # all from the first on
        else:
            reached = (reached & places[token] if token else reached) << 1 & everywhere
        if not reached:
            break
    return reached


def _places(text: str, character: str) -> int:
    return int("".join("01"[each == character] for each in reversed(text)) or "0", 2)


def _first(places: int) -> int:
    return (places & -places).bit_length() - 1


def _last(places: int) -> int:
    return places.bit_length() - 1
