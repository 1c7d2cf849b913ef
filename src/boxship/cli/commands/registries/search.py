"""``search``: find images in Docker Hub's index, or in the catalogue of a registry."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.cli.credentials import registry_auth
from boxship.cli.flags import Flag
from boxship.cli.table import Listing
from boxship.client.engine import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("filter", "filter", "Filter output based on conditions provided", short="f"),
    Flag("format", "string", "Pretty-print search using a Go template"),
    Flag("limit", "int", "Max number of search results"),
    Flag("no-trunc", "bool", "Don't truncate output"),
)
_WIDE = 45  # characters of a description


def run(session: Session, values: Values) -> int:
    """Print what was found."""
    term = values.arguments[0]
    query: dict[str, object] = {"term": term}
    if "limit" in values.changed:
        query["limit"] = values.number("limit")
    if filters := values.filters():
        query["filters"] = filters_text(filters)
    head, slash, _ = term.partition("/")
    domain = head if slash and (set(".:") & set(head) or head == "localhost") else ""
    headers = {"X-Registry-Auth": registry_auth(session, domain)}
    from boxship.client import jsontext

    found = jsontext.loads(session.engine.stream("GET", "/images/search", query, headers=headers).read())
    whole = values.is_set("no-trunc")

    def description(row: Any) -> str:
        text = " ".join(str(row["description"]).split())
        return text if whole or len(text) <= _WIDE else text[: _WIDE - 1] + "…"

    listing = Listing(
        "*search.Context",
        {
            "Name": ("NAME", lambda row: str(row["name"])),
            "Description": ("DESCRIPTION", description),
            "StarCount": ("STARS", lambda row: str(row["star_count"])),
            "IsOfficial": ("OFFICIAL", lambda row: "[OK]" if row["is_official"] else ""),
            "IsAutomated": ("AUTOMATED", lambda row: "[OK]" if row["is_automated"] else ""),
        },
        ("Name", "Description", "StarCount", "IsOfficial"),
        "Name",
    )
    listing.show(session, sorted(found, key=lambda row: -row["star_count"]), values.text("format"))
    return 0


COMMANDS = {"search": Command("[OPTIONS] TERM", run, FLAGS, least=1, most=1)}
