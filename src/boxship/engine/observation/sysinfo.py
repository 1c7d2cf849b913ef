"""What this host and its kernel can do: the source of ``docker info``'s capability fields and warnings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from boxship.linux import cgroup, seccomp

CGROUP_DRIVER = "cgroupfs"


class SysInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the host; a boolean says that containers can be limited or treated that way."""

    cgroup_version: int = 0  # 1, 2, or 0 without cgroups
    cgroup_driver: str = CGROUP_DRIVER  # "none" without cgroups
    cgroup_namespaces: bool = False
    memory_limit: bool = False
    swap_limit: bool = False
    memory_reservation: bool = False
    memory_swappiness: bool = False  # version 1 only
    oom_kill_disable: bool = False  # version 1 only
    kernel_memory_tcp: bool = False  # version 1 only
    cpu_shares: bool = False
    cpu_cfs: bool = False  # quota and period
    cpu_realtime: bool = False  # version 1 only
    cpuset: bool = False
    cpuset_cpus: str = ""  # processors that a container can ask for: "0-1"
    cpuset_mems: str = ""
    pids_limit: bool = False
    blkio_weight: bool = False
    blkio_weight_device: bool = False
    blkio_throttle: bool = False  # the four limits of bytes and operations a second
    hugetlb: bool = False
    devices: bool = False
    seccomp: bool = False
    apparmor: bool = False
    selinux: bool = False
    user_namespaces: bool = False
    ipv4_forwarding: bool = False
    bridge_nf_iptables: bool = False
    bridge_nf_ip6tables: bool = False
    kernel_version: str = ""
    operating_system: str = ""  # PRETTY_NAME of os-release
    os_version: str = ""  # VERSION_ID of os-release
    architecture: str = ""  # as uname -m says
    hostname: str = ""
    memory_total: int = 0  # bytes
    cpus: int = 0

    def warnings(self) -> list[str]:
        """Return what the host lacks in the words of ``docker info``; limits that version 2 never has are no lack."""
        return [text for lacks, text in _WARNINGS if lacks(self)]


_WARNINGS: tuple[tuple[Callable[[SysInfo], bool], str], ...] = (
    (lambda info: info.cgroup_version > 0 and not info.memory_limit, "WARNING: No memory limit support"),
    (lambda info: info.cgroup_version > 0 and not info.swap_limit, "WARNING: No swap limit support"),
    (
        lambda info: info.cgroup_version == 1 and not info.kernel_memory_tcp,
        "WARNING: No kernel memory TCP limit support",
    ),
    (lambda info: info.cgroup_version == 1 and not info.oom_kill_disable, "WARNING: No oom kill disable support"),
    (lambda info: info.cgroup_version > 0 and not info.cpu_cfs, "WARNING: No cpu cfs quota support"),
    (lambda info: info.cgroup_version > 0 and not info.cpu_cfs, "WARNING: No cpu cfs period support"),
    (lambda info: info.cgroup_version > 0 and not info.cpu_shares, "WARNING: No cpu shares support"),
    (lambda info: info.cgroup_version > 0 and not info.cpuset, "WARNING: No cpuset support"),
    (lambda info: info.cgroup_version == 2 and not info.blkio_weight, "WARNING: No io.weight support"),
    (
        lambda info: info.cgroup_version == 2 and not info.blkio_weight_device,
        "WARNING: No io.weight (per device) support",
    ),
    *(
        (lambda info: info.cgroup_version == 2 and not info.blkio_throttle, f"WARNING: No io.max ({word}) support")
        for word in ("rbps", "wbps", "riops", "wiops")
    ),
    *(
        (
            lambda info: info.cgroup_version == 1 and not info.blkio_throttle,
            f"WARNING: No blkio throttle.{file} support",
        )
        for file in ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")
    ),
    (lambda info: not info.ipv4_forwarding, "WARNING: IPv4 forwarding is disabled"),
    (lambda info: not info.bridge_nf_iptables, "WARNING: bridge-nf-call-iptables is disabled"),
    (lambda info: not info.bridge_nf_ip6tables, "WARNING: bridge-nf-call-ip6tables is disabled"),
)


