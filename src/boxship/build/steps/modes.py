"""Modes of ``--chmod``: octal, or symbolic as chmod(1) takes them."""

from __future__ import annotations

import re
from collections.abc import Callable

from boxship.base.errors import InvalidInput

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)", re.ASCII)
_ACTION = re.compile(r"([-+=])([rwxXst]*)", re.ASCII)
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}

Change = Callable[[int, bool], int]
"""From the mode that a file has, and whether it is a directory, to the mode that it gets."""


def parse(text: str) -> Change:
    """Return what ``--chmod=TEXT`` does. Raises InvalidInput."""
    if re.fullmatch("[0-7]{1,4}", text, re.ASCII):
        return lambda _mode, _directory: int(text, 8)
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise InvalidInput(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")

    def change(mode: int, directory: bool) -> int:
        for clause in clauses:
            assert clause is not None
            who = 0
            for name in clause[1] or "a":
                who |= _WHO[name]
            for action, letters in _ACTION.findall(clause[2]):
                bits = 0
                for letter in letters:
                    if letter == "X":
                        bits |= 0o111 if directory or mode & 0o111 else 0
                    else:
                        bits |= _BITS[letter]
                bits &= who
                mode = mode & ~bits if action == "-" else (mode & ~who if action == "=" else mode) | bits
        return mode

    return change
