"""Lines of a Dockerfile become instructions: directives, comments, continuation, flags, heredocs."""

from __future__ import annotations

import re

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.dockerfile import arguments
from boxship.spec.dockerfile.errors import DockerfileError, excerpt
from boxship.spec.dockerfile.words import expand_list

LIMIT = 4096  # instructions of a file, and SIZE bytes: what a build holds grows with the square of them
SIZE = 4 << 20

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.*)", re.ASCII)
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)", re.ASCII)
_DIRECTIVES = ("syntax", "escape", "check")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


class Heredoc(msgspec.Struct, frozen=True, kw_only=True):
    """Text in the lines behind an instruction. ``data`` has the lines as they stand, the last line's end too."""

    name: str  # without quotes
    data: str
    expand: bool  # no part of the name is quoted
    chomp: bool  # <<-: leading tabs go

    @property
    def text(self) -> str:
        """What the heredoc says: without leading tabs if it is to be so."""
        return re.sub(r"(?m)^\t+", "", self.data) if self.chomp else self.data


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction as it is written, continued lines joined."""

    keyword: str  # upper case
    written: str  # the keyword as it is written
    flags: tuple[str, ...]
    arguments: str  # behind the flags
    text: str  # all of it, without heredocs: what the classic builder shows
    line: int  # from 1
    end_line: int
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()  # right above, without "#"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A Dockerfile, read but not understood."""

    name: str
    lines: list[str]  # as they stand in the file
    instructions: tuple[Line, ...]
    escape: str
    syntax: str  # of the directive
    check: str
    empty_continuations: tuple[int, ...]  # lines

    def error(self, message: str, line: int, end_line: int = 0, word: str = "") -> DockerfileError:
        """Make the error that shows these lines; ``word`` gets the caret."""
        end_line = end_line or line
        shown = excerpt(self.name, self.lines, line, end_line, word)
        return DockerfileError(message, name=self.name, line=line, end_line=end_line, excerpt=shown)


def read(data: bytes, name: str = "Dockerfile") -> Source:
    """Split a Dockerfile into instructions. Raises DockerfileError.

    Bytes that are not UTF-8 are kept in heredocs, as ``os.fsdecode`` does, and replaced elsewhere.
    """
    if len(data) > SIZE:
        raise DockerfileError(f"longer than {SIZE} bytes", name=name)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    raw = text.split("\n")
    if raw and not raw[-1]:
        raw.pop()
    return _Reader(name, raw).read()


class _Reader:
    def __init__(self, name: str, raw: list[str]) -> None:
        self._raw = raw  # without "\n", maybe with "\r"
        self._source = Source(
            name=name,
            lines=[line.rstrip("\r") for line in raw],
            instructions=(),
            escape="\\",
            syntax="",
            check="",
            empty_continuations=(),
        )
        self._directives: dict[str, str] = {}
        self._position = 0
        self._empty: list[int] = []

    def read(self) -> Source:
        self._read_directives()
        escape = self._directives.get("escape", "\\")
        self._escape = escape
        found: list[Line] = []
        comments: list[str] = []
        while self._position < len(self._raw):
            stripped = self._source.lines[self._position].lstrip()
            if stripped.startswith("#"):
                comment = text_only(stripped[1:].strip())
                if comment:
                    comments.append(comment)
                else:
                    comments = []
                self._position += 1
            elif not stripped:
                comments = []
                self._position += 1
            else:
                instruction = self._instruction(tuple(comments))
                comments = []
                if instruction is not None:
                    found.append(instruction)
                    if len(found) > LIMIT:
                        raise self._source.error(f"more than {LIMIT} instructions", instruction.line)
        if not found:
            message = "file with no instructions"
            raise self._source.error(message, max(1, len(self._raw)))
        return msgspec.structs.replace(
            self._source,
            instructions=tuple(found),
            escape=escape,
            syntax=self._directives.get("syntax", ""),
            check=self._directives.get("check", ""),
            empty_continuations=tuple(self._empty),
        )

    def _read_directives(self) -> None:
        """Read the comments at the top that are directives; the first line that is none ends them."""
        for number, line in enumerate(self._source.lines, 1):
            match = _DIRECTIVE.fullmatch(line.strip())
            name = match[1].lower() if match else ""
            if match is None or name not in _DIRECTIVES or not match[2]:
                return
            if name in self._directives:
                raise self._source.error(f"only one {name} parser directive can be used", number)
            if name == "escape" and match[2] not in ("\\", "`"):
                raise self._source.error(
                    f"invalid escape token '{match[2]}' does not match ` or \\", number, word=match[2]
                )
            self._directives[name] = text_only(match[2])
            self._position = number

    def _instruction(self, comments: tuple[str, ...]) -> Line | None:
        first = self._position
        text, continued = self._unbroken(self._source.lines[first].lstrip())
        pieces = [text]
        self._position += 1
        while continued and self._position < len(self._raw):
            line = self._source.lines[self._position]
            self._position += 1
            if line.lstrip().startswith("#"):
                continue
            if not line.strip():
                self._empty.append(self._position)
                continue
            text, continued = self._unbroken(line)
            pieces.append(text)
        joined = text_only("".join(pieces).strip())
        if not joined:
            return None
        written, rest = arguments.split_keyword(joined)
        flags, rest = arguments.split_flags(rest)
        keyword = written.upper()
        heredocs = self._heredocs(keyword, rest, first + 1)
        return Line(
            keyword=keyword,
            written=written,
            flags=flags,
            arguments=rest,
            text=joined,
            line=first + 1,
            end_line=self._position,
            heredocs=heredocs,
            comments=comments,
        )

    def _unbroken(self, line: str) -> tuple[str, bool]:
        """Return the line without the escape character at its end, and whether there was one."""
        stripped = line.rstrip(" \t")
        if stripped.endswith(self._escape) and not stripped.endswith(self._escape * 2):
            return stripped[:-1], True
        return line, False

    def _heredocs(self, keyword: str, rest: str, line: int) -> tuple[Heredoc, ...]:
        if keyword == "ONBUILD":
            keyword, rest = arguments.split_keyword(rest)
            keyword, rest = keyword.upper(), arguments.split_flags(rest)[1]
        if keyword not in _WITH_HEREDOCS or "<<" not in rest:
            return ()
        try:
            if arguments.exec_form(rest) is not None:
                return ()
        except arguments.Malformed:
            return ()
        return tuple(
            msgspec.structs.replace(begun, data=self._body(begun, line))
            for begun in filter(None, map(heredoc, arguments.words(rest, self._escape)))
        )

    def _body(self, begun: Heredoc, line: int) -> str:
        start = self._position
        while self._position < len(self._raw):
            end = self._source.lines[self._position]
            self._position += 1
            if (end.lstrip("\t") if begun.chomp else end) == begun.name:
                return "".join(f"{each}\n" for each in self._raw[start : self._position - 1])
        raise self._source.error("unterminated heredoc", line, len(self._raw), f"<<{begun.name}")


def text_only(text: str) -> str:
    """Return the text with the replacement character for bytes that are not UTF-8: no JSON document could hold them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def heredoc(word: str) -> Heredoc | None:
    """Return the heredoc that a word begins, without its text; None when it begins none."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    try:
        names = expand_list(match[3], {})
    except InvalidInput:
        return None
    if len(names) != 1:
        return None
    quoted = any(character in match[3] for character in "'\"\\")
    return Heredoc(name=names[0], data="", expand=not quoted, chomp=bool(match[2]))
