"""Words of Dockerfile instructions: quotes, escapes and variables, as the Dockerfile reference has them.

``$NAME`` and ``${NAME}`` are replaced by a variable's value, by nothing when it is not set; ``${NAME:-word}`` and
``${NAME:+word}`` choose, ``${NAME:?word}`` refuses. Single quotes keep everything as it stands, double quotes keep all but variables, a backslash keeps
the character behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

from boxship.base.errors import InvalidInput

_SPECIAL = "@*#?-$!0"  # names of one character, as in a shell
_ESCAPED_IN_QUOTES = '"$\\'


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` as one word. Raises InvalidInput with Docker's words."""
    return "".join(piece for piece, _ in _pieces(text, variables))


def expand_list(text: str, variables: Mapping[str, str]) -> list[str]:
    """Return the words of ``text``: spaces divide unless they are quoted, those of variables too."""
    words: list[str] = []
    started = False
    for piece, divides in _pieces(text, variables):
        if divides and piece in (" ", "\t", "\n"):
            started = False
        elif started:
            words[-1] += piece
        else:
            words.append(piece)
            started = True
    return words


def _pieces(text: str, variables: Mapping[str, str]) -> list[tuple[str, bool]]:
    scanner = _Scanner(text, variables)
    try:
        return scanner.pieces("")
    except _BadWord as exc:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        raise InvalidInput(f'failed to process "{quoted}": {exc}') from exc


class _BadWord(Exception):
    """The text ends too early or means nothing."""


class _Scanner:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._position = 0

    def pieces(self, stop: str) -> list[tuple[str, bool]]:
        """Return what stands before ``stop`` (or the end), each with whether its spaces divide words."""
        found: list[tuple[str, bool]] = []
        while (character := self._next()) != stop:
            if not character:
                raise _BadWord(f"unexpected end of statement while looking for matching {stop}")
            if character == "'":
                found.append((self._single_quoted(), False))
            elif character == '"':
                found.append((self._double_quoted(), False))
            elif character == "$":
                found += [(each, True) for each in self._variable()]
            elif character == "\\":
                if character := self._next():
                    found.append((character, False))
            else:
                found.append((character, True))
        return found

    def _next(self) -> str:
        """Return the next character, "" at the end."""
        character = self._text[self._position : self._position + 1]
        self._position += 1
        return character

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise _BadWord("unexpected end of statement while looking for matching single-quote")
        found, self._position = self._text[self._position : end], end + 1
        return found

    def _double_quoted(self) -> str:
        found = ""
        while (character := self._next()) != '"':
            if not character:
                raise _BadWord("unexpected end of statement while looking for matching double-quote")
            if character == "$":
                found += self._variable()
            elif character == "\\":
                character = self._next()
                found += character if character in _ESCAPED_IN_QUOTES else f"\\{character}"
            else:
                found += character
        return found

    def _variable(self) -> str:
        if self._text[self._position : self._position + 1] != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._position += 1
        if self._position == len(self._text):
            raise _BadWord("syntax error: missing '}'")
        if self._text[self._position] in "{}:":
            raise _BadWord("syntax error: bad substitution")
        name = self._name()
        match self._next():
            case "}":
                return self._variables.get(name, "")
            case ":":
                return self._chosen(name)
        raise _BadWord("missing ':' in substitution")

    def _chosen(self, name: str) -> str:
        value = self._variables.get(name, "")
        modifier = self._next()
        try:
            word = "".join(piece for piece, _ in self.pieces("}"))
        except _BadWord as exc:
            raise _BadWord("syntax error: missing '}'") from exc
        match modifier:
            case "-":
                return value or word
            case "+":
                return word if value else ""
            case "?":
                if not value:
                    reason = "is not allowed to be empty" if name in self._variables else "is not allowed to be unset"
                    raise _BadWord(f"{name}: {word or reason}")
                return value
        raise _BadWord(f"unsupported modifier ({modifier}) in substitution")

    def _name(self) -> str:
        start = self._position
        if self._text[start : start + 1] and self._text[start] in _SPECIAL:
            self._position += 1
            return self._text[start]
        digits = self._text[start : start + 1].isdecimal()
        while character := self._text[self._position : self._position + 1]:
            if not (character.isdecimal() if digits else character.isalnum() or character == "_"):
                break
            self._position += 1
        return self._text[start : self._position]
