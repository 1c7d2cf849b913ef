"""Flags of ``build`` as the parameters of ``POST /build``."""

from __future__ import annotations

import os

from boxship.cli.building.attests import attestations
from boxship.cli.command import ExitError
from boxship.cli.options.document import pairs, ulimits
from boxship.client import jsontext
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxship.cli.building.caches import Imports
    from boxship.cli.flags import Values

EPOCH = "SOURCE_DATE_EPOCH"  # the time that no file of an image is after, in seconds
_NONE: Mapping[str, str] = {}
_NUMBERS = {
    "memory": "memory",
    "memory-swap": "memswap",
    "cpu-shares": "cpushares",
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
    "shm-size": "shmsize",
}
_TEXTS = {
    "cpuset-cpus": "cpusetcpus",
    "cpuset-mems": "cpusetmems",
    "cgroup-parent": "cgroupparent",
    "platform": "platform",
    "target": "target",
    "isolation": "isolation",
}
_SWITCHES = {"quiet": "q", "no-cache": "nocache", "pull": "pull", "force-rm": "forcerm", "squash": "squash"}


def build_query(
    values: Values,
    *,
    dockerfile: str,
    remote: str,
    names: Sequence[str] = (),
    contexts: Mapping[str, str] = _NONE,
    ssh: Mapping[str, str] = _NONE,
    imports: Imports | None = None,
    exports: Sequence[Mapping[str, object]] = (),
    is_local: bool = True,
) -> str:
    """Return the query, sorted by name as Docker sends it; ``t`` and ``extrahosts`` repeat.

    ``names`` are more names for the image; ``contexts`` are images and names in the archive by name; ``ssh`` are sockets of
    agents by id; ``imports`` and ``exports`` are what the cache flags say; ``is_local``: the engine is on this host.
    Raises ExitError.
    """
    found: list[tuple[str, str]] = [("version", "1")]
    found.extend(("t", tag) for tag in (*values.many("tag"), *names))
    found.extend((key, "1") for flag, key in _SWITCHES.items() if values.is_set(flag))
    found.extend((key, str(values.number(flag))) for flag, key in _NUMBERS.items() if values.number(flag))
    found.extend((key, values.text(flag)) for flag, key in _TEXTS.items() if values.text(flag))
    if not values.is_set("rm"):
        found.append(("rm", "0"))
    if dockerfile:
        found.append(("dockerfile", dockerfile))
    if remote:
        found.append(("remote", remote))
    if values.text("network") not in ("", "default"):
        found.append(("networkmode", values.text("network")))
    for item in values.many("add-host"):
        name, _, address = str(item).partition(":")
        found.append(("extrahosts", f"{name}:{address}"))
    if values.many("allow"):
        found.append(("allow", jsontext.dumps(values.many("allow"))))
    arguments = _arguments(values.many("build-arg"))
    if arguments:
        found.append(("buildargs", jsontext.dumps(arguments)))
    if values.many("label"):
        found.append(("labels", jsontext.dumps(pairs(values.many("label")))))
    wanted = attestations(values.many("attest"), values.text("sbom"), values.text("provenance"))
    if wanted:
        found.append(("attestations", jsontext.dumps(wanted)))
    if imports is not None and imports.names:
        found.append(("cachefrom", jsontext.dumps(imports.names)))
    if imports is not None and imports.documents:
        found.append(("cacheimports", jsontext.dumps(imports.documents)))
    if exports:
        found.append(("cacheexports", jsontext.dumps(list(exports))))
    if contexts:
        found.append(("buildcontexts", jsontext.dumps(dict(contexts))))
    if ssh:
        if not is_local:
            raise ExitError("--ssh needs an engine on this host: the agent's socket is shown to its containers")
        found.append(("ssh", jsontext.dumps(dict(ssh))))
    if values.many("no-cache-filter"):
        found.append(("nocachefilter", jsontext.dumps(values.many("no-cache-filter"))))
    if values.many("ulimit"):
        found.append(("ulimits", jsontext.dumps(ulimits(values))))
    return "&".join(f"{key}={quote(value)}" for key, value in sorted(found, key=lambda pair: pair[0]))


def _arguments(items: list[str]) -> dict[str, str | None]:
    """Return build arguments; one without a value takes that of the environment, and none if that lacks it.

    SOURCE_DATE_EPOCH of the environment is an argument by itself, as in buildx.
    """
    arguments: dict[str, str | None] = {EPOCH: os.environ[EPOCH]} if os.environ.get(EPOCH) else {}
    for item in items:
        name, equals, value = item.partition("=")
        arguments[name] = value if equals else os.environ.get(name)
    return arguments
