"""``--format`` of the commands that list: each object is a row whose fields are texts."""

from __future__ import annotations

from boxship.cli.command import ExitError
from boxship.cli.table import align
from boxship.cli.template.errors import ExecError, ParseError
from boxship.cli.template.execute import Template
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from boxship.cli.table import Listing

TABLE = "table"
HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Row:
    """One object under the names of its listing's fields."""

    __slots__ = ("_item", "_listing")

    def __init__(self, listing: Listing, item: Any) -> None:
        self._listing = listing
        self._item = item

    def field(self, name: str, arguments: list[object]) -> object:
        """Return a field's text; ``.Label "name"`` is the one with an argument."""
        if name == "Label" and "Labels" in self._listing.fields:
            return (self._item.get("Labels") or {}).get(str(arguments[0]), "") if arguments else ""
        if name not in self._listing.fields:
            raise LookupError(f"can't evaluate field {name} in type {self._listing.type_name}")
        if arguments:
            raise LookupError(f"wrong number of args for {name}: want 0 got {len(arguments)}")
        return self._listing.fields[name][1](self._item)

    def as_json(self) -> str:
        """Return all fields as an object, as ``{{json .}}`` shows them."""
        texts = {
            name: text(self._item) or self._empty(name) for name, (_, text) in sorted(self._listing.fields.items())
        }
        return "".join(HTML.get(letter, letter) for letter in jsontext.dumps(texts))

    def _empty(self, name: str) -> str | None:
        return None if name in self._listing.nullable else ""


class _Header:
    """The headings of a table, which are the same template's text over the names instead of an object."""

    __slots__ = ("_listing",)

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def field(self, name: str, arguments: list[object]) -> object:
        if name == "Label" and arguments:
            return str(arguments[0]).rpartition(".")[2].replace("-", " ").replace("_", " ")
        return self._listing.fields[name][0] if name in self._listing.fields else NO_HEADING


NO_HEADING = "<no value>"


def render(listing: Listing, items: Sequence[Any], format: str, *, header: bool = True) -> str:
    """Return the items through ``format``: ``table TEMPLATE``, ``json`` or a template. Raises ExitError."""
    format = format.strip(" ")
    is_table = format == TABLE or format.startswith(TABLE + " ")
    source = "{{json .}}" if format == "json" else format.removeprefix(TABLE).lstrip() if is_table else format
    source = source.replace("\\t", "\t").replace("\\n", "\n")
    try:
        template = Template(source)
    except ParseError as exc:
        raise ExitError(f"failed to parse template: {exc}") from exc
    try:
        lines = [template.render(Row(listing, item)) + "\n" for item in items]
        if is_table and header:
            lines.insert(0, template.render(_Header(listing)) + "\n")
    except ExecError as exc:
        raise ExitError(f"failed to execute template: {exc}") from exc
    text = "".join(lines)
    return align([line.split("\t") for line in text.splitlines()]) if is_table else text
