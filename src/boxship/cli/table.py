"""Tables and ``--format`` of the listing commands.

A listing is a row of fields for each object. A field is named as templates name it (``.RunningFor``), has a heading and a
function that makes its text from the object, so that only the fields that are shown are computed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from boxship.cli.command import Session

    Fields = Mapping[str, tuple[str, Callable[[Any], str]]]

MIN_WIDTH = 10
GAP = 3


class Listing:
    """How one kind of object is listed: its fields, those of the default table, and the Go type that errors name.

    ``nullable`` fields are null in JSON when they are empty.
    """

    __slots__ = ("default", "fields", "id_field", "nullable", "type_name")

    def __init__(
        self, type_name: str, fields: Fields, default: Sequence[str], id_field: str = "ID", nullable: Sequence[str] = ()
    ) -> None:
        self.type_name = type_name
        self.fields = fields
        self.default = default
        self.id_field = id_field
        self.nullable = nullable

    def show(
        self,
        session: Session,
        items: Sequence[Any],
        format: str,
        *,
        quiet: bool = False,
        raw: str = "",
        header: bool = True,
    ) -> None:
        """Print the items as ``format`` asks: empty or ``table`` for the default table, ``table TEMPLATE``, ``json``, a
        template, or ``raw`` (``raw`` is the template that stands for it).
        """
        if quiet and format in ("", "table", "raw"):
            text = self.fields[self.id_field][1]
            prefix = "" if format != "raw" else raw_quiet(self.id_field)
            session.out("".join(f"{prefix}{text(item)}\n" for item in items))
            return
        if format in ("", "table"):
            session.out(self.table(items, self.default, header=header))
            return
        from boxship.cli.template.listing import render

        session.out(render(self, items, raw if format == "raw" else format, header=header))

    def table(self, items: Sequence[Any], names: Sequence[str], *, header: bool = True) -> str:
        """Return the table of these fields, headings first."""
        columns = [self.fields[name] for name in names]
        rows = [[heading for heading, _ in columns]] if header else []
        rows.extend([text(item) for _, text in columns] for item in items)
        return align(rows)


def raw_quiet(id_field: str) -> str:
    """Return what stands before an ID in ``raw`` format."""
    return {"ID": "container_id: ", "Name": "name: "}.get(id_field, "")


def align(rows: Sequence[Sequence[str]], *, min_width: int = MIN_WIDTH, gap: int = GAP) -> str:
    """Return rows as lines with their columns aligned; the last column is not padded."""
    widths: list[int] = []
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            width = max(len(cell) + gap, min_width)
            if index == len(widths):
                widths.append(width)
            elif width > widths[index]:
                widths[index] = width
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows)
    return "".join(line + "\n" for line in lines)


def ellipsis(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` characters, the last of them ``…`` when something is missing."""
    if len(text) <= length:
        return text
    return text[: length - 1] + "…" if length > 1 else text[:length]


def short_id(text: str) -> str:
    """Return the first twelve digits of an ID, without its algorithm."""
    return text.partition(":")[2][:12] if ":" in text else text[:12]
