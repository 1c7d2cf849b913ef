r"""``.dockerignore`` files: which paths of a build context are left out (Dockerfile reference, ".dockerignore file").

A line is a *pattern* on paths relative to the context's root, with Go's ``filepath.Match`` syntax (``*``, ``?``, ``[a-z]``,
``\`` escapes) and ``**`` for any number of directories. A pattern matches what lies below a match too. A line that begins
with ``!`` is an *exception*: it takes back what patterns before it matched. The last line that matches decides.

The command line uses this module while it packs, so it imports little. Patterns come from strangers: matching takes time
linear in the pattern and at most cubic in the path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable

from boxship.base.errors import InvalidInput

_REMEMBERED = 4096  # directories whose matches are kept while a tree is walked
_BACKTRACKING = 2  # more wildcards than that are matched without a regular expression


class InvalidPattern(InvalidInput, ValueError):
    """A line is no pattern."""


class Patterns:
    """The patterns of one file, in order."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Take patterns as they stand in a file, without comments. Raises InvalidPattern."""
        self._patterns = [_Pattern(text) for text in map(str.strip, patterns) if text]
        self._exceptions = [pattern for pattern in self._patterns if pattern.exception]
        self._below: dict[str, tuple[bool, ...]] = {"": tuple(False for _ in self._patterns)}

    @classmethod
    def parse(cls, data: bytes) -> Patterns:
        """Read the file's text; bytes that are not UTF-8 stand for themselves as in ``os.fsdecode``. Raises InvalidPattern."""
        return cls(_lines(data))

    def matches(self, path: str) -> bool:
        """Tell whether ``path``, relative to the root, is left out; "" and "." never are."""
        path = posixpath.normpath(path).lstrip("/")
        if path == ".":
            return False
        below = self._matched_at_or_above(posixpath.dirname(path))
        matched = False
        for pattern, inherited in zip(self._patterns, below, strict=True):
            if pattern.exception == matched and (inherited or pattern.match(path)):
                matched = not matched
        return matched

    def may_contain(self, directory: str) -> bool:
        """Tell whether an exception could bring back something below ``directory``, which is itself left out."""
        names = posixpath.normpath(directory).strip("/").split("/")
        return any(pattern.reaches_below(names) for pattern in self._exceptions)

    def _matched_at_or_above(self, directory: str) -> tuple[bool, ...]:
        known = self._below.get(directory)
        if known is None:
            above = self._matched_at_or_above("")
            parts = directory.split("/")
            # From the top, and not by recursion: an archive may name directories thousands of levels deep.
            for index in range(1, len(parts) + 1):
                path = "/".join(parts[:index])
                found = self._below.get(path)
                if found is None:
                    found = tuple(
                        hit or pattern.match(path) for hit, pattern in zip(above, self._patterns, strict=True)
                    )
                    if len(self._below) >= _REMEMBERED:
                        self._below = {"": self._below[""]}
                    self._below[path] = found
                above = found
            known = above
        return known


def _lines(data: bytes) -> Iterable[str]:
    for line in data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith("#") or not line.strip():
            continue
        text = line.strip()
        exception = text.startswith("!")
        path = text[1:].strip() if exception else text
        if path:
            path = _clean(path)
            path = path[1:] if len(path) > 1 and path.startswith("/") else path
        yield ("!" if exception else "") + path


