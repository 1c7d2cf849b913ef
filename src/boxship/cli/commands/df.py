"""``system df``: what the engine's objects take on disk."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.cli.flags import TABLE_FORMAT, Flag
from boxship.cli.table import Listing
from boxship.cli.units import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Usage = dict[str, Any]

FLAGS = (TABLE_FORMAT, Flag("verbose", "bool", "Show detailed information on space usage", short="v"))


def _reclaimable(row: Usage) -> str:
    free, size = row["reclaimable"], row["size"]
    text = decimal_size(free)
    return f"{text} ({int(free * 100 / size)}%)" if size > 0 and row["type"] != "Build Cache" else text


LISTING = Listing(
    "*formatter.diskUsageContext",
    {
        "Type": ("TYPE", lambda row: row["type"]),
        "TotalCount": ("TOTAL", lambda row: str(row["total"])),
        "Active": ("ACTIVE", lambda row: str(row["active"])),
        "Size": ("SIZE", lambda row: decimal_size(row["size"])),
        "Reclaimable": ("RECLAIMABLE", _reclaimable),
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    id_field="Type",
)


def summary(usage: Usage) -> list[Usage]:
    """Return one row for each kind of object."""
    images = usage.get("Images") or []
    containers = usage.get("Containers") or []
    volumes = usage.get("Volumes") or []
    cache = usage.get("BuildCache") or []
    layers = usage.get("LayersSize") or 0
    used_images = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0) for image in images if image.get("Containers", 0) > 0
    )
    live = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    sizes = [(v.get("UsageData") or {}).get("Size", -1) for v in volumes]
    in_use = [(v.get("UsageData") or {}).get("RefCount", 0) > 0 for v in volumes]
    return [
        {
            "type": "Images",
            "total": len(images),
            "active": sum(image.get("Containers", 0) > 0 for image in images),
            "size": layers,
            "reclaimable": layers - used_images,
        },
        {
            "type": "Containers",
            "total": len(containers),
            "active": len(live),
            "size": sum(c.get("SizeRw") or 0 for c in containers),
            "reclaimable": sum(c.get("SizeRw") or 0 for c in containers if c not in live),
        },
        {
            "type": "Local Volumes",
            "total": len(volumes),
            "active": sum(in_use),
            "size": sum(size for size in sizes if size > 0),
            "reclaimable": sum(size for size, used in zip(sizes, in_use, strict=True) if size > 0 and not used),
        },
        {
            "type": "Build Cache",
            "total": len(cache),
            "active": sum(bool(record.get("InUse")) for record in cache),
            "size": sum(record.get("Size") or 0 for record in cache if not record.get("Shared")),
            "reclaimable": sum(
                record.get("Size") or 0 for record in cache if not record.get("InUse") and not record.get("Shared")
            ),
        },
    ]


def run(session: Session, values: Values) -> int:
    """Show the summary, or with --verbose every object."""
    usage = session.engine.json("GET", "/system/df") or {}
    if values.is_set("verbose"):
        _verbose(session, usage)
        return 0
    LISTING.show(session, summary(usage), values.text("format"))
    return 0


def _verbose(session: Session, usage: Usage) -> None:
    from boxship.cli.commands.images import listing as image_listing
    from boxship.cli.commands.images import rows
    from boxship.cli.commands.ps import listing as container_listing
    from boxship.cli.commands.volume import LISTING as VOLUMES

    images = list(rows(usage.get("Images") or [], digests=False))
    names = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    session.out("Images space usage:\n\n" + image_listing(truncate=True, digests=False).table(images, names))
    names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    written = [{**container, "SizeRootFs": 0} for container in usage.get("Containers") or []]
    containers = container_listing(truncate=True, size=True).table(written, names)
    session.out("\nContainers space usage:\n\n" + containers)
    session.out(
        "\nLocal Volumes space usage:\n\n" + VOLUMES.table(usage.get("Volumes") or [], ("Name", "Links", "Size"))
    )
    cache = usage.get("BuildCache") or []
    total = decimal_size(sum(record.get("Size") or 0 for record in cache))
    session.out(f"\nBuild cache usage: {total}\n\n")


COMMANDS = {"system df": Command("[OPTIONS]", run, FLAGS)}
