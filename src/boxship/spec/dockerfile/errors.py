"""What is wrong in a Dockerfile, and where."""

from __future__ import annotations

from boxship.base.errors import InvalidInput

_AROUND = 2  # lines of context on each side of an excerpt
_WIDTH = 200  # characters of a line that an excerpt shows


class DockerfileError(InvalidInput):
    """A Dockerfile cannot be built. The text is what Docker says; ``excerpt`` shows the place to a person."""

    def __init__(
        self, message: str, *, name: str = "Dockerfile", line: int = 0, end_line: int = 0, excerpt: str = ""
    ) -> None:
        super().__init__(message)
        self.name = name
        self.line = line  # from 1; 0: the file as a whole
        self.end_line = end_line or line
        self.excerpt = excerpt


def excerpt(name: str, lines: list[str], line: int, end_line: int, word: str = "") -> str:
    """Return the lines from ``line`` to ``end_line`` (from 1) with those around them, and a caret below ``word`` if it is there."""
    first, last = max(1, line - _AROUND), min(len(lines), end_line + _AROUND)
    rows = [f"{name}:{line}", "--------------------"]
    for number in range(first, last + 1):
        text = lines[number - 1].expandtabs(4)[:_WIDTH]
        inside = line <= number <= end_line
        rows.append(f"{number:4} | {'>>>' if inside else '   '} {text}".rstrip())
        if inside and word and word in text:
            rows.append(f"     |     {' ' * text.index(word)}{'^' * len(word)}")
            word = ""
    return "\n".join([*rows, "--------------------"])
