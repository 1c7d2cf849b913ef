"""``update``: change the resources and the restart policy of containers."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError, each
from boxship.cli.flags import Flag
from boxship.cli.options.document import restart_policy
from boxship.cli.units import parse_cpus, parse_size, parse_swap
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
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


def run(session: Session, values: Values) -> int:
    """Update containers; warnings come after all of them."""
    if not values.changed:
        raise ExitError("you must provide one or more flags when using this command")
    try:
        document = update_document(values)
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    warnings: list[str] = []

    def post(name: str) -> str:
        answer = session.engine.json("POST", f"/containers/{quote(name)}/update", None, document) or {}
        warnings.extend(answer.get("Warnings") or [])
        return name

    status = each(session, values.arguments, post)
    if warnings:
        session.line("\n".join(warnings))
    return status


COMMANDS = {"container update": Command("[OPTIONS] CONTAINER [CONTAINER...]", run, FLAGS, least=1, most=None)}
