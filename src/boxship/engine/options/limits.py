"""A container's limits against Docker's rules and against what this host's kernel can do (pure).

A limit that the kernel lacks is taken out and named in a warning of the create answer; a wrong one is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from boxship.base.errors import InvalidInput
from boxship.engine.observation.sysinfo import SysInfo
from boxship.spec.docker.container import HostConfig

MINIMUM_MEMORY = 6 * 1024 * 1024

# (the host can do it, the limit is asked for, what stands in its place, Docker's words), in Docker's order
_Row = tuple[Callable[[SysInfo], bool], Callable[[HostConfig], bool], dict[str, Any], str]
_DISCARDED: tuple[_Row, ...] = (
    (
        lambda info: info.memory_limit,
        lambda host: host.memory > 0,
        {"memory": 0, "memory_swap": -1},
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ),
    (
        lambda info: info.swap_limit,
        lambda host: host.memory > 0 and host.memory_swap != -1,
        {"memory_swap": -1},
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
    ),
    (
        lambda info: info.memory_swappiness,
        lambda host: host.memory_swappiness not in (None, -1),
        {"memory_swappiness": None},
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
    ),
    (
        lambda info: info.memory_reservation,
        lambda host: host.memory_reservation > 0,
        {"memory_reservation": 0},
        "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ),
    (
        lambda info: info.oom_kill_disable,
        lambda host: bool(host.oom_kill_disable),
        {"oom_kill_disable": None},
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ),
    (
        lambda info: info.pids_limit,
        lambda host: (host.pids_limit or 0) > 0,
        {"pids_limit": None},
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    ),
    (
        lambda info: info.cpu_shares,
        lambda host: host.cpu_shares > 0,
        {"cpu_shares": 0},
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
    ),
    (
        lambda info: info.cpu_cfs,
        lambda host: bool(host.cpu_period or host.cpu_quota),
        {"cpu_period": 0, "cpu_quota": 0},
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
    ),
    (
        lambda _: False,
        lambda host: host.cpu_percent > 0,
        {"cpu_percent": 0},
        "linux does not support CPU percent. Percent discarded.",
    ),
    (
        lambda info: info.cpuset,
        lambda host: bool(host.cpuset_cpus or host.cpuset_mems),
        {"cpuset_cpus": "", "cpuset_mems": ""},
        "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
    ),
    (
        lambda info: info.blkio_weight,
        lambda host: host.blkio_weight > 0,
        {"blkio_weight": 0},
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ),
    (
        lambda info: info.blkio_weight_device,
        lambda host: bool(host.blkio_weight_device),
        {"blkio_weight_device": []},
        "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
    ),
    (
        lambda info: info.blkio_throttle,
        lambda host: bool(host.blkio_device_read_bps),
        {"blkio_device_read_bps": []},
        "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
    ),
    (
        lambda info: info.blkio_throttle,
        lambda host: bool(host.blkio_device_write_bps),
        {"blkio_device_write_bps": []},
        "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
    ),
    (
        lambda info: info.blkio_throttle,
        lambda host: bool(host.blkio_device_read_iops),
        {"blkio_device_read_iops": []},
        "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
    ),
    (
        lambda info: info.blkio_throttle,
        lambda host: bool(host.blkio_device_write_iops),
        {"blkio_device_write_iops": []},
        "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
    ),
    (
        lambda info: info.cgroup_namespaces,
        lambda host: host.cgroupns_mode == "private",
        {"cgroupns_mode": "host"},
        "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.",
    ),
)


def fit(host: HostConfig, info: SysInfo) -> tuple[HostConfig, list[str]]:
    """Return the host configuration with the limits that this host can set, and warnings of those that it cannot.

    Raises InvalidInput in Docker's words for limits that are wrong anywhere.
    """
    _check(host, info)
    warnings = []
    for supported, wanted, instead, text in _DISCARDED:
        if wanted(host) and not supported(info):
            host = msgspec.structs.replace(host, **instead)
            warnings.append(text)
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    _check_sets(host, info)
    return host, warnings


def parse_set(text: str, what: str) -> set[int]:
    """Return the numbers of a list such as ``0-2,4``; ``what`` names it in InvalidInput."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) < int(low):
            raise InvalidInput(f"Invalid value {text} for {what}: invalid format: {text}")
        if int(high or low) > 8192:  # Docker's bound, and what keeps a range from filling the memory
            raise InvalidInput(f"Invalid value {text} for {what}: value out of range, maximum is 8192")
        numbers.update(range(int(low), int(high or low) + 1))
    return numbers


def _check(host: HostConfig, info: SysInfo) -> None:
    _check_memory(host)
    _check_cpu(host, info)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidInput("Range of blkio weight is from 10 to 1000")
    for device in host.blkio_weight_device or []:
        if device.weight and not 10 <= device.weight <= 1000:
            raise InvalidInput(f"invalid weight for device: {device.path}:{device.weight}")
    if host.io_maximum_bandwidth or host.io_maximum_iops:
        raise InvalidInput("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
    if host.shm_size < 0:
        raise InvalidInput("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidInput(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")


def _check_memory(host: HostConfig) -> None:
    if host.memory and host.memory < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if host.memory_swap > 0 and not host.memory:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory and 0 < host.memory_swap < host.memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidInput(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if 0 < host.memory_reservation < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory reservation allowed is 6MB")
    if host.memory and host.memory_reservation > host.memory:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(host: HostConfig, info: SysInfo) -> None:
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        which = "CPU Period" if host.cpu_period else "CPU Quota"
        raise InvalidInput(f"Conflicting options: Nano CPUs and {which} cannot both be set")
    if host.nano_cpus > 0 and not info.cpu_cfs:
        raise InvalidInput(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if host.nano_cpus < 0 or host.nano_cpus > info.cpus * 1_000_000_000:
        raise InvalidInput(
            f"Range of CPUs is from 0.01 to {info.cpus}.00, as there are only {info.cpus} CPUs available"
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidInput("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not info.cpu_realtime:
        raise InvalidInput("kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidInput("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_sets(host: HostConfig, info: SysInfo) -> None:
    for wanted, available, name, words in (
        (host.cpuset_cpus, info.cpuset_cpus, "cpuset cpus", "CPUs"),
        (host.cpuset_mems, info.cpuset_mems, "cpuset mems", "memory nodes"),
    ):
        if not parse_set(wanted, name) <= parse_set(available, name):
            raise InvalidInput(f"Requested {words} are not available - requested {wanted}, available: {available}")
