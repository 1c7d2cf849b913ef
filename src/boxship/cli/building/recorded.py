"""What an image's provenance says of its build, as flags of a build that shall give the same."""

from __future__ import annotations

import os

from boxship.cli.building.query import EPOCH
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Flag, Values

PROVENANCE = "https://slsa.dev/provenance/v1"
_TEXTS = {"target": "target", "platform": "platform"}  # arguments of the build that are flags, too
_PROXIES = frozenset(("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"))


def provenance(session: Session, image: str) -> dict[str, Any] | None:
    """Return the provenance that is attached to an image, None without one. Raises ClientError."""
    path = f"/images/{quote(image, '/:@')}/attestations"
    found = session.engine.json("GET", path, {"type": PROVENANCE, "statement": "1"})
    for row in found or ():
        predicate = (row.get("Statement") or {}).get("predicate")
        if isinstance(predicate, dict):
            return predicate
    return None


def apply(predicate: dict[str, Any], values: Values, flags: dict[str, Flag], context: str) -> list[str]:
    """Give the flags that the user left out the values that ``predicate`` has; return what was taken, for people.

    The document may be a stranger's: it chooses the Dockerfile inside the context and what the build is told, but neither
    where the build may reach nor who is asked on the way.
    """
    external = _part(predicate, "buildDefinition", "externalParameters")
    arguments = _part(external, "request", "args")
    taken = []

    def give(name: str, text: str) -> None:
        values.set(flags[name], text)
        taken.append(f"--{name} {text}")

    path = _part(external, "configSource").get("path")
    if isinstance(path, str) and path != "Dockerfile" and not values.text("file") and ".." not in path.split("/"):
        give("file", os.path.join(context, path.lstrip("/")) if os.path.isdir(context) else path)
    for key, name in _TEXTS.items():
        if isinstance(arguments.get(key), str) and name not in values.changed:
            give(name, arguments[key])
    if arguments.get("force-network-mode") == "none" and "network" not in values.changed:
        give("network", "none")
    if "squash" in arguments and "squash" not in values.changed:
        give("squash", "true")
    told = {"build-arg": _names(values, "build-arg"), "label": _names(values, "label")}
    for key, value in sorted(arguments.items()):
        kind, _, name = key.partition(":")
        if kind in told and isinstance(value, str) and name not in told[kind] and name.lower() not in _PROXIES:
            give(kind, f"{name}={value}")
    epoch = _part(predicate, "buildDefinition", "internalParameters").get("sourceDateEpoch")
    if isinstance(epoch, str) and epoch.isdecimal() and EPOCH not in _names(values, "build-arg"):
        give("build-arg", f"{EPOCH}={epoch}")
    return taken


def _names(values: Values, flag: str) -> set[str]:
    return {item.partition("=")[0] for item in values.many(flag)}


def _part(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        below = document.get(key)
        document = below if isinstance(below, dict) else {}
    return document
