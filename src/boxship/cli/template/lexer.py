"""The words of a template: pieces of text, and inside ``{{ }}`` fields, variables, literals and punctuation."""

from __future__ import annotations

from boxship.cli.template.errors import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT, RIGHT = "{{", "}}"
SPACE = " \t\r\n"
KEYWORDS = frozenset(("if", "else", "end", "range", "with", "break", "continue", "nil"))
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}


class Token:
    """One word: ``kind`` is text, open, close, space, field, variable, word, keyword, string, char, number or mark.

    ``value`` is what it stands for, ``source`` how it was written, ``at`` its offset in the template.
    """

    __slots__ = ("at", "kind", "source", "value")

    def __init__(self, kind: str, value: str, source: str, at: int) -> None:
        self.kind = kind
        self.value = value
        self.source = source
        self.at = at


def error_at(text: str, at: int, problem: str) -> ParseError:
    """Return the error at an offset of the template."""
    return ParseError(f"template: :{text.count(chr(10), 0, at) + 1}: {problem}")


def tokens(text: str) -> Iterator[Token]:
    """Yield the template's tokens. Raises ParseError."""
    at = 0
    trim = False
    while True:
        start = text.find(LEFT, at)
        piece = text[at:] if start < 0 else text[at:start]
        if trim:
            piece = piece.lstrip(SPACE)
        if start >= 0 and _trims_left(text, start + 2):
            piece = piece.rstrip(SPACE)
        if piece:
            yield Token("text", piece, piece, at)
        if start < 0:
            return
        inside = start + 2 + (1 if _trims_left(text, start + 2) else 0)
        comment = inside
        while comment < len(text) and text[comment] in SPACE and comment > start + 2:
            comment += 1
        if text.startswith("/*", comment):
            at, trim = _skip_comment(text, comment)
            continue
        yield Token("open", LEFT, LEFT, start)
        lexer = _Action(text, inside)
        yield from lexer.tokens()
        at, trim = lexer.at, lexer.trims


def _trims_left(text: str, at: int) -> bool:
    return text[at : at + 1] == "-" and text[at + 1 : at + 2] in tuple(SPACE)


def _skip_comment(text: str, at: int) -> tuple[int, bool]:
    end = text.find("*/", at + 2)
    if end < 0:
        raise error_at(text, at, "unclosed comment")
    end += 2
    if text.startswith(" -" + RIGHT, end):
        return end + 4, True
    if not text.startswith(RIGHT, end):
        raise error_at(text, at, "comment ends before closing delimiter")
    return end + 2, False


class _Action:
    """The inside of one pair of braces."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at
        self.trims = False
        self._depth = 0

    def tokens(self) -> Iterator[Token]:
        text = self._text
        while True:
            if self._closes():
                if self._depth:
                    raise error_at(text, self.at, "unclosed left paren")
                yield Token("close", RIGHT, RIGHT, self.at - 2)
                return
            if self.at >= len(text):
                raise error_at(text, self.at, "unclosed action")
            letter = text[self.at]
            if letter in SPACE:
                end = self._run(SPACE)
                yield self._token("space", end)
            elif letter == '"':
                yield self._quoted()
            elif letter == "`":
                yield self._raw()
            elif letter == "'":
                yield self._char()
            elif letter == "$":
                end = self._word_end(self.at + 1)
                yield self._token("variable", end)
            elif letter == "." and (self.at + 1 >= len(text) or not text[self.at + 1].isdecimal()):
                end = self._word_end(self.at + 1)
                yield self._token("field" if end > self.at + 1 else "mark", end)
            elif letter.isdecimal() or letter in "+-.":
                yield self._token("number", self._number_end())
            elif letter == "_" or letter.isalpha():
                end = self._word_end(self.at)
                yield self._token("keyword" if text[self.at : end] in KEYWORDS else "word", end)
            elif text.startswith(":=", self.at):
                yield self._token("mark", self.at + 2)
            elif letter in "|(),=":
                self._depth += {"(": 1, ")": -1}.get(letter, 0)
                if self._depth < 0:
                    raise error_at(text, self.at, "unexpected right paren")
                yield self._token("mark", self.at + 1)
            else:
                raise error_at(text, self.at, f"unexpected {_unicode(letter)} in operand")

    def _closes(self) -> bool:
        text = self._text
        if text[self.at : self.at + 1] in tuple(SPACE) and text.startswith("-" + RIGHT, self.at + 1):
            self.trims = True
            self.at += 4
            return True
        if text.startswith(RIGHT, self.at):
            self.at += 2
            return True
        return False

    def _token(self, kind: str, end: int) -> Token:
        start, self.at = self.at, end
        source = self._text[start:end]
        return Token(kind, source, source, start)

    def _run(self, letters: str) -> int:
        end = self.at
        # A blank before "-}}" belongs to the closing braces.
        while end < len(self._text) and self._text[end] in letters and not self._text.startswith("-" + RIGHT, end + 1):
            end += 1
        return max(end, self.at + 1)

    def _word_end(self, at: int) -> int:
        while at < len(self._text) and (self._text[at] == "_" or self._text[at].isalnum()):
            at += 1
        return at

    def _number_end(self) -> int:
        end = self.at + 1
        while end < len(self._text) and (self._text[end].isalnum() or self._text[end] in "._"):
            end += 1
        source = self._text[self.at : end]
        try:
            _number(source)
        except ValueError:
            raise error_at(self._text, self.at, f'bad number syntax: "{source}"') from None
        return end

    def _quoted(self) -> Token:
        start = self.at
        at = start + 1
        value = []
        while True:
            letter = self._text[at : at + 1]
            if letter in ("", "\n"):
                raise error_at(self._text, start, "unterminated quoted string")
            if letter == '"':
                break
            if letter == "\\":
                piece, at = self._escape(at + 1, start)
                value.append(piece)
                continue
            value.append(letter)
            at += 1
        self.at = at + 1
        return Token("string", "".join(value), self._text[start : self.at], start)

    def _escape(self, at: int, start: int) -> tuple[str, int]:
        letter = self._text[at : at + 1]
        if letter in ESCAPES:
            return ESCAPES[letter], at + 1
        if letter in HEX_LENGTHS:
            digits = self._text[at + 1 : at + 1 + HEX_LENGTHS[letter]]
            try:
                return chr(int(digits, 16)), at + 1 + len(digits)
            except (ValueError, OverflowError):
                pass
        raise error_at(self._text, start, "invalid syntax")

    def _raw(self) -> Token:
        end = self._text.find("`", self.at + 1)
        if end < 0:
            raise error_at(self._text, self.at, "unterminated raw quoted string")
        start, self.at = self.at, end + 1
        source = self._text[start : self.at]
        return Token("string", source[1:-1], source, start)

    def _char(self) -> Token:
        start = self.at
        if self._text[start + 1 : start + 2] == "\\":
            value, end = self._escape(start + 2, start)
        else:
            value, end = self._text[start + 1 : start + 2], start + 2
        if self._text[end : end + 1] != "'" or not value:
            raise error_at(self._text, start, "unterminated character constant")
        self.at = end + 1
        return Token("number", str(ord(value)), self._text[start : self.at], start)


def _number(source: str) -> int | float:
    try:
        return int(source, 0)
    except ValueError:
        if "x" in source.lower() or source.lower().strip("+-")[:1] in ("i", "n"):
            raise
        return float(source)


def number(token: Token) -> int | float:
    """Return the value of a number token."""
    return _number(token.value)


def _unicode(letter: str) -> str:
    return f"U+{ord(letter):04X} {letter!r}"
