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


# Field of newer engines' totals, the name of the row, and older engines' field of the objects themselves.
KINDS = (
    ("ImageUsage", "Images", "Images"),
    ("ContainerUsage", "Containers", "Containers"),
    ("VolumeUsage", "Local Volumes", "Volumes"),
    ("BuildCacheUsage", "Build Cache", "BuildCache"),
)
TOTALS_SINCE = "1.52"  # older engines send the objects, and the client adds up


def summary(usage: Usage) -> list[Usage]:
    """Return one row for each kind of object."""
    rows = []
    for field, name, _ in KINDS:
        totals = usage.get(field) or {}
        rows.append(
            {
                "type": name,
                "total": totals.get("TotalCount") or 0,
                "active": totals.get("ActiveCount") or 0,
                "size": totals.get("TotalSize") or 0,
                "reclaimable": totals.get("Reclaimable") or 0,
            }
        )
    return rows


def totals(usage: Usage) -> Usage:
    """Return an older engine's answer in the form of newer ones: totals, with the objects as their items."""
    images = usage.get("Images") or []
    containers = usage.get("Containers") or []
    volumes = usage.get("Volumes") or []
    cache = usage.get("BuildCache") or []
    layers = usage.get("LayersSize") or 0
    used = [image for image in images if image.get("Containers", 0) > 0]
    live = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    mounted = [v for v in volumes if (v.get("UsageData") or {}).get("RefCount", 0) > 0]
    own = [record for record in cache if not record.get("Shared")]
    return {
        "ImageUsage": _totals(images, used, layers, layers - sum(_own_size(image) for image in used)),
        "ContainerUsage": _totals(
            containers, live, sum(map(_written, containers)), sum(_written(c) for c in containers if c not in live)
        ),
        "VolumeUsage": _totals(
            volumes, mounted, sum(map(_volume_size, volumes)), sum(_volume_size(v) for v in volumes if v not in mounted)
        ),
        "BuildCacheUsage": _totals(
            cache,
            [record for record in cache if record.get("InUse")],
            sum(record.get("Size") or 0 for record in own),
            sum(record.get("Size") or 0 for record in own if not record.get("InUse")),
        ),
    }


def _totals(items: list[Usage], active: list[Usage], size: int, reclaimable: int) -> Usage:
    return {
        "TotalCount": len(items),
        "ActiveCount": len(active),
        "TotalSize": size,
        "Reclaimable": reclaimable,
        "Items": items,
    }


def _own_size(image: Usage) -> int:
    return int(image["Size"] - max(image.get("SharedSize", 0), 0))


def _written(container: Usage) -> int:
    return int(container.get("SizeRw") or 0)


def _volume_size(volume: Usage) -> int:
    return int(max((volume.get("UsageData") or {}).get("Size", -1), 0))


def run(session: Session, values: Values) -> int:
    """Show the summary, or with --verbose every object."""
    verbose = values.is_set("verbose")
    newer = session.engine.speaks(TOTALS_SINCE)
    usage = session.engine.json("GET", "/system/df", {"verbose": True} if newer and verbose else {}) or {}
    if not newer:
        usage = totals(usage)
    if verbose:
        _verbose(session, usage)
        return 0
    LISTING.show(session, summary(usage), values.text("format"))
    return 0


def _verbose(session: Session, usage: Usage) -> None:
    from boxship.cli.commands.containers.ps import listing as container_listing
    from boxship.cli.commands.images.images import listing as image_listing
    from boxship.cli.commands.images.images import rows
    from boxship.cli.commands.volumes.volume import LISTING as VOLUMES

    items = {name: (usage.get(field) or {}).get("Items") or [] for field, _, name in KINDS}
    images = list(rows(items["Images"], digests=False))
    names = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    session.out("Images space usage:\n\n" + image_listing(truncate=True, digests=False).table(images, names))
    names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    written = [{**container, "SizeRootFs": 0} for container in items["Containers"]]
    containers = container_listing(truncate=True, size=True).table(written, names)
    session.out("\nContainers space usage:\n\n" + containers)
    session.out("\nLocal Volumes space usage:\n\n" + VOLUMES.table(items["Volumes"], ("Name", "Links", "Size")))
    total = decimal_size((usage.get("BuildCacheUsage") or {}).get("TotalSize") or 0)
    session.out(f"\nBuild cache usage: {total}\n\n")
    _parts(session)


GIVEN_BACK = {
    "image layer": "image prune -a",
    "image blob": "image prune -a",
    "writable layer": "container prune",
    "container log": "container prune",
    "container file": "container prune",
    "checkpoint": "checkpoint rm",
    "volume": "volume prune -a",
    "interrupted download": "image prune",
    "quarantine": "system fsck --repair",
    "leftover": "system fsck --repair",
}
PARTS = Listing(
    "*formatter.diskPartsContext",
    {
        "Kind": ("KIND", lambda row: row["Kind"]),
        "Count": ("COUNT", lambda row: str(row["Count"])),
        "Size": ("ON DISK", lambda row: decimal_size(row["Size"])),
        "GivenBack": ("GIVEN BACK BY", lambda row: GIVEN_BACK.get(row["Kind"], "")),
    },
    ("Kind", "Count", "Size", "GivenBack"),
)


def _parts(session: Session) -> None:
    """Show what all bytes below the data root are for, where the engine tells it (others than Boxship don't)."""
    from boxship.client.errors import ApiError

    try:
        disk: Usage = session.engine.json("GET", "/boxship/disk") or {}
    except ApiError:
        return
    session.out(
        f"Files below {disk['Root']}: {decimal_size(disk['Total'])}\n\n"
        + PARTS.table(by_kind(disk["Parts"]), PARTS.default)
    )


def by_kind(parts: list[Usage]) -> list[Usage]:
    """Return one row for each kind of part, the largest first."""
    rows: dict[str, Usage] = {}
    for part in parts:
        row = rows.setdefault(part["Kind"], {"Kind": part["Kind"], "Count": 0, "Size": 0})
        row["Count"] += 1
        row["Size"] += part["Size"]
    return sorted(rows.values(), key=lambda row: -int(row["Size"]))


COMMANDS = {"system df": Command("[OPTIONS]", run, FLAGS)}
