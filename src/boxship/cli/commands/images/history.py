"""``image history``: the steps that made an image."""

from __future__ import annotations

import time

from boxship.cli.clock import local_rfc3339
from boxship.cli.command import Command
from boxship.cli.flags import TABLE_FORMAT, Flag
from boxship.cli.table import Listing, ellipsis, short_id
from boxship.cli.units import decimal_size, human_duration
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

CREATED_BY_LENGTH = 45

FLAGS = (
    TABLE_FORMAT,
    Flag(
        "human",
        "bool",
        "Print sizes and dates in human readable format",
        short="H",
        default=True,
        shown="(default true)",
    ),
    Flag("no-trunc", "bool", "Don't truncate output"),
    Flag(
        "platform",
        "string",
        'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
    Flag("quiet", "bool", "Only show image IDs", short="q"),
)


def listing(*, truncate: bool, human: bool) -> Listing:
    """Return how steps are listed."""

    def since(created: int) -> str:
        if human:
            return human_duration(time.time() - created) + " ago" if created > 0 else "N/A"
        return local_rfc3339(created)

    def created_by(text: str) -> str:
        text = text.replace("\t", " ")
        return ellipsis(text, CREATED_BY_LENGTH) if truncate else text

    fields = {
        "ID": ("IMAGE", lambda h: short_id(h["Id"]) if truncate else h["Id"]),
        "CreatedSince": ("CREATED" if human else "CREATED AT", lambda h: since(h["Created"])),
        "CreatedAt": ("CREATED AT", lambda h: local_rfc3339(h["Created"])),
        "CreatedBy": ("CREATED BY", lambda h: created_by(h["CreatedBy"])),
        "Size": ("SIZE", lambda h: decimal_size(h["Size"], 3) if human else str(h["Size"])),
        "Comment": ("COMMENT", lambda h: h.get("Comment") or ""),
    }
    return Listing("*formatter.historyContext", fields, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"))


def run(session: Session, values: Values) -> int:
    """Show the history of an image, newest step first."""
    query: dict[str, object] = {}
    if values.text("platform"):
        from boxship.cli.reference import platform_json

        session.engine.require("1.48", "--platform")
        query["platform"] = platform_json(values.text("platform"))
    steps = session.engine.json("GET", f"/images/{quote(values.arguments[0], '/:@')}/history", query) or []
    shown = listing(truncate=not values.is_set("no-trunc"), human=values.is_set("human"))
    shown.show(session, steps, values.text("format"), quiet=values.is_set("quiet"))
    return 0


COMMANDS = {"image history": Command("[OPTIONS] IMAGE", run, FLAGS, least=1, most=1)}
