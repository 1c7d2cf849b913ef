"""Shell sessions as tests: what a person types after ``$``, and below it what must come back.

    ## 57 a name of its own
    $ docker run --rm --hostname=mycontainer.example.com ubuntu hostname -f
    mycontainer.example.com

Lines of output are literal but for ``<id64>`` and ``<id12>`` (hexadecimal), ``<*>`` (anything within the line) and a line
``...`` (any lines). Standard error counts as output. ``[N]`` is the exit status when it is not 0. A session is one shell: its
variables and directory last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "\036"
PRELUDE = """
curl() { busybox wget -qO- "$@"; }
eventually() { tries=0; until "$@" >/dev/null 2>&1; do sleep 0.05; tries=$((tries + 1)); [ $tries -lt 400 ] || return 1; done; }
"""
PATTERNS = {"<id64>": "[0-9a-f]{64}", "<id12>": "[0-9a-f]{12}", "<*>": ".*"}


@dataclass
class Step:
    """One command line with its expected output."""

    command: str
    expected: list[str] = field(default_factory=list)
    status: int = 0

    def matches(self, output: str) -> bool:
        """Tell whether the output is what is expected."""
        parts = [r"(?:.*\n)*" if line == "..." else _pattern(line) + r"\n" for line in self.expected]
        return re.fullmatch("".join(parts), output) is not None


@dataclass
class Session:
    """An example: its number, its title, its steps."""

    number: int
    title: str
    steps: list[Step] = field(default_factory=list)

    def script(self) -> str:
        """Return the shell script that runs all steps and marks where each ends, with its exit status."""
        lines = [f"{{ {step.command}\n}} 2>&1\nprintf '{MARK}%d{MARK}' $?" for step in self.steps]
        return PRELUDE + "\n".join(lines)

    def check(self, output: str) -> None:
        """Compare the script's output, step by step; raises AssertionError for the first difference."""
        found = re.findall(f"([^{MARK}]*){MARK}(\\d+){MARK}", output)
        assert len(found) == len(self.steps), f"the shell ended early: {output[-2000:]!r}"
        for step, (text, status) in zip(self.steps, found, strict=True):
            text = text.replace("\r\n", "\n")
            if text and not text.endswith("\n"):
                text += "\n"
            assert int(status) == step.status, f"$ {step.command}\nexit status {status}\n{text}"
            assert step.matches(text), f"$ {step.command}\n{text}instead of\n" + "\n".join(step.expected)


def read(paths: Sequence[Path]) -> list[Session]:
    """Return all sessions of some files."""
    return [session for path in paths for session in _parse(path.read_text())]


def _parse(text: str) -> Iterator[Session]:
    session: Session | None = None
    for line in text.splitlines():
        if line.startswith("## "):
            if session is not None:
                yield session
            number, _, title = line[3:].partition(" ")
            session = Session(int(number), title)
        elif session is None or not line:
            continue
        elif line.startswith("$ "):
            session.steps.append(Step(line[2:]))
        elif line.startswith("> "):
            session.steps[-1].command += "\n" + line[2:]
        elif match := re.fullmatch(r"\[(\d+)\]", line):
            session.steps[-1].status = int(match[1])
        else:
            session.steps[-1].expected.append(line)
    if session is not None:
        yield session


def _pattern(line: str) -> str:
    escape: Callable[[str], str] = re.escape
    return "".join(PATTERNS.get(part) or escape(part) for part in re.split(r"(<id64>|<id12>|<\*>)", line))
