"""Resource use of a container in the shape of GET /containers/{id}/stats (Engine API 1.56).

A :class:`Sample` is what was read at one moment (see ``meters``); :func:`document` makes the answer out of two. Fields that are zero are
absent where Docker's encoder leaves them out, since clients test for presence: ``percpu_usage`` and most of
``memory_stats`` do not exist under cgroup version 2, ``networks`` does not without a network.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from boxship.base import clock

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_NO_LIMIT = 0xFFFFFFFFFFFFFFFF

_BLKIO_LISTS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_MEMORY_V1 = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault"),
    *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
)
_MEMORY_V2 = (
    *(
        "anon",
        "file",
        "kernel_stack",
        "slab",
        "sock",
        "shmem",
        "file_mapped",
        "file_dirty",
        "file_writeback",
        "anon_thp",
    ),
    *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable"),
    *("slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate"),
    *("workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree"),
    *("pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc"),
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one container and its host had used at ``read_ns`` (wall clock, nanoseconds since 1970)."""

    read_ns: int
    cgroup: dict[str, Any]  # as linux.cgroup.Cgroup.stats gives it
    cgroup_version: int
    networks: dict[str, dict[str, int]] | None  # interface to counters; None without a network of its own
    system_cpu_ns: int  # time that all processors together have spent, idle or not
    online_cpus: int


def parse_net_dev(text: str) -> dict[str, dict[str, int]]:
    """Return the counters in the text of /proc/<pid>/net/dev by interface, without ``lo``; see proc(5)."""
    networks = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        name = name.strip()
        fields = [int(word) for word in numbers.split()]
        if name == "lo" or len(fields) < 16:
            continue
        counters = {}
        for direction, start in (("rx", 0), ("tx", 8)):
            for offset, what in enumerate(("bytes", "packets", "errors", "dropped")):
                counters[f"{direction}_{what}"] = fields[start + offset]
        networks[name] = counters
    return networks


def parse_proc_stat(text: str) -> tuple[int, int]:
    """Return the time spent by all processors in nanoseconds, and their number, from the text of /proc/stat."""
    total = online = 0
    for line in text.splitlines():
        if line.startswith("cpu "):
            total = sum(int(word) for word in line.split()[1:8]) * _NS_PER_TICK
        elif line.startswith("cpu"):
            online += 1
        else:
            break
    return total, online


def document(sample: Sample, previous: Sample | None, *, id: str, name: str, memory_total: int) -> dict[str, Any]:
    """Return one line of the answer; ``name`` as inspect shows it ("/web"), ``memory_total`` the host's memory in bytes.

    ``previous`` fills ``precpu_stats``; None for the first line of a stream and for a single sample ("one-shot").
    """
    result: dict[str, Any] = {
        "id": id,
        "name": name,
        "os_type": "linux",
        "read": clock.rfc3339(sample.read_ns),
        "cpu_stats": _cpu(sample),
        "memory_stats": _memory(sample, memory_total),
    }
    if sample.networks:
        result["networks"] = sample.networks
    result["pids_stats"] = _pids(sample)
    result["blkio_stats"] = _blkio(sample)
    result["num_procs"] = 0
    result["storage_stats"] = {}
    result["preread"] = clock.rfc3339(previous.read_ns) if previous is not None else clock.ZERO
    result["precpu_stats"] = _cpu(previous)
    return result


def stopped(*, id: str, name: str) -> dict[str, Any]:
    """Return the answer for a container that does not run: every counter at nothing."""
    return {
        "id": id,
        "name": name,
        "os_type": "linux",
        "read": clock.ZERO,
        "cpu_stats": _cpu(None),
        "memory_stats": {},
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO_LISTS),
        "num_procs": 0,
        "storage_stats": {},
        "preread": clock.ZERO,
        "precpu_stats": _cpu(None),
    }


def _cpu(sample: Sample | None) -> dict[str, Any]:
    cpu: dict[str, Any] = sample.cgroup.get("cpu", {}) if sample is not None else {}
    usage: dict[str, Any] = {"total_usage": cpu.get("usage_ns", 0)}
    if cpu.get("per_cpu_ns"):
        usage["percpu_usage"] = cpu["per_cpu_ns"]
    usage["usage_in_kernelmode"] = cpu.get("system_ns", 0)
    usage["usage_in_usermode"] = cpu.get("user_ns", 0)
    result: dict[str, Any] = {"cpu_usage": usage}
    if sample is not None:
        result["system_cpu_usage"] = sample.system_cpu_ns
        result["online_cpus"] = sample.online_cpus
    result["throttling_data"] = {
        "periods": cpu.get("periods", 0),
        "throttled_periods": cpu.get("throttled_periods", 0),
        "throttled_time": cpu.get("throttled_ns", 0),
    }
    return result


def _memory(sample: Sample, memory_total: int) -> dict[str, Any]:
    memory: dict[str, Any] = sample.cgroup.get("memory", {})
    if not memory:
        return {}
    v1 = sample.cgroup_version == 1
    result: dict[str, Any] = {"usage": memory["usage"]}
    if v1:
        result["max_usage"] = memory["max_usage"]
    result["stats"] = _memory_v1(memory["stat"]) if v1 else _memory_v2(memory["stat"])
    result["failcnt"] = memory["failcnt"]
    # "No limit" is a number beyond all memory; what bounds the container then is the host.
    result["limit"] = min(memory["limit"], memory_total)
    return {key: value for key, value in result.items() if value}


def _memory_v1(stat: dict[str, int]) -> dict[str, int]:
    names = [*_MEMORY_V1, "hierarchical_memory_limit", "hierarchical_memsw_limit", *("total_" + n for n in _MEMORY_V1)]
    return {name: stat.get(name, 0) for name in sorted(names)}


def _memory_v2(stat: dict[str, int]) -> dict[str, int]:
    # Since Linux 5.9 the working set is counted for anonymous and file pages apart.
    return {
        name: stat.get(name, stat.get(name + "_anon", 0) + stat.get(name + "_file", 0)) for name in sorted(_MEMORY_V2)
    }


def _pids(sample: Sample) -> dict[str, int]:
    pids: dict[str, int | None] = sample.cgroup.get("pids", {})
    limit = pids.get("limit")
    if limit is None and pids and sample.cgroup_version == 2:
        limit = _NO_LIMIT  # under version 1 Docker leaves "no limit" out
    result = {"current": pids.get("current"), "limit": limit}
    return {key: value for key, value in result.items() if value}


def _blkio(sample: Sample) -> dict[str, list[dict[str, Any]] | None]:
    """Version 1 has all lists, empty or not; version 2 has the first one, and it is null without traffic."""
    blkio: dict[str, list[dict[str, Any]]] = sample.cgroup.get("blkio", {})
    if sample.cgroup_version == 1:
        return {name: blkio.get(name, []) for name in _BLKIO_LISTS}
    return {name: blkio.get(name) or None for name in _BLKIO_LISTS}