def _clean(path: str) -> str:
    """Return the shortest form as Go's ``filepath.Clean`` gives it; POSIX lets two leading slashes stand."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


class _Pattern:
    """One line: ``match`` tells whether a whole path fits."""

    def __init__(self, text: str) -> None:
        text = _clean(text)
        self.exception = text.startswith("!")
        if self.exception:
            text = text[1:]
            if not text:
                raise InvalidPattern('illegal exclusion pattern: "!"')
        self._tokens = _tokens(text)
        self._names = text.split("/")
        self.match = _matcher(text, self._tokens)

    def reaches_below(self, names: list[str]) -> bool:
        """Tell whether a path below the directory of these names could match."""
        for own, name in zip(self._names, names, strict=False):
            if "**" in own or "[" in own or "\\" in own:
                return True  # may stand for other directories, or names whose "/" are no separators
            if not _matcher(own, _tokens(own))(name):
                return False
        return True


# A token: a set of characters, or one of the wildcards that stand for any number of them.
_STAR, _ANY, _DIRECTORIES = "*", "**", "**/"


class _Set:
    """One character: any of ``ranges``, or any but those."""

    def __init__(self, ranges: list[tuple[str, str]], negated: bool = False) -> None:
        self.ranges = ranges
        self.negated = negated

    def regex(self) -> str:
        inside = "".join(
            re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}" for low, high in self.ranges
        )
        return f"[{'^' if self.negated else ''}{inside}]"

    def places(self, path: str) -> int:
        """Return where in ``path`` such a character stands, as bits."""
        bits = "".join(
            "01"[any(low <= character <= high for low, high in self.ranges) != self.negated] for character in path[::-1]
        )
        return int(bits or "0", 2)


def _tokens(text: str) -> list[str | _Set]:
    """Split a cleaned pattern. Raises InvalidPattern where Go says "syntax error in pattern"."""
    tokens: list[str | _Set] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*":
            if not text.startswith("*", position):
                tokens.append(_STAR)
                continue
            position += 2 if text.startswith("/", position + 1) else 1
            tokens.append(_ANY if position == len(text) else _DIRECTORIES)
        elif character == "?":
            tokens.append(_Set([("/", "/")], negated=True))
        elif character == "[":
            found, position = _set(text, position)
            tokens.append(found)
        elif character == "\\":
            if position == len(text):
                raise InvalidPattern("syntax error in pattern")
            tokens.append(_Set([(text[position], text[position])]))
            position += 1
        else:
            tokens.append(_Set([(character, character)]))
    return tokens


def _set(text: str, position: int) -> tuple[_Set, int]:
    negated = text.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (text.startswith("]", position) and ranges):
        low, position = _set_character(text, position)
        high = low
        if text.startswith("-", position):
            high, position = _set_character(text, position + 1)
        if low > high:
            raise InvalidPattern("syntax error in pattern")
        ranges.append((low, high))
    return _Set(ranges, negated), position + 1


def _set_character(text: str, position: int) -> tuple[str, int]:
    character = text[position : position + 1]
    if character == "\\":
        position += 1
        character = text[position : position + 1]
    elif character in "-]":  # the empty text, too
        character = ""
    if not character:
        raise InvalidPattern("syntax error in pattern")
    return character, position + 1


def _matcher(text: str, tokens: list[str | _Set]) -> Callable[[str], bool]:
    wild = [index for index, token in enumerate(tokens) if isinstance(token, str)]
    if not wild and not any(character in text for character in "?[\\"):
        return text.__eq__
    # "**file" is any path that ends so, "**/file" the same of whole names.
    if wild == [0] and tokens[0] == _DIRECTORIES and not any(character in text for character in "?[\\"):
        suffix = text[2:]
        return lambda path: path.endswith(suffix) or suffix == f"/{path}"
    if wild == [0] and tokens[0] == _ANY:
        return lambda _: True
    if len(wild) > _BACKTRACKING:
        return lambda path: _matches_without_backtracking(tokens, path)
    regex = {_STAR: "[^/]*", _ANY: ".*", _DIRECTORIES: "(?:.*/)?"}
    compiled = re.compile(
        "".join(regex[token] if isinstance(token, str) else token.regex() for token in tokens), re.DOTALL
    )
    return lambda path: compiled.fullmatch(path) is not None


def _matches_without_backtracking(tokens: list[str | _Set], path: str) -> bool:
    """Tell whether all of ``path`` fits. ``reached`` is a set of bits: the places up to which the tokens so far can stand."""
    everywhere = (2 << len(path)) - 1
    inside = _Set([("/", "/")], negated=True).places(path)
    places: dict[str, int] = {}
    reached = 1
    for token in tokens:
        if isinstance(token, _Set):
            key = token.regex()
            if key not in places:
                places[key] = token.places(path)
            reached = (reached & places[key]) << 1
        elif token == _STAR:
            # The carry of the addition runs through each name from the places reached in it to its end.
            reached |= ((reached & inside) + inside) ^ inside
        else:
            lowest = reached & -reached
            behind = everywhere & ~(lowest - 1) if reached else 0
            slashes = ~inside & everywhere >> 1
            reached = behind if token == _ANY else reached | ((slashes & behind) << 1)
        if not reached:
            return False
    return bool(reached >> len(path) & 1)
