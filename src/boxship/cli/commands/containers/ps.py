"""``container ls`` (``ps``): the list of containers."""

from __future__ import annotations

import time

from boxship.cli.clock import go_time
from boxship.cli.command import Command
from boxship.cli.flags import FILTER, TABLE_FORMAT, Flag
from boxship.cli.table import Listing, ellipsis, short_id
from boxship.cli.units import decimal_size, human_duration
from boxship.client.engine import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Summary = dict[str, Any]  # an element of GET /containers/json

COMMAND_LENGTH = 20
MOUNT_LENGTH = 15
DEFAULT_FIELDS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n"
    "ports: {{- pad .Ports 1 0}}\n"
)

FLAGS = (
    Flag("all", "bool", "Show all containers", short="a", shown="(default shows just running)"),
    FILTER,
    TABLE_FORMAT,
    Flag(
        "last",
        "int",
        "Show n last created containers (includes all states)",
        short="n",
        default=-1,
        shown="(default -1)",
    ),
    Flag("latest", "bool", "Show the latest created container (includes all states)", short="l"),
    Flag("no-trunc", "bool", "Don't truncate output"),
    Flag("quiet", "bool", "Only display container IDs", short="q"),
    Flag("size", "bool", "Display total file sizes", short="s"),
)


def listing(*, truncate: bool, size: bool) -> Listing:
    """Return how containers are listed, with short or whole IDs and texts."""
    fields = {
        "ID": ("CONTAINER ID", lambda c: short_id(c["Id"]) if truncate else c["Id"]),
        "Names": ("NAMES", lambda c: names(c, truncate=truncate)),
        "Image": ("IMAGE", lambda c: image_name(c, truncate=truncate)),
        "Command": ("COMMAND", lambda c: _quoted(c.get("Command") or "", truncate=truncate)),
        "CreatedAt": ("CREATED AT", lambda c: go_time(c.get("Created") or 0)),
        "RunningFor": ("CREATED", lambda c: human_duration(time.time() - (c.get("Created") or 0)) + " ago"),
        "Ports": ("PORTS", lambda c: ports_text(c.get("Ports") or [])),
        "State": ("STATE", lambda c: c.get("State") or ""),
        "Status": ("STATUS", lambda c: c.get("Status") or ""),
        "Size": ("SIZE", _size_text),
        "Labels": (
            "LABELS",
            lambda c: ",".join(f"{key}={value}" for key, value in sorted((c.get("Labels") or {}).items())),
        ),
        "Mounts": ("MOUNTS", lambda c: ",".join(_mount_names(c, truncate=truncate))),
        "LocalVolumes": (
            "LOCAL VOLUMES",
            lambda c: str(sum(m.get("Driver") == "local" for m in c.get("Mounts") or [])),
        ),
        "Networks": ("NETWORKS", lambda c: ",".join(sorted((c.get("NetworkSettings") or {}).get("Networks") or {}))),
        "Platform": ("PLATFORM", _platform_text),
    }
    names_shown = DEFAULT_FIELDS + (("Size",) if size else ())
    return Listing("*formatter.ContainerContext", fields, names_shown, nullable=("Platform",))


def names(container: Summary, *, truncate: bool = True) -> str:
    """Return the container's names without their slashes; short ones leave out the names that links gave."""
    found = [name.removeprefix("/") for name in container.get("Names") or []]
    if truncate:
        found = [name for name in found if "/" not in name] or found
    return ",".join(found)


def image_name(container: Summary, *, truncate: bool) -> str:
    """Return the image as it was named, a bare ID in its short form."""
    name: str = container.get("Image") or ""
    if not name:
        return "<no image>"
    if truncate:
        image_id: str = container.get("ImageID") or ""
        if name in (image_id, image_id.partition(":")[2]) and short_id(image_id):
            return short_id(image_id)
        name = name.partition("@")[0] if "@" in name and ":" in name.partition("@")[0] else name
    return name


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Return published and exposed ports, runs of neighbours joined: ``0.0.0.0:80-81->80-81/tcp, 443/tcp``."""
    ordered = sorted(
        ports,
        key=lambda p: (p.get("PrivatePort", 0), p.get("IP") or "", p.get("PublicPort") or 0, p.get("Type") or ""),
    )
    runs: dict[str, list[int]] = {}  # first and last port of the run in progress, by address and type
    grouped: list[str] = []
    mapped: list[str] = []
    for port in ordered:
        private, public = port.get("PrivatePort", 0), port.get("PublicPort") or 0
        type, address = port.get("Type") or "", port.get("IP") or ""
        if address and public != private:
            mapped.append(f"{_join(address, str(public))}->{private}/{type}")
            continue
        key = f"{address}/{type}" if address else type
        run = runs.get(key)
        if run and private == run[1] + 1:
            run[1] = private
            continue
        if run:
            grouped.append(_group_text(key, *run))
        runs[key] = [private, private]
    grouped.extend(_group_text(key, *run) for key, run in runs.items())
    return ", ".join(grouped + mapped)


def _group_text(key: str, first: int, last: int) -> str:
    address, slash, type = key.rpartition("/")
    run = str(first) if first == last else f"{first}-{last}"
    return f"{_join(address, run)}->{run}/{type}" if slash else f"{run}/{type}"


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _quoted(command: str, *, truncate: bool) -> str:
    from boxship.cli.quoting import go_quote

    return go_quote(ellipsis(command, COMMAND_LENGTH) if truncate else command)


def _size_text(container: Summary) -> str:
    written = decimal_size(container.get("SizeRw") or 0, 3)
    virtual = container.get("SizeRootFs") or 0
    return f"{written} (virtual {decimal_size(virtual, 3)})" if virtual > 0 else written


def _mount_names(container: Summary, *, truncate: bool) -> list[str]:
    found = [mount.get("Name") or mount.get("Source") or "" for mount in container.get("Mounts") or []]
    return [ellipsis(name, MOUNT_LENGTH) if truncate else name for name in found]


def _platform_text(container: Summary) -> str:
    descriptor = container.get("ImageManifestDescriptor") or {}
    platform = descriptor.get("platform") or {}
    return "/".join(filter(None, (platform.get("os"), platform.get("architecture"), platform.get("variant"))))


def run(session: Session, values: Values) -> int:
    """List containers."""
    format = values.text("format")
    quiet = values.is_set("quiet")
    if not format and not quiet:
        format = session.config.text("psFormat")
    elif format and quiet:
        session.error("WARNING: Ignoring custom format, because both --format and --quiet are set.")
        format = ""
    last = 1 if values.is_set("latest") else values.number("last")
    size = values.is_set("size") or (not quiet and (".Size" in format or "json ." in format))
    query: dict[str, object] = {}
    if values.is_set("all"):
        query["all"] = True
    if last > 0:
        query["limit"] = last
    if size:
        query["size"] = True
    if filters := values.filters():
        query["filters"] = filters_text(filters)
    containers = session.engine.json("GET", "/containers/json", query) or []
    listing(truncate=not values.is_set("no-trunc"), size=values.is_set("size")).show(
        session, containers, format, quiet=quiet, raw=RAW
    )
    return 0


COMMANDS = {"container ls": Command("[OPTIONS]", run, FLAGS)}