def probe(root: str = "/", layout: cgroup.Layout | None = None) -> SysInfo:
    """Read the facts of this host; blocking, some milliseconds. ``root`` is where /proc, /sys and /etc are looked up."""
    layout = layout or cgroup.layout()
    uname = os.uname()
    release = parse_os_release(_first_text(root, ("etc/os-release", "usr/lib/os-release")))
    if layout.version == 1:
        limits = _probe_v1(layout.controllers)
    elif layout.unified is not None:
        limits = _probe_v2(layout.unified)
    else:
        limits = {}
    return SysInfo(
        **limits,
        cgroup_version=layout.version,
        cgroup_driver=CGROUP_DRIVER if layout.version else "none",
        cgroup_namespaces=os.path.exists(f"{root}/proc/self/ns/cgroup"),
        seccomp=seccomp.action_available(seccomp.SECCOMP_RET_ERRNO),
        apparmor=_first_text(root, ("sys/module/apparmor/parameters/enabled",)).startswith("Y"),
        selinux=os.path.exists(f"{root}/sys/fs/selinux/enforce"),
        user_namespaces=os.path.exists(f"{root}/proc/self/ns/user"),
        ipv4_forwarding=_is_one(f"{root}/proc/sys/net/ipv4/ip_forward"),
        bridge_nf_iptables=_is_one(f"{root}/proc/sys/net/bridge/bridge-nf-call-iptables"),
        bridge_nf_ip6tables=_is_one(f"{root}/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
        kernel_version=uname.release,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        architecture=uname.machine,
        hostname=uname.nodename,
        memory_total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cpus=len(os.sched_getaffinity(0)),
    )


def parse_os_release(text: str) -> dict[str, str]:
    """Parse os-release(5): lines of NAME=value, the value perhaps in quotes with backslash escapes."""
    fields = {}
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        if not sign or name.startswith("#"):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
            for character in '\\"$`':
                value = value.replace("\\" + character, character)
        fields[name] = value
    return fields


def _probe_v1(controllers: dict[str, str]) -> dict[str, Any]:
    def has(controller: str, file: str) -> bool:
        return controller in controllers and os.path.exists(f"{controllers[controller]}/{file}")

    cpuset = controllers.get("cpuset", "")
    return {
        "memory_limit": has("memory", "memory.limit_in_bytes"),
        "swap_limit": has("memory", "memory.memsw.limit_in_bytes"),
        "memory_reservation": has("memory", "memory.soft_limit_in_bytes"),
        "memory_swappiness": has("memory", "memory.swappiness"),
        "oom_kill_disable": has("memory", "memory.oom_control"),
        "kernel_memory_tcp": has("memory", "memory.kmem.tcp.limit_in_bytes"),
        "cpu_shares": has("cpu", "cpu.shares"),
        "cpu_cfs": has("cpu", "cpu.cfs_quota_us") and has("cpu", "cpu.cfs_period_us"),
        "cpu_realtime": has("cpu", "cpu.rt_period_us") and has("cpu", "cpu.rt_runtime_us"),
        "cpuset": bool(cpuset),
        "cpuset_cpus": _text(f"{cpuset}/cpuset.cpus").strip() if cpuset else "",
        "cpuset_mems": _text(f"{cpuset}/cpuset.mems").strip() if cpuset else "",
        "pids_limit": "pids" in controllers,
        # The root has no weight of its own, but other files of the scheduler that gives weights a meaning.
        "blkio_weight": has("blkio", "blkio.weight") or has("blkio", "blkio.bfq.io_serviced"),
        "blkio_weight_device": has("blkio", "blkio.weight_device") or has("blkio", "blkio.bfq.io_serviced"),
        "blkio_throttle": has("blkio", "blkio.throttle.read_bps_device"),
        "hugetlb": "hugetlb" in controllers,
        "devices": "devices" in controllers,
    }


def _probe_v2(root: str) -> dict[str, Any]:
    """Answer by the controllers that the root offers; most limits' files exist below it only."""
    controllers = _text(f"{root}/cgroup.controllers").split()
    cpuset = "cpuset" in controllers
    io = "io" in controllers
    return {
        "memory_limit": "memory" in controllers,
        # The root has no memory.swap.max. A cgroup below it shows whether swap is accounted; without one assume it is.
        "swap_limit": "memory" in controllers and _child_has(root, "memory.swap.max", when_unknown=True),
        "memory_reservation": "memory" in controllers,
        "cpu_shares": "cpu" in controllers,
        "cpu_cfs": "cpu" in controllers,
        "cpuset": cpuset,
        "cpuset_cpus": _text(f"{root}/cpuset.cpus.effective").strip() if cpuset else "",
        "cpuset_mems": _text(f"{root}/cpuset.mems.effective").strip() if cpuset else "",
        "pids_limit": "pids" in controllers,
        "blkio_weight": io and _child_has(root, "io.weight", "io.bfq.weight", when_unknown=False),
        "blkio_weight_device": io and _child_has(root, "io.weight", "io.bfq.weight", when_unknown=False),
        "blkio_throttle": io,
        "hugetlb": "hugetlb" in controllers,
        "devices": True,
    }


def _child_has(root: str, *files: str, when_unknown: bool) -> bool:
    """Return whether a cgroup directly below ``root`` has one of ``files``, looking at one with controllers enabled."""
    enabled = _text(f"{root}/cgroup.subtree_control").split()
    if files[0].partition(".")[0] not in enabled:
        return when_unknown
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                return any(os.path.exists(f"{entry.path}/{file}") for file in files)
    return when_unknown


def _first_text(root: str, paths: tuple[str, ...]) -> str:
    return next((text for path in paths if (text := _text(f"{root}/{path}"))), "")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _is_one(path: str) -> bool:
    return _text(path).strip() == "1"
