"""One line of comma-separated fields, some of them in double quotes, as ``--mount`` and ``--network`` use it."""

from __future__ import annotations


def split(text: str) -> list[str]:
    """Return the fields of ``text``; a quoted field may hold commas and doubled quotes. Raises ValueError."""
    if '"' not in text:
        return text.split(",") if text else []
    fields: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            field, rest = _quoted(rest[1:])
            if rest and not rest.startswith(","):
                raise ValueError('parse error on line 1, column 1: extraneous or missing " in quoted-field')
        else:
            field = rest.partition(",")[0]
            rest = rest[len(field) :]
            if '"' in field:
                column = text.index('"') + 1
                raise ValueError(f'parse error on line 1, column {column}: bare " in non-quoted-field')
        fields.append(field)
        if not rest:
            return fields
        rest = rest[1:]


def _quoted(text: str) -> tuple[str, str]:
    pieces = []
    while True:
        piece, quote, text = text.partition('"')
        if not quote:
            raise ValueError('parse error on line 1, column 1: extraneous or missing " in quoted-field')
        pieces.append(piece)
        if not text.startswith('"'):
            return "".join(pieces), text
        pieces.append('"')
        text = text[1:]
