"""The cgroup driver for version 2, one hierarchy for all controllers."""

from __future__ import annotations

import errno
import math
import os
import select
import signal

from boxship.linux import cgroup_devices
from boxship.linux.cgroup_base import (
    FREEZE_TIMEOUT,
    Cgroup,
    CgroupError,
    collect_pids,
    read,
    read_number,
    read_table,
    set_limit,
    signal_frozen,
    wait_until,
    write,
)
from boxship.linux.cgroup_v1 import rdma_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.linux.cgroup_base import Reader

# Limits of ``linux.resources`` that version 2 has no file for: (section, key).
_ABSENT = (
    ("cpu", "realtimePeriod"),
    ("cpu", "realtimeRuntime"),
    ("memory", "kernel"),
    ("memory", "kernelTCP"),
    ("memory", "swappiness"),
    ("memory", "disableOOMKiller"),
    ("blockIO", "leafWeight"),
    ("network", "classID"),
    ("network", "priorities"),
)


class CgroupV2(Cgroup):
    """A directory below ``root``, the mount point of the cgroup2 file system.

    ``attach_devices`` installs a device program for a directory; a test passes its own.
    """

    __slots__ = ("_attach_devices", "_directory", "_root")

    version = 2

    def __init__(
        self,
        path: str,
        root: str,
        attach_devices: Callable[[str, cgroup_devices.DeviceSet], None] = cgroup_devices.attach,
    ) -> None:
        super().__init__(path)
        self._root = root
        self._directory = root + self.path
        self._attach_devices = attach_devices

    def paths(self) -> dict[str, str]:
        controllers = _words(self._directory + "/cgroup.controllers") or _words(self._root + "/cgroup.controllers")
        return dict.fromkeys(["", *controllers], self._directory)

    def create(self) -> None:
        controllers = _words(self._root + "/cgroup.controllers")
        parent = self._root
        for name in self.path.strip("/").split("/"):
            _enable(parent, controllers)
            parent = f"{parent}/{name}"
            try:
                os.mkdir(parent, 0o755)
            except FileExistsError:
                pass

    def join(self) -> None:
        write(self._directory + "/cgroup.procs", "0")

    def apply(self, resources: dict[str, Any]) -> None:
        for section, key in _ABSENT:
            if (resources.get(section) or {}).get(key):
                raise CgroupError(errno.EOPNOTSUPP, f"{section}.{key}: cgroup v2 does not support it")
        if "devices" in resources:
            self._attach_devices(self._directory, cgroup_devices.reduce(resources["devices"] or []))
        self._apply_memory(resources.get("memory") or {})
        self._apply_cpu(resources.get("cpu") or {})
        limit = (resources.get("pids") or {}).get("limit") or 0
        if limit:
            self._set("pids.limit", "pids.max", _or_max(limit))
        self._apply_block_io(resources.get("blockIO") or {})
        for huge in resources.get("hugepageLimits") or []:
            self._set("hugepageLimits", f"hugetlb.{huge['pageSize']}.max", str(huge["limit"]))
        for device, limits in (resources.get("rdma") or {}).items():
            self._set("rdma", "rdma.max", rdma_line(device, limits))
        for name, value in (resources.get("unified") or {}).items():
            if "/" in name or name in ("", ".", ".."):
                raise CgroupError(errno.EINVAL, f"unified: {name!r} is not the name of a control file")
            for line in str(value).splitlines():
                self._set(f"unified.{name}", name, line)

    def freeze(self) -> None:
        write(self._directory + "/cgroup.freeze", "1")
        events = self._directory + "/cgroup.events"
        if not wait_until(lambda: read_table(events).get("frozen", 1) == 1, FREEZE_TIMEOUT):
            self.thaw()
            raise CgroupError(errno.EBUSY, f"freeze: {self._directory} does not become frozen", self._directory)

    def thaw(self) -> None:
        write(self._directory + "/cgroup.freeze", "0")

    def frozen(self) -> bool:
        return read(self._directory + "/cgroup.freeze") == "1"

    def kill(self, number: int) -> None:
        if number == signal.SIGKILL:
            try:
                write(self._directory + "/cgroup.kill", "1")
                return
            except FileNotFoundError:
                pass  # before Linux 5.14
        signal_frozen(self, number)

    def pids(self) -> list[int]:
        return collect_pids(self._directory)

    def stats(self, reader: Reader | None = None) -> dict[str, Any]:
        reader = reader or read
        directory = self._directory
        result: dict[str, Any] = {}
        cpu = read_table(directory + "/cpu.stat", reader)
        if cpu:
            result["cpu"] = {
                "usage_ns": cpu.get("usage_usec", 0) * 1000,
                "user_ns": cpu.get("user_usec", 0) * 1000,
                "system_ns": cpu.get("system_usec", 0) * 1000,
                "per_cpu_ns": [],
                "periods": cpu.get("nr_periods", 0),
                "throttled_periods": cpu.get("nr_throttled", 0),
                "throttled_ns": cpu.get("throttled_usec", 0) * 1000,
            }
        usage = read_number(directory + "/memory.current", reader)
        if usage is not None:
            limit = read_number(directory + "/memory.max", reader)
            events = read_table(directory + "/memory.events", reader)
            result["memory"] = {
                "usage": usage,
                "max_usage": read_number(directory + "/memory.peak", reader) or 0,
                "limit": 0xFFFFFFFFFFFFFFFF if limit is None else limit,
                "failcnt": events.get("oom", 0),  # what Docker reports under this name
                "stat": read_table(directory + "/memory.stat", reader),
                "oom_kill": events.get("oom_kill", 0),
            }
        current = read_number(directory + "/pids.current", reader)
        if current is not None:
            result["pids"] = {"current": current, "limit": read_number(directory + "/pids.max", reader)}
        result["blkio"] = {"io_service_bytes_recursive": _io_entries(reader, directory + "/io.stat")}
        return result

    def oom_count(self) -> int:
        return read_table(self._directory + "/memory.events").get("oom_kill", 0)

    def oom_notifier(self) -> tuple[int, int]:
        fd = os.open(self._directory + "/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.read(fd, 4096)  # the kernel reports changes since the last read
        except BaseException:
            os.close(fd)
            raise
        return fd, select.POLLPRI

    def _set(self, limit: str, name: str, value: str) -> None:
        set_limit(limit, f"{self._directory}/{name}", value)

    def _apply_memory(self, memory: dict[str, Any]) -> None:
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if limit == -1 and swap == 0:
            swap = -1
        if memory.get("checkBeforeUpdate") and limit > 0:
            usage = read_number(self._directory + "/memory.current") or 0
            if limit < usage:
                raise CgroupError(
                    errno.EBUSY, f"memory.limit: {limit} bytes is below the current usage of {usage} bytes"
                )
        if swap:
            self._apply_swap(limit, swap)
        if limit:
            self._set("memory.limit", "memory.max", _or_max(limit))
        if memory.get("reservation"):
            self._set("memory.reservation", "memory.low", _or_max(memory["reservation"]))

    def _apply_swap(self, limit: int, swap: int) -> None:
        """Set the swap space that is left of ``swap``, the sum of memory and swap in the resource document."""
        if swap == -1:
            value = "max"
        elif limit <= 0:
            raise CgroupError(errno.EINVAL, "memory.swap: unable to set swap limit without memory limit")
        elif swap < limit:
            raise CgroupError(errno.EINVAL, "memory.swap: memory+swap limit should be larger than the memory limit")
        else:
            value = str(swap - limit)
        path = self._directory + "/memory.swap.max"
        if value == "max" and not os.path.exists(path):
            return  # a kernel without swap accounting limits none
        set_limit("memory.swap", path, value)

    def _apply_cpu(self, cpu: dict[str, Any]) -> None:
        shares = cpu.get("shares") or 0
        if shares:
            self._set("cpu.shares", "cpu.weight", str(weight_from_shares(shares)))
        quota, period, burst = cpu.get("quota") or 0, cpu.get("period") or 0, cpu.get("burst")
        if burst is not None and quota:
            self._set("cpu.burst", "cpu.max.burst", "0")  # else a smaller quota than the present burst is refused
        if quota or period:
            # A value of its own keeps the period; the quota in force is repeated for a new period.
            value = _or_max(quota) if quota else read(self._directory + "/cpu.max").split()[0]
            self._set("cpu.quota" if quota else "cpu.period", "cpu.max", f"{value} {period}" if period else value)
        if burst is not None:
            self._set("cpu.burst", "cpu.max.burst", str(burst))
        if cpu.get("idle") is not None:
            self._set("cpu.idle", "cpu.idle", str(cpu["idle"]))
        for name in ("cpus", "mems"):
            if cpu.get(name):
                self._set(f"cpu.{name}", f"cpuset.{name}", cpu[name])

    def _apply_block_io(self, block_io: dict[str, Any]) -> None:
        weight = block_io.get("weight")
        if weight:
            if os.path.exists(self._directory + "/io.bfq.weight"):
                self._set("blockIO.weight", "io.bfq.weight", str(weight))
            else:
                self._set("blockIO.weight", "io.weight", str(io_weight_from_blkio(weight)))
        for device in block_io.get("weightDevice") or []:
            if device.get("weight"):
                line = f"{device['major']}:{device['minor']} {device['weight']}"
                self._set("blockIO.weightDevice", "io.bfq.weight", line)
        for key, word in (
            ("throttleReadBpsDevice", "rbps"),
            ("throttleWriteBpsDevice", "wbps"),
            ("throttleReadIOPSDevice", "riops"),
            ("throttleWriteIOPSDevice", "wiops"),
        ):
            for device in block_io.get(key) or []:
                rate = device["rate"] or "max"
                self._set(f"blockIO.{key}", "io.max", f"{device['major']}:{device['minor']} {word}={rate}")


def weight_from_shares(shares: int) -> int:
    """Return the ``cpu.weight`` (1..10000) for version 1 shares (2..262144): 2 is 1, 1024 is 100, 262144 is 10000.

    The curve through these three points, a parabola on logarithmic scales, is the one runc uses since 1.3.2; the
    straight line of earlier releases gave the default share a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def io_weight_from_blkio(weight: int) -> int:
    """Return the ``io.weight`` (1..10000) for a version 1 block I/O weight (10..1000)."""
    return 1 + (weight - 10) * 9999 // 990


def _or_max(limit: int) -> str:
    return "max" if limit < 0 else str(limit)


def _words(path: str) -> list[str]:
    try:
        return read(path).split()
    except FileNotFoundError:
        return []


def _enable(directory: str, controllers: list[str]) -> None:
    """Turn controllers on for the children of ``directory``, one at a time where the kernel refuses all together.

    A refusal (realtime processes, processes in the directory itself) is no error here: the limit that needs the
    controller will have no file, and says so.
    """
    missing = [name for name in controllers if name not in _words(directory + "/cgroup.subtree_control")]
    if not missing:
        return
    path = directory + "/cgroup.subtree_control"
    try:
        write(path, " ".join("+" + name for name in missing))
    except OSError:
        for name in missing:
            try:
                write(path, "+" + name)
            except OSError:
                pass


def _io_entries(reader: Reader, path: str) -> list[dict[str, Any]]:
    """Parse ``io.stat`` lines (``major:minor rbytes=N wbytes=N ...``) into Docker's two entries per device."""
    entries: list[dict[str, Any]] = []
    try:
        text = reader(path)
    except FileNotFoundError:
        return entries
    for line in text.splitlines():
        words = line.split()
        # A device without traffic shows its number alone, two such may share a line.
        numbers = dict(word.split("=", 1) for word in words if "=" in word)
        if "rbytes" not in numbers:
            continue
        device = next(word for word in reversed(words) if ":" in word and "=" not in word)
        major, minor = device.split(":")
        for operation, name in (("read", "rbytes"), ("write", "wbytes")):
            value = int(numbers.get(name, 0))
            entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": value})
    return entries
