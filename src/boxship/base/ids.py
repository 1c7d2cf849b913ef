"""Identifiers: 64 hexadecimal digits, shown with twelve."""

import os

ID_LENGTH = 64
SHORT_LENGTH = 12


def new_id() -> str:
    """Return a new random id of 64 hexadecimal digits whose short form is not a decimal number.

    A short id of digits only could be taken for a number by tools that accept both (host names, uids).
    """
    while True:
        candidate = os.urandom(ID_LENGTH // 2).hex()
        if not candidate[:SHORT_LENGTH].isdecimal():
            return candidate


def short(id: str) -> str:
    """Return the twelve-digit form of an id; a ``sha256:`` in front is dropped."""
    return id.removeprefix("sha256:")[:SHORT_LENGTH]
