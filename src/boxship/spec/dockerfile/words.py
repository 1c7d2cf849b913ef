"""Words of Dockerfile instructions: quotes, escapes and variables (Dockerfile reference, "Environment replacement").

``$NAME`` and ``${NAME}`` are replaced by a variable's value, by nothing when it is not set. ``${NAME-word}``, ``${NAME+word}``
and ``${NAME?word}`` ask whether it is set, with a colon before whether it is set and not empty. ``#`` and ``##`` take the
shortest and the longest prefix away that a pattern matches, ``%`` and ``%%`` a suffix, ``/`` and ``//`` replace the first
match and all. Single quotes keep everything as it stands, double quotes keep all but variables, the escape character keeps
the one behind it. Dockerfiles come from strangers: depth and size of what is expanded are limited.
"""

from __future__ import annotations

from collections.abc import Mapping

from boxship.base.errors import InvalidInput
from boxship.spec.dockerfile.glob import Glob

LIMIT = 1 << 17  # characters of one expanded word; Linux takes no longer variables

_SPECIAL = "@*#?-$!0"  # names of one character, as in a shell
_DEPTH = 50  # of ${a:-${b:-...}}


def expand(
    text: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    quotes: bool = True,
    missing: set[str] | None = None,
) -> str:
    """Return ``text`` as one word. Raises InvalidInput with Docker's words.

    Names of variables that are not set are added to ``missing``. Without ``quotes`` these are characters like others.
    """
    return "".join(piece for piece, _ in _pieces(text, variables, escape, quotes, missing))


def expand_list(
    text: str, variables: Mapping[str, str], *, escape: str = "\\", missing: set[str] | None = None
) -> list[str]:
    """Return the words of ``text``: spaces divide unless they are quoted, those of variables too."""
    words: list[str] = []
    started = False
    for piece, divides in _pieces(text, variables, escape, True, missing):
        if divides and piece.isspace():
            started = False
        elif started:
            words[-1] += piece
        else:
            words.append(piece)
            started = True
    return words


def _pieces(
    text: str, variables: Mapping[str, str], escape: str, quotes: bool, missing: set[str] | None
) -> list[tuple[str, bool]]:
    scanner = _Scanner(text, variables, escape, quotes)
    try:
        return scanner.pieces("")
    except _BadWord as exc:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        raise InvalidInput(f'failed to process "{quoted}": {exc}') from exc
    finally:
        if missing is not None:
            missing |= scanner.missing


class _BadWord(Exception):
    """The text ends too early or means nothing."""


