"""``volume ls``, ``create`` and ``rm``."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError, each
from boxship.cli.flags import TABLE_FORMAT, Flag, check_filter
from boxship.cli.options.checks import check_label
from boxship.cli.options.document import pairs
from boxship.cli.table import Listing
from boxship.client.engine import filters_text, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

LS_FLAGS = (
    Flag("cluster", "bool", "Display only cluster volumes, and use cluster volume list formatting", hidden=True),
    Flag("filter", "filter", 'Provide filter values (e.g. "dangling=true")', short="f", check=check_filter),
    TABLE_FORMAT,
    Flag("quiet", "bool", "Only display volume names", short="q"),
)
CREATE_FLAGS = (
    Flag(
        "driver",
        "string",
        "Specify volume driver name",
        short="d",
        default="local",
        shown='(default "local")',
    ),
    Flag("label", "list", "Set metadata for a volume", check=check_label),
    Flag("name", "string", "Specify volume name", hidden=True),
    Flag("opt", "map", "Set driver specific options", short="o", shown="(default map[])"),
)
RM_FLAGS = (Flag("force", "bool", "Force the removal of one or more volumes", short="f"),)


def _size(volume: dict[str, Any]) -> str:
    from boxship.cli.units import decimal_size

    usage = volume.get("UsageData")
    return decimal_size(usage["Size"], 4) if usage and usage.get("Size", -1) >= 0 else "N/A"


def _links(volume: dict[str, Any]) -> str:
    usage = volume.get("UsageData")
    return str(usage["RefCount"]) if usage else "N/A"


LISTING = Listing(
    "*formatter.volumeContext",
    {
        "Name": ("VOLUME NAME", lambda v: v["Name"]),
        "Driver": ("DRIVER", lambda v: v["Driver"]),
        "Scope": ("SCOPE", lambda v: v["Scope"]),
        "Mountpoint": ("MOUNTPOINT", lambda v: v["Mountpoint"]),
        "Labels": ("LABELS", lambda v: ",".join(f"{k}={x}" for k, x in sorted((v.get("Labels") or {}).items()))),
        "Links": ("LINKS", _links),
        "Size": ("SIZE", _size),
        "Availability": ("AVAILABILITY", lambda _: "N/A"),
        "Group": ("GROUP", lambda _: "N/A"),
        "Status": ("STATUS", lambda _: "N/A"),
    },
    ("Driver", "Name"),
    id_field="Name",
)


def ls(session: Session, values: Values) -> int:
    """List volumes."""
    filters = values.filters()
    query = {"filters": filters_text(filters)} if filters else {}
    volumes = (session.engine.json("GET", "/volumes", query) or {}).get("Volumes") or []
    volumes.sort(key=lambda volume: volume["Name"])
    format, quiet = values.text("format"), values.is_set("quiet")
    if not format and not quiet:
        format = session.config.text("volumesFormat")
    LISTING.show(session, volumes, format, quiet=quiet, raw="name: {{.Name}}\ndriver: {{.Driver}}\n")
    return 0


def create(session: Session, values: Values) -> int:
    """Create a volume and print its name."""
    name = values.arguments[0] if values.arguments else ""
    if values.text("name"):
        if name:
            raise ExitError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = values.text("name")
    document = {
        "Driver": values.text("driver"),
        "DriverOpts": pairs(values.many("opt")),
        "Labels": pairs(values.many("label")),
        "Name": name,
    }
    session.line(session.engine.json("POST", "/volumes/create", None, {k: v for k, v in document.items() if v})["Name"])
    return 0


def remove(session: Session, values: Values) -> int:
    """Remove volumes."""
    query = {"force": True} if values.is_set("force") else {}

    def delete(name: str) -> str:
        session.engine.json("DELETE", f"/volumes/{quote(name)}", query)
        return name

    return each(session, values.arguments, delete)


COMMANDS = {
    "volume ls": Command("[OPTIONS]", ls, LS_FLAGS),
    "volume create": Command("[OPTIONS] [VOLUME]", create, CREATE_FLAGS, most=1),
    "volume rm": Command("[OPTIONS] VOLUME [VOLUME...]", remove, RM_FLAGS, least=1, most=None),
}
