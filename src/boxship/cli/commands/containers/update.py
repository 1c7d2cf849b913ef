"""``update``: change containers that exist: limits and restart policy, ports, mounts, environment and labels."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError, each
from boxship.cli.flags import Flag
from boxship.cli.options.checks import check_env
from boxship.cli.options.document import restart_policy
from boxship.cli.options.environment import read_environment, read_labels
from boxship.cli.options.mounts import parse_mount
from boxship.cli.options.ports import expand, short_form
from boxship.cli.units import parse_cpus, parse_size, parse_swap
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

LIMITS = (
    Flag(
        "blkio-weight",
        "uint16",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
        shown="(default 0)",
    ),
    Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
    Flag("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
    Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
    Flag("cpus", "decimal", "Number of CPUs", check=parse_cpus),
    Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("memory", "bytes", "Memory limit", short="m", check=parse_size),
    Flag("memory-reservation", "bytes", "Memory soft limit", check=parse_size),
    Flag(
        "memory-swap",
        "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        check=parse_swap,
    ),
    Flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("restart", "string", "Restart policy to apply when a container exits"),
)
CHANGES = (
    Flag(
        "apply",
        "string",
        'How a running container gets what needs a restart: "restart" (now), or "later" (at its next start)',
    ),
    Flag("env", "list", "Set environment variables", short="e", check=check_env),
    Flag("env-file", "list", "Read in a file of environment variables"),
    Flag("env-rm", "list", "Remove environment variables"),
    Flag("label-add", "list", "Set labels"),
    Flag("label-rm", "list", "Remove labels"),
    Flag("mount-add", "list", "Attach a filesystem mount, or bind mount a volume (as --mount or -v of run)"),
    Flag("mount-rm", "list", "Detach what is mounted at a path of the container"),
    Flag("publish-add", "list", "Publish a container's port(s) to the host"),
    Flag("publish-rm", "list", "End the publishing of a container's port(s)"),
    Flag("timeout", "int", "Seconds to wait before killing the container when --apply restarts it"),
)
FLAGS = (*LIMITS, *CHANGES)


def update_document(values: Values) -> dict[str, Any]:
    """Return the document of ``POST /containers/{id}/update``; zero and empty leave a setting as it is."""
    return {
        "CpuShares": values.number("cpu-shares"),
        "Memory": values.number("memory"),
        "NanoCpus": values.number("cpus"),
        "CgroupParent": "",
        "BlkioWeight": values.number("blkio-weight"),
        "BlkioWeightDevice": None,
        "BlkioDeviceReadBps": None,
        "BlkioDeviceWriteBps": None,
        "BlkioDeviceReadIOps": None,
        "BlkioDeviceWriteIOps": None,
        "CpuPeriod": values.number("cpu-period"),
        "CpuQuota": values.number("cpu-quota"),
        "CpuRealtimePeriod": values.number("cpu-rt-period"),
        "CpuRealtimeRuntime": values.number("cpu-rt-runtime"),
        "CpusetCpus": values.text("cpuset-cpus"),
        "CpusetMems": values.text("cpuset-mems"),
        "Devices": None,
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": values.number("memory-reservation"),
        "MemorySwap": values.number("memory-swap"),
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": values.number("pids-limit"),
        "Ulimits": None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "RestartPolicy": restart_policy(values.text("restart")),
    }


def change_document(values: Values) -> dict[str, Any]:
    """Return the document of ``POST /boxship/containers/{id}/change``. Raises ValueError."""
    mounts = values.many("mount-add")
    document: dict[str, Any] = {
        "AddPorts": _bindings(values.many("publish-add")),
        "RemovePorts": _bindings(values.many("publish-rm")),
        "AddMounts": [parse_mount(text) for text in mounts if _is_long(text)],
        "AddBinds": [text for text in mounts if not _is_long(text)],
        "RemoveMounts": values.many("mount-rm"),
        "SetEnv": read_environment(values.many("env-file"), values.many("env")),
        "RemoveEnv": values.many("env-rm"),
        "SetLabels": read_labels((), values.many("label-add")),
        "RemoveLabels": values.many("label-rm"),
        "Apply": values.text("apply"),
    }
    if "timeout" in values.changed:
        document["Timeout"] = values.number("timeout")
    if values.changed & {flag.long for flag in LIMITS}:
        document["Resources"] = update_document(values)
    return document


def _bindings(specs: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return ``PortBindings`` from values as those of ``-p``; a bare container port has an empty host port."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for port, address, host_port in expand(short_form(spec)):
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": host_port})
    return bindings


def _is_long(text: str) -> bool:
    """Tell ``type=volume,dst=/a`` from ``/a:/b``."""
    return "=" in text.partition(":")[0]


def run(session: Session, values: Values) -> int:
    """Update containers; warnings come after all of them."""
    if not values.changed - {"apply", "timeout"}:
        raise ExitError("you must provide one or more flags when using this command")
    own = bool(values.changed & {flag.long for flag in CHANGES})
    try:
        document = change_document(values) if own else update_document(values)
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    warnings: list[str] = []

    def post(name: str) -> str:
        path = f"/boxship/containers/{quote(name)}/change" if own else f"/containers/{quote(name)}/update"
        answer = session.engine.json("POST", path, None, document) or {}
        warnings.extend(answer.get("Warnings") or [])
        if answer.get("Later"):
            warnings.append(f"{name}: {' and '.join(answer['Later'])} will change at the next start")
        return name

    status = each(session, values.arguments, post)
    if warnings:
        session.line("\n".join(warnings))
    return status


COMMANDS = {"container update": Command("[OPTIONS] CONTAINER [CONTAINER...]", run, FLAGS, least=1, most=None)}