class _Scanner:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, quotes: bool) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._quotes = quotes
        self._position = 0
        self._depth = 0
        self._size = 0
        self.missing: set[str] = set()

    def pieces(self, stop: str, raw: bool = False) -> list[tuple[str, bool]]:
        """Return what stands before ``stop`` (or the end), each with whether its spaces divide words.

        ``raw`` keeps the escape character beside what it escapes, for patterns.
        """
        found: list[tuple[str, bool]] = []
        while (character := self._next()) != stop:
            if not character:
                raise _BadWord(f"unexpected end of statement while looking for matching {stop}")
            if character == "'" and self._quotes:
                found.append((self._single_quoted(), False))
            elif character == '"' and self._quotes:
                found.append((self._double_quoted(), False))
            elif character == "$":
                found += [(each, True) for each in self._variable()]
            elif character == self._escape:
                if escaped := self._next():
                    found.append((character + escaped if raw else escaped, False))
            else:
                found.append((character, True))
        return found

    def _word(self, stop: str, raw: bool = False) -> str:
        self._depth += 1
        if self._depth > _DEPTH:
            raise _BadWord("substitutions are nested too deeply")
        word = "".join(piece for piece, _ in self.pieces(stop, raw))
        self._depth -= 1
        return word

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
        found: list[str] = []
        while (character := self._next()) != '"':
            if not character:
                raise _BadWord("unexpected end of statement while looking for matching double-quote")
            if character == "$":
                found.append(self._variable())
            elif character == self._escape:
                escaped = self._next()
                found.append(escaped if escaped in ('"', "$", self._escape, "") else character + escaped)
            else:
                found.append(character)
        return "".join(found)

    def _variable(self) -> str:
        found = self._replaced()
        self._size += len(found)
        if self._size > LIMIT:
            raise _BadWord(f"the result is longer than {LIMIT} characters")
        return found

    def _replaced(self) -> str:
        if self._text[self._position : self._position + 1] != "{":
            name = self._name()
            return self._value(name) or "" if name else "$"
        self._position += 1
        if self._position == len(self._text):
            raise _BadWord("syntax error: missing '}'")
        if self._text[self._position] in "{}:":
            raise _BadWord("syntax error: bad substitution")
        name = self._name()
        value = self._value(name)
        operator = self._next()
        if operator == "}":
            return value or ""
        if operator == ":":
            return self._chosen(name, value or None, self._next(), known=value is not None)
        if operator and operator in "-+?":
            return self._chosen(name, value, operator, known=value is not None)
        if operator and operator in "#%":
            return self._trimmed(value or "", operator)
        if operator == "/":
            return self._substituted(value or "")
        if not operator:
            raise _BadWord("missing ':' in substitution")
        raise _BadWord(f"unsupported modifier ({operator}) in substitution")

    def _value(self, name: str) -> str | None:
        value = self._variables.get(name)
        if value is None:
            self.missing.add(name)
        elif len(value) > LIMIT:
            raise _BadWord(f"the value of {name} is longer than {LIMIT} characters")
        return value

    def _operand(self, stop: str = "}", raw: bool = False) -> str:
        try:
            return self._word(stop, raw)
        except _BadWord as exc:
            if self._position > len(self._text):
                raise _BadWord(
                    "syntax error: missing '}'" if stop == "}" else "syntax error: missing '/' in ${}"
                ) from exc
            raise

    def _chosen(self, name: str, value: str | None, modifier: str, *, known: bool) -> str:
        word = self._operand()
        if modifier in ("-", "+"):
            self.missing.discard(name)  # a default says that the variable need not be there
        match modifier:
            case "-":
                return word if value is None else value
            case "+":
                return "" if value is None else word
            case "?":
                if value is None:
                    reason = "is not allowed to be empty" if known else "is not allowed to be unset"
                    raise _BadWord(f"{name}: {word or reason}")
                return value
        raise _BadWord(f"unsupported modifier ({modifier}) in substitution")

    def _trimmed(self, value: str, operator: str) -> str:
        word = self._operand(raw=True)
        longest = word.startswith(operator)
        glob = _glob(word[1:] if longest else word)
        return glob.without_prefix(value, longest) if operator == "#" else glob.without_suffix(value, longest)

    def _substituted(self, value: str) -> str:
        everywhere = self._text.startswith("/", self._position)
        self._position += everywhere
        glob = _glob(self._operand("/", raw=True))
        return glob.replace(value, self._operand(raw=True), everywhere=everywhere, limit=LIMIT)

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


def _glob(pattern: str) -> Glob:
    try:
        return Glob(pattern)
    except ValueError as exc:
        raise _BadWord(f"invalid pattern ({pattern}) in substitution: {exc}") from exc


class Variables:
    """The variables that an instruction sees; remembers names that it asked for in vain."""

    def __init__(self, values: Mapping[str, str], escape: str = "\\") -> None:
        self.values = values
        self.missing: set[str] = set()
        self._escape = escape

    def word(self, text: str) -> str:
        """See ``expand``."""
        return expand(text, self.values, escape=self._escape, missing=self.missing)

    def words(self, text: str) -> list[str]:
        """See ``expand_list``."""
        return expand_list(text, self.values, escape=self._escape, missing=self.missing)

    def text(self, text: str) -> str:
        """Replace variables in a heredoc, where quotes mean nothing; the escape character is always the backslash there."""
        return expand(text, self.values, quotes=False, missing=self.missing)
