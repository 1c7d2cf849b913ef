"""The cgroup driver for version 1, one hierarchy per controller, also beside an unused version 2 (hybrid)."""

from __future__ import annotations

import errno
import math
import os
import select

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
    unsupported,
    wait_until,
    walk,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.linux.cgroup_base import Reader

# Values at or above this mean "no limit": the kernel rounds its largest number down to whole pages.
UNLIMITED = 0x7FFFFFFFFFFFF000 - 0x10000

_BLKIO_FILES = {
    # Docker's name: (file of the bfq or cfq scheduler, file of the throttling layer or None)
    "io_service_bytes_recursive": ("io_service_bytes_recursive", "throttle.io_service_bytes"),
    "io_serviced_recursive": ("io_serviced_recursive", "throttle.io_serviced"),
    "io_queue_recursive": ("io_queued_recursive", None),
    "io_service_time_recursive": ("io_service_time_recursive", None),
    "io_wait_time_recursive": ("io_wait_time_recursive", None),
    "io_merged_recursive": ("io_merged_recursive", None),
    "io_time_recursive": ("time_recursive", None),
    "sectors_recursive": ("sectors_recursive", None),
}


class CgroupV1(Cgroup):
    """A cgroup in every mounted version 1 hierarchy; ``roots`` gives each controller's mount point.

    Controllers mounted together share a mount point. A hierarchy without controller has the name ``name=systemd``.
    """

    __slots__ = ("_roots",)

    version = 1

    def __init__(self, path: str, roots: dict[str, str]) -> None:
        super().__init__(path)
        self._roots = roots

    def paths(self) -> dict[str, str]:
        return {controller: root + self.path for controller, root in self._roots.items()}

    def create(self) -> None:
        made = []
        try:
            for root in dict.fromkeys(self._roots.values()):
                directory = root + self.path
                if _make_directories(directory):
                    made.append(directory)
            cpuset = self._roots.get("cpuset")
            if cpuset is not None:
                _inherit_cpuset(cpuset + self.path, cpuset)
        except BaseException:
            for directory in reversed(made):
                os.rmdir(directory)
            raise

    def join(self) -> None:
        for directory in dict.fromkeys(self.paths().values()):
            # A thread that moves itself through ``tasks`` skips the lock that ``cgroup.procs`` takes; that lock waits for
            # an RCU grace period: 12 ms instead of 0.6 for nine hierarchies, measured on Linux 6.18.
            write(directory + "/tasks", "0")

    def apply(self, resources: dict[str, Any]) -> None:
        if resources.get("unified"):
            raise CgroupError(errno.EOPNOTSUPP, "unified: this host uses cgroup v1")
        if "devices" in resources:
            self._apply_devices(resources["devices"] or [])
        self._apply_memory(resources.get("memory") or {})
        self._apply_cpu(resources.get("cpu") or {})
        limit = (resources.get("pids") or {}).get("limit") or 0
        if limit:
            set_limit("pids.limit", self._file("pids", "pids.max"), "max" if limit < 0 else str(limit))
        self._apply_block_io(resources.get("blockIO") or {})
        for huge in resources.get("hugepageLimits") or []:
            name = f"hugetlb.{huge['pageSize']}.limit_in_bytes"
            set_limit("hugepageLimits", self._file("hugetlb", name), str(huge["limit"]))
        self._apply_network(resources.get("network") or {})
        for device, limits in (resources.get("rdma") or {}).items():
            set_limit("rdma", self._file("rdma", "rdma.max"), rdma_line(device, limits))

    def freeze(self) -> None:
        state = self._file("freezer", "freezer.state")

        def frozen() -> bool:
            # Writing again catches processes that were forked or that entered while the first write was at work.
            write(state, "FROZEN")
            return read(state) == "FROZEN"

        if not wait_until(frozen, FREEZE_TIMEOUT):
            self.thaw()
            raise CgroupError(errno.EBUSY, f"freeze: {state} stays FREEZING", state)

    def thaw(self) -> None:
        write(self._file("freezer", "freezer.state"), "THAWED")

    def frozen(self) -> bool:
        return read(self._file("freezer", "freezer.state")) != "THAWED"

    def kill(self, number: int) -> None:
        signal_frozen(self, number)

    def pids(self) -> list[int]:
        # Only root may move processes in this hierarchy in practice; systemd inside a container uses its own.
        for controller in ("devices", "pids", "freezer"):
            if controller in self._roots:
                return collect_pids(self._roots[controller] + self.path)
        return collect_pids(next(iter(self.paths().values())))

    def stats(self, reader: Reader | None = None) -> dict[str, Any]:
        reader = reader or read
        result: dict[str, Any] = {}
        paths = self.paths()
        if "cpuacct" in paths:
            result["cpu"] = _cpu_stats(reader, paths["cpuacct"], paths.get("cpu"))
        if "memory" in paths:
            result["memory"] = _memory_stats(reader, paths["memory"])
        if "pids" in paths:
            result["pids"] = {
                "current": read_number(paths["pids"] + "/pids.current", reader) or 0,
                "limit": read_number(paths["pids"] + "/pids.max", reader),
            }
        if "blkio" in paths:
            result["blkio"] = _blkio_stats(reader, paths["blkio"])
        return result

    def oom_count(self) -> int:
        if "memory" not in self._roots:
            return 0
        # Each cgroup counts its own processes only.
        return sum(_oom_kills(directory) for directory in walk(self._roots["memory"] + self.path))

    def oom_notifier(self) -> tuple[int, int]:
        directory = self._directory("memory")
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(directory + "/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(directory + "/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except BaseException:
            os.close(event)
            raise
        return event, select.POLLIN

    def _directory(self, controller: str) -> str:
        root = self._roots.get(controller)
        if root is None:
            raise CgroupError(errno.EOPNOTSUPP, f"{controller}: this host has no such cgroup controller")
        return root + self.path

    def _file(self, controller: str, name: str) -> str:
        return f"{self._directory(controller)}/{name}"

    def _apply_devices(self, rules: list[dict[str, Any]]) -> None:
        devices = cgroup_devices.reduce(rules)
        plain = "allow" if devices.allow else "deny"
        if not (devices.allow and read(self._file("devices", "devices.list")) == "a *:* rwm"):
            set_limit("devices", self._file("devices", f"devices.{plain}"), "a")
        exception = self._file("devices", "devices.deny" if devices.allow else "devices.allow")
        for line in devices.lines():
            set_limit("devices", exception, line)

    def _apply_memory(self, memory: dict[str, Any]) -> None:
        if not memory:
            return
        self._apply_memory_and_swap(memory.get("limit") or 0, memory.get("swap") or 0)
        for limit, name in (
            ("reservation", "memory.soft_limit_in_bytes"),
            ("kernel", "memory.kmem.limit_in_bytes"),
            ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
        ):
            if memory.get(limit):
                set_limit(f"memory.{limit}", self._file("memory", name), str(memory[limit]))
        if memory.get("disableOOMKiller"):
            set_limit("memory.disableOOMKiller", self._file("memory", "memory.oom_control"), "1")
        if memory.get("swappiness") is not None:
            set_limit("memory.swappiness", self._file("memory", "memory.swappiness"), str(memory["swappiness"]))

    def _apply_memory_and_swap(self, limit: int, swap: int) -> None:
        """Set memory and memory plus swap in the order that keeps the first at most the second at every moment."""
        if not limit and not swap:
            return
        memory_file = self._file("memory", "memory.limit_in_bytes")
        swap_file = self._file("memory", "memory.memsw.limit_in_bytes")
        if limit == -1 and swap == 0 and os.path.exists(swap_file):
            swap = -1  # unlimited memory below a limit of memory plus swap is no such thing
        writes = []
        if limit:
            writes.append(("memory.limit", memory_file, str(limit)))
        if swap:
            writes.append(("memory.swap", swap_file, str(swap)))
            current = read_number(swap_file)
            if current is None:
                raise unsupported("memory.swap", swap_file)
            if swap == -1 or swap > current:
                writes.reverse()
        for name, path, value in writes:
            try:
                set_limit(name, path, value)
            except CgroupError as exc:
                if exc.errno != errno.EBUSY:
                    raise
                usage = read_number(self._file("memory", "memory.usage_in_bytes"))
                raise CgroupError(errno.EBUSY, f"{exc} (current usage: {usage} bytes)", path) from None

    def _apply_cpu(self, cpu: dict[str, Any]) -> None:
        shares = cpu.get("shares") or 0
        if shares:
            path = self._file("cpu", "cpu.shares")
            set_limit("cpu.shares", path, str(shares))
            # The kernel cuts a value out of range silently.
            actual = read_number(path) or 0
            if actual < shares:
                raise CgroupError(errno.EINVAL, f"cpu.shares: the maximum allowed cpu-shares is {actual}", path)
            if actual > shares:
                raise CgroupError(errno.EINVAL, f"cpu.shares: the minimum allowed cpu-shares is {actual}", path)
        if cpu.get("realtimeRuntime"):
            _make_realtime_room(self._directory("cpu"), self._roots["cpu"], cpu)
        self._apply_pair(cpu, ("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us"))
        burst = cpu.get("burst")
        if burst is not None and cpu.get("quota", 0) > 0:
            # A burst may not exceed the quota: set it last when the quota grows, first to nothing when it shrinks.
            set_limit("cpu.burst", self._file("cpu", "cpu.cfs_burst_us"), "0")
        self._apply_pair(cpu, ("period", "cpu.cfs_period_us"), ("quota", "cpu.cfs_quota_us"))
        if burst is not None:
            set_limit("cpu.burst", self._file("cpu", "cpu.cfs_burst_us"), str(burst))
        if cpu.get("idle") is not None:
            set_limit("cpu.idle", self._file("cpu", "cpu.idle"), str(cpu["idle"]))
        for name in ("cpus", "mems"):
            if cpu.get(name):
                set_limit(f"cpu.{name}", self._file("cpuset", f"cpuset.{name}"), cpu[name])

    def _apply_pair(self, cpu: dict[str, Any], *pair: tuple[str, str]) -> None:
        """Set a period and a quota; the kernel checks their ratio at each write, so the order depends on old values."""
        writes = [(f"cpu.{key}", self._file("cpu", name), str(cpu[key])) for key, name in pair if cpu.get(key)]
        if len(writes) == 2:
            try:
                set_limit(*writes[0])
                writes = writes[1:]
            except CgroupError as exc:
                if exc.errno != errno.EINVAL:
                    raise
                writes.reverse()
        for each in writes:
            set_limit(*each)

    def _apply_block_io(self, block_io: dict[str, Any]) -> None:
        if block_io.get("weight"):
            path = self._scheduler_file("weight")
            set_limit("blockIO.weight", path, str(block_io["weight"]))
        if block_io.get("leafWeight"):
            set_limit("blockIO.leafWeight", self._scheduler_file("leaf_weight"), str(block_io["leafWeight"]))
        for device in block_io.get("weightDevice") or []:
            number = f"{device['major']}:{device['minor']}"
            for key, name in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
                if device.get(key):
                    set_limit("blockIO.weightDevice", self._scheduler_file(name), f"{number} {device[key]}")
        for key, name in (
            ("throttleReadBpsDevice", "read_bps_device"),
            ("throttleWriteBpsDevice", "write_bps_device"),
            ("throttleReadIOPSDevice", "read_iops_device"),
            ("throttleWriteIOPSDevice", "write_iops_device"),
        ):
            for device in block_io.get(key) or []:
                line = f"{device['major']}:{device['minor']} {device['rate']}"
                set_limit(f"blockIO.{key}", self._file("blkio", f"blkio.throttle.{name}"), line)

    def _scheduler_file(self, name: str) -> str:
        bfq = self._file("blkio", f"blkio.bfq.{name}")
        return bfq if os.path.exists(bfq) else self._file("blkio", f"blkio.{name}")

    def _apply_network(self, network: dict[str, Any]) -> None:
        if network.get("classID"):
            set_limit("network.classID", self._file("net_cls", "net_cls.classid"), str(network["classID"]))
        for each in network.get("priorities") or []:
            line = f"{each['name']} {each['priority']}"
            set_limit("network.priorities", self._file("net_prio", "net_prio.ifpriomap"), line)


def rdma_line(device: str, limits: dict[str, Any]) -> str:
    """Return a line for ``rdma.max`` from one entry of ``linux.resources.rdma``."""
    words = [device]
    for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
        if limits.get(key) is not None:
            words.append(f"{name}={limits[key]}")
    return " ".join(words)


def _make_directories(directory: str) -> bool:
    """Make ``directory`` and missing parents; return whether the last one is new."""
    try:
        os.mkdir(directory, 0o755)
        return True
    except FileExistsError:
        return False
    except FileNotFoundError:
        _make_directories(os.path.dirname(directory))
        return _make_directories(directory)


def _inherit_cpuset(directory: str, root: str) -> None:
    """Give ``directory`` its parent's processors and memory nodes where it has none: a new level starts with none."""
    for file in ("/cpuset.cpus", "/cpuset.mems"):
        _inherit(directory, root, file)


def _inherit(directory: str, root: str, file: str) -> str:
    value = read(directory + file)
    if not value and directory != root:
        value = _inherit(os.path.dirname(directory), root, file)
        write(directory + file, value)
    return value


def _make_realtime_room(directory: str, root: str, cpu: dict[str, Any]) -> None:
    """Give the cgroups above ``directory`` the realtime share that it is about to ask for: a new level starts with none.

    A parent must have what its children have together; what the root has left decides. Raises CgroupError, OSError.
    """
    period = cpu.get("realtimePeriod") or read_number(directory + "/cpu.rt_period_us") or 1
    needed = cpu["realtimeRuntime"] / period
    above = []
    while (parent := os.path.dirname(directory)) != root:
        others = [entry.path for entry in os.scandir(parent) if entry.is_dir() and entry.path != directory]
        needed = max(needed + sum(_realtime_share(other) for other in others), _realtime_share(parent))
        above.append((parent, needed))
        directory = parent
    for parent, share in reversed(above):
        runtime = math.ceil(share * (read_number(parent + "/cpu.rt_period_us") or 1))
        if runtime > (read_number(parent + "/cpu.rt_runtime_us") or 0):
            set_limit("cpu.realtimeRuntime", parent + "/cpu.rt_runtime_us", str(runtime))


def _realtime_share(directory: str) -> float:
    return (read_number(directory + "/cpu.rt_runtime_us") or 0) / (read_number(directory + "/cpu.rt_period_us") or 1)


def _oom_kills(directory: str, reader: Reader = read) -> int:
    return read_table(directory + "/memory.oom_control", reader).get("oom_kill", 0)


def _memory_stats(reader: Reader, directory: str) -> dict[str, Any]:
    return {
        "usage": read_number(directory + "/memory.usage_in_bytes", reader) or 0,
        "max_usage": read_number(directory + "/memory.max_usage_in_bytes", reader) or 0,
        "limit": read_number(directory + "/memory.limit_in_bytes", reader) or 0,
        "failcnt": read_number(directory + "/memory.failcnt", reader) or 0,
        "stat": read_table(directory + "/memory.stat", reader),
        "oom_kill": _oom_kills(directory, reader),
    }


def _cpu_stats(reader: Reader, cpuacct: str, cpu: str | None) -> dict[str, Any]:
    per_cpu_ns = [int(word) for word in reader(cpuacct + "/cpuacct.usage_percpu").split()]
    result: dict[str, Any] = {
        "usage_ns": sum(per_cpu_ns),
        "user_ns": read_number(cpuacct + "/cpuacct.usage_user", reader) or 0,
        "system_ns": read_number(cpuacct + "/cpuacct.usage_sys", reader) or 0,
        "per_cpu_ns": per_cpu_ns,
    }
    throttling = read_table(cpu + "/cpu.stat", reader) if cpu is not None else {}
    result["periods"] = throttling.get("nr_periods", 0)
    result["throttled_periods"] = throttling.get("nr_throttled", 0)
    result["throttled_ns"] = throttling.get("throttled_time", 0)
    return result


def _blkio_stats(reader: Reader, directory: str) -> dict[str, list[dict[str, Any]]]:
    """Return the block I/O counters by Docker's names, from the I/O scheduler's files where it keeps them."""
    scheduler = ""
    for prefix in ("/blkio.", "/blkio.bfq."):
        try:
            reader(f"{directory}{prefix}io_serviced_recursive")
        except FileNotFoundError:
            continue
        scheduler = prefix
        break
    result = {}
    for name, (of_scheduler, of_throttling) in _BLKIO_FILES.items():
        entries: list[dict[str, Any]] = []
        if scheduler:
            entries = _blkio_entries(reader, f"{directory}{scheduler}{of_scheduler}")
        if not entries and of_throttling is not None:
            entries = _blkio_entries(reader, f"{directory}/blkio.{of_throttling}")
        result[name] = entries
    return result


def _blkio_entries(reader: Reader, path: str) -> list[dict[str, Any]]:
    """Parse lines of ``major:minor [operation] value``; the ``Total`` line over all devices is left out."""
    try:
        text = reader(path)
    except FileNotFoundError:
        return []
    entries = []
    for line in text.splitlines():
        words = line.split()
        major, colon, minor = words[0].partition(":") if words else ("", "", "")
        if not colon or len(words) < 2:
            continue
        operation = words[1] if len(words) == 3 else ""
        entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(words[-1])})
    return entries
