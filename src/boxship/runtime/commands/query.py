"""state, list, ps, pause, resume, update, events: asking about containers and changing their limits."""

import json
import os
import sys

from boxship.runtime.commands import state
from boxship.runtime.commands.options import FLAG, VALUE, Options, UsageError
from boxship.runtime.failure import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_OPTIONS: dict[str, int] = {}
LIST_OPTIONS = {"format f": VALUE, "quiet q": FLAG}
PS_OPTIONS = {"format f": VALUE}
EVENTS_OPTIONS = {"interval": VALUE, "stats": FLAG}
UPDATE_OPTIONS = {
    "resources r": VALUE,
    "memory": VALUE,
    "memory-reservation": VALUE,
    "memory-swap": VALUE,
    "cpu-period": VALUE,
    "cpu-quota": VALUE,
    "cpu-share": VALUE,
    "cpuset-cpus": VALUE,
    "cpuset-mems": VALUE,
    "pids-limit": VALUE,
    "blkio-weight": VALUE,
}
# option -> (section of linux.resources, its key, whether it is a number)
_UPDATES = {
    "memory": ("memory", "limit", True),
    "memory-reservation": ("memory", "reservation", True),
    "memory-swap": ("memory", "swap", True),
    "cpu-period": ("cpu", "period", True),
    "cpu-quota": ("cpu", "quota", True),
    "cpu-share": ("cpu", "shares", True),
    "cpuset-cpus": ("cpu", "cpus", False),
    "cpuset-mems": ("cpu", "mems", False),
    "pids-limit": ("pids", "limit", True),
    "blkio-weight": ("blockIO", "weight", True),
}


def show_state(root: str, options: Options) -> int:
    """Print the state document."""
    print(json.dumps(_load(root, options).document(), indent=2))
    return 0


def show_list(root: str, options: Options) -> int:
    """Print all containers: a table, JSON, or IDs only."""
    containers = state.load_all(root)
    if options.flag("quiet"):
        for container in containers:
            print(container.id)
    elif options.value("format") == "json":
        print(json.dumps([container.document() for container in containers]))
    else:
        rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
        for container in containers:
            document = container.document()
            rows.append([str(document[key]) for key in ("id", "pid", "status", "bundle", "created", "owner")])
        _print_table(rows)
    return 0


def ps(root: str, options: Options) -> int:
    """Print the container's processes: a table, or a JSON list of pids."""
    if not options.args:
        raise UsageError("exactly one argument is needed: the container ID")
    pids = sorted(state.load(root, options.args[0]).cgroup().pids())
    if options.value("format") == "json":
        print(json.dumps(pids))
        return 0
    rows = [["UID", "PID", "PPID", "CMD"]]
    for pid in pids:
        try:
            rows.append(_describe(pid))
        except OSError:
            continue  # ended meanwhile
    _print_table(rows)
    return 0


def pause(root: str, options: Options) -> int:
    """Freeze a running container."""
    container = _load(root, options)
    if container.status() not in ("running", "created"):
        raise RuntimeFailure("container not running")
    container.cgroup().freeze()
    return 0


def resume(root: str, options: Options) -> int:
    """Thaw a paused container."""
    container = _load(root, options)
    if container.status() != "paused":
        raise RuntimeFailure("container not paused")
    container.cgroup().thaw()
    return 0


def update(root: str, options: Options) -> int:
    """Change limits, from a ``linux.resources`` document (file or -) or from options."""
    container = _load(root, options)
    resources: dict[str, Any] = {}
    source = options.value("resources")
    if source:
        if source == "-":
            resources = json.load(sys.stdin)
        else:
            with open(source, encoding="utf-8") as file:
                resources = json.load(file)
    for name, (section, key, number) in _UPDATES.items():
        value = options.value(name)
        if value:
            try:
                resources.setdefault(section, {})[key] = int(value) if number else value
            except ValueError:
                raise UsageError(f'invalid value for {name}: "{value}"') from None
    container.cgroup().apply(resources)
    return 0


def events(root: str, options: Options) -> int:
    """Print what the kernel counted for the container, once: only --stats is there."""
    if not options.flag("stats"):
        raise UsageError("events are shown with --stats only")
    container = _load(root, options)
    if container.status() == "stopped":
        raise RuntimeFailure("container with id " + container.id + " is not running")
    counted = container.cgroup().stats()
    cpu, memory, pids = counted.get("cpu") or {}, counted.get("memory") or {}, counted.get("pids") or {}
    data = {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_ns", 0),
                "percpu": cpu.get("per_cpu_ns") or [],
                "kernel": cpu.get("system_ns", 0),
                "user": cpu.get("user_ns", 0),
            },
            "throttling": {
                "periods": cpu.get("periods", 0),
                "throttledPeriods": cpu.get("throttled_periods", 0),
                "throttledTime": cpu.get("throttled_ns", 0),
            },
        },
        "memory": {
            "usage": {
                "limit": memory.get("limit") or 0,
                "usage": memory.get("usage", 0),
                "max": memory.get("max_usage", 0),
                "failcnt": memory.get("failcnt", 0),
            },
            "raw": memory.get("stat") or {},
        },
        "pids": {"current": pids.get("current", 0), "limit": pids.get("limit") or 0},
    }
    print(json.dumps({"type": "stats", "id": container.id, "data": data}))
    return 0


def _load(root: str, options: Options) -> state.Container:
    if len(options.args) != 1:
        raise UsageError("exactly one argument is needed: the container ID")
    return state.load(root, options.args[0])


def _describe(pid: int) -> list[str]:
    uid = os.stat(f"/proc/{pid}").st_uid
    with open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read().decode(errors="replace")
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    name, _, rest = text[text.index("(") + 1 :].rpartition(")")
    return [str(uid), str(pid), rest.split()[1], command or f"[{name}]"]


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("".join(cells).rstrip())
