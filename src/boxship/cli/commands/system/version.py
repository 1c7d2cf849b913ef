"""``version``: client and server, and how they agree on an API version."""

from __future__ import annotations

import os
import sys
import time

from boxship import __version__
from boxship.cli.clock import parse_rfc3339
from boxship.cli.command import Command
from boxship.cli.flags import JSON_FORMAT
from boxship.cli.table import align
from boxship.cli.units import SECOND
from boxship.client.engine import NEWEST_API_VERSION
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

WIDTH = 20
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


def client_document(session: Session, api_version: str) -> dict[str, Any]:
    """Return what is known of this program, under the names that Docker's templates use.

    The interpreter stands where Docker names its Go version.
    """
    system = os.uname()
    return {
        "Version": __version__,
        "ApiVersion": api_version,
        "DefaultAPIVersion": NEWEST_API_VERSION,
        "GitCommit": "boxship",
        "GoVersion": "python" + ".".join(str(part) for part in sys.version_info[:3]),
        "Os": system.sysname.lower(),
        "Arch": MACHINES.get(system.machine, system.machine),
        "BuildTime": _modified(),
        "Context": session.endpoint.context,
    }


def _modified() -> str:
    """Return when this file was installed: there is no build of its own to date."""
    return ansic(os.stat(__file__).st_mtime)


def ansic(seconds: float) -> str:
    """Return a moment as ``Mon Jan  2 15:04:05 2006``."""
    return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(seconds))


def run(session: Session, values: Values) -> int:
    """Show versions; without an engine still those of the client, and status 1."""
    server: dict[str, Any] | None = None
    problem = ""
    try:
        server = session.engine.json("GET", "/version")
        api_version = session.engine.version
    except ClientError as exc:
        problem, api_version = str(exc), os.environ.get("DOCKER_API_VERSION") or NEWEST_API_VERSION
    client = client_document(session, api_version)
    if server is not None:
        _complete(server)
    format = values.text("format")
    if format:
        from boxship.cli.template.objects import render_objects

        document = {"Client": client, "Server": server}
        session.out(render_objects("{{json .}}" if format == "json" else format, [document]))
    else:
        session.out(text(client, server))
    if problem:
        session.error(problem)
        return 1
    return 0


def _complete(server: dict[str, Any]) -> None:
    """Give an old engine's answer the list of components that newer ones have."""
    if server.get("Components"):
        return
    details = {name: str(server.get(name) or "") for name in ("ApiVersion", "MinAPIVersion", "GoVersion", "GitCommit")}
    details.update(
        {
            "Os": server.get("Os") or "",
            "Arch": server.get("Arch") or "",
            "BuildTime": server.get("BuildTime") or "",
            "Experimental": str(bool(server.get("Experimental"))).lower(),
        }
    )
    server["Components"] = [{"Name": "Engine", "Version": server.get("Version") or "", "Details": details}]


def text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    """Return both blocks as Docker lays them out."""
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    lines = "Client:\n" + _pairs(
        " ",
        (
            ("Version", client["Version"]),
            ("API version", api),
            ("Go version", client["GoVersion"]),
            ("Git commit", client["GitCommit"]),
            ("Built", client["BuildTime"]),
            ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
            ("Context", client["Context"]),
        ),
    )
    if server is None:
        return lines
    name = (server.get("Platform") or {}).get("Name") or ""
    lines += f"\nServer:{' ' + name if name else ''}\n"
    for component in server["Components"]:
        lines += f" {component['Name']}:\n"
        details = component.get("Details") or {}
        if component["Name"] == "Engine":
            lines += _pairs("  ", _engine_pairs(component, details))
        else:
            lines += _pairs("  ", (("Version", component["Version"]), *sorted(details.items())))
    return lines


def _engine_pairs(component: dict[str, Any], details: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return (
        ("Version", component["Version"]),
        ("API version", f"{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})"),
        ("Go version", details.get("GoVersion", "")),
        ("Git commit", details.get("GitCommit", "")),
        ("Built", _built(details.get("BuildTime", ""))),
        ("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        ("Experimental", details.get("Experimental", "")),
    )


def _built(moment: str) -> str:
    try:
        return ansic(parse_rfc3339(moment) / SECOND)
    except ValueError:
        return moment


def _pairs(indent: str, pairs: tuple[tuple[str, str], ...]) -> str:
    return align([(f"{indent}{name}:", value) for name, value in pairs], min_width=WIDTH, gap=1)


COMMANDS = {"version": Command("[OPTIONS]", run, (JSON_FORMAT,))}
