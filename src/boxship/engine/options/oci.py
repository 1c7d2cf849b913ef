"""The OCI runtime configuration of a container, composed as a pure function of what the engine knows.

Defaults (mounts, capabilities, masked paths, devices) are Docker's; see the OCI runtime-spec for the document itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from boxship.base.errors import InvalidInput
from boxship.base.identity import IdentityMapping
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.options.request import DEFAULT_PATH
from boxship.engine.options.security import security_options
from boxship.linux.capabilities import NAMES as CAPABILITIES
from boxship.spec.docker.container import HostConfig, ThrottleDevice, Ulimit

OCI_VERSION = "1.2.0"

DEFAULT_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]


MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# major, minor, type; -1 is any (OCI runtime-spec, config-linux.md, "Default Devices"; the rules are Docker's)
_DEVICE_RULES: tuple[tuple[str, int, int, str], ...] = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, -1, "rwm"),
)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the host adds to a container's specification for one start."""

    files_dir: str  # holds hostname, hosts, resolv.conf
    rootfs: str
    cgroup_path: str
    network_namespace: str | None  # path; None is the host's
    identity: IdentityMapping | None = None  # ids of the container on the host, None if they are the same
    user_namespace: str = ""  # path, with ``identity``
    namespaces: dict[str, str] = {}  # further ones joined by path, by OCI type
    devices: list[dict[str, Any]] = []  # OCI linux.devices to create, with their rules' access
    block_devices: dict[str, tuple[int, int]] = {}  # major and minor of the paths that block I/O limits name
    shm_namespace: str | None = None  # mount namespace whose /dev/shm is shared; None makes one, or binds the host's
    seccomp: dict[str, Any] | None = None
    init_path: str | None = None  # docker-init on the host, None without --init
    hostname: str
    default_ulimits: list[Ulimit] = []
    no_new_privileges: bool = False  # what a container has that says nothing of it


def compose(spec: ContainerSpec, host: Surroundings) -> dict[str, Any]:
    """Return the whole ``config.json`` document; users and working directory are resolved by the shim on the real root."""
    config, limits = spec.config, spec.host_config
    main = process(
        spec,
        hostname=host.hostname,
        default_ulimits=host.default_ulimits,
        no_new_privileges=host.no_new_privileges,
    )
    mounts = _mounts(spec, host)
    if host.init_path:
        main["args"] = ["/sbin/docker-init", "--", *main["args"]]
        mounts.append(_bind(host.init_path, "/sbin/docker-init", ["ro"]))
    if config.tty and limits.console_size and all(limits.console_size):
        main["consoleSize"] = {"height": limits.console_size[0], "width": limits.console_size[1]}
    document: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": main,
        "root": {"path": host.rootfs, "readonly": limits.readonly_rootfs},
        "mounts": mounts,
        "linux": {
            "resources": {**resources(limits, host.block_devices), "devices": _device_rules(limits, host.devices)},
            "cgroupsPath": host.cgroup_path,
            "namespaces": _namespaces(limits, host),
            "devices": host.devices,
            "rootfsPropagation": _propagation(spec.mounts),
            "sysctl": _sysctls(limits, host.identity),
            **(host.identity.oci() if host.identity else {}),
        },
        "annotations": dict(limits.annotations or {}),
    }
    if limits.uts_mode != "host":
        document["hostname"] = host.hostname
        if config.domainname:
            document["domainname"] = config.domainname
    if not limits.privileged and "systempaths=unconfined" not in _security(limits):
        document["linux"]["maskedPaths"] = MASKED_PATHS if limits.masked_paths is None else limits.masked_paths
        document["linux"]["readonlyPaths"] = READONLY_PATHS if limits.readonly_paths is None else limits.readonly_paths
    if spec.mount_label:
        document["linux"]["mountLabel"] = spec.mount_label
    if host.seccomp is not None:
        document["linux"]["seccomp"] = host.seccomp
    return document


def process(
    spec: ContainerSpec, *, hostname: str, default_ulimits: Sequence[Ulimit], no_new_privileges: bool = False
) -> dict[str, Any]:
    """Return the OCI ``process`` of the container's first program; the shim fills the user in."""
    config, limits = spec.config, spec.host_config
    ulimits = {limit.name: limit for limit in (*default_ulimits, *(limits.ulimits or []))}
    return {
        "terminal": config.tty,
        "user": {"uid": 0, "gid": 0},
        "args": [spec.path, *spec.args],
        "env": environment(config.env or [], hostname=hostname, tty=config.tty),
        "cwd": config.working_dir or "/",
        "capabilities": _capability_sets(capabilities(limits)),
        "noNewPrivileges": dict(security_options(limits)).get("no-new-privileges", str(no_new_privileges).lower())
        == "true",
        "oomScoreAdj": limits.oom_score_adj,
        **({"apparmorProfile": spec.apparmor_profile} if spec.apparmor_profile else {}),
        **({"selinuxLabel": spec.process_label} if spec.process_label else {}),
        "rlimits": [
            {"type": f"RLIMIT_{limit.name.upper()}", "soft": _unlimited(limit.soft), "hard": _unlimited(limit.hard)}
            for limit in ulimits.values()
        ],
    }


def exec_process(
    base: dict[str, Any], *, args: list[str], env: list[str], cwd: str, tty: bool, privileged: bool
) -> dict[str, Any]:
    """Return the OCI process of an exec from the container's own ``process`` document."""
    process = {**base, "args": args, "terminal": tty, "env": replace_env(base["env"], env), "cwd": cwd or base["cwd"]}
    if tty and not any(entry.startswith("TERM=") for entry in process["env"]):
        process["env"].append("TERM=xterm")
    process.pop("consoleSize", None)
    if privileged:
        process["capabilities"] = _capability_sets(list(CAPABILITIES))
    return process


def environment(env: Sequence[str], *, hostname: str, tty: bool) -> list[str]:
    """Return Docker's environment: PATH, HOSTNAME, TERM for terminals, then the container's own on top."""
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}"]
    if tty:
        base.append("TERM=xterm")
    return replace_env(base, env)


def replace_env(base: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Return ``base`` with values replaced in place or appended; an entry without ``=`` removes the variable."""
    result = list(base)
    places = {entry.partition("=")[0]: i for i, entry in enumerate(result)}
    removed: set[int] = set()
    for entry in changes:
        name, equals, _ = entry.partition("=")
        if not equals:
            if name in places:
                removed.add(places.pop(name))
        elif name in places:
            result[places[name]] = entry
        else:
            places[name] = len(result)
            result.append(entry)
    return [entry for i, entry in enumerate(result) if i not in removed]


def capabilities(host: HostConfig) -> list[str]:
    """Return the capability names of a container; raise InvalidInput for unknown ones in Docker's words."""
    if host.privileged:
        return list(CAPABILITIES)
    add, drop = _named_capabilities("CapAdd", host.cap_add), _named_capabilities("CapDrop", host.cap_drop)
    if "ALL" in add:
        return [name for name in CAPABILITIES if name not in drop]
    base = [] if "ALL" in drop else [name for name in DEFAULT_CAPABILITIES if name not in drop]
    return base + [name for name in add if name not in base]


def resources(host: HostConfig, numbers: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return OCI ``linux.resources`` without devices, holding only what was asked for.

    ``numbers`` has major and minor of each device path that block I/O limits name.
    """
    cpu: dict[str, Any] = {
        "shares": host.cpu_shares,
        "period": host.cpu_period,
        "quota": host.cpu_quota,
        "cpus": host.cpuset_cpus,
        "mems": host.cpuset_mems,
        "realtimePeriod": host.cpu_realtime_period,
        "realtimeRuntime": host.cpu_realtime_runtime,
    }
    if host.nano_cpus:
        cpu["period"], cpu["quota"] = 100_000, host.nano_cpus // 10_000
    memory: dict[str, Any] = {
        "limit": host.memory,
        "swap": host.memory_swap,
        "reservation": host.memory_reservation,
        "disableOOMKiller": bool(host.oom_kill_disable),
    }
    block: dict[str, Any] = {
        "weight": host.blkio_weight,
        "weightDevice": [
            {**_numbers(device.path, numbers), "weight": device.weight} for device in host.blkio_weight_device or []
        ],
        "throttleReadBpsDevice": _throttles(host.blkio_device_read_bps, numbers),
        "throttleWriteBpsDevice": _throttles(host.blkio_device_write_bps, numbers),
        "throttleReadIOPSDevice": _throttles(host.blkio_device_read_iops, numbers),
        "throttleWriteIOPSDevice": _throttles(host.blkio_device_write_iops, numbers),
    }
    wanted: dict[str, Any] = {
        "cpu": {key: value for key, value in cpu.items() if value},
        "memory": {key: value for key, value in memory.items() if value},
        "blockIO": {key: value for key, value in block.items() if value},
    }
    if host.memory_swappiness not in (None, -1):
        wanted["memory"]["swappiness"] = host.memory_swappiness
    if host.pids_limit:
        wanted["pids"] = {"limit": host.pids_limit}
    return {key: value for key, value in wanted.items() if value}


def _numbers(path: str, numbers: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    return {"major": numbers[path][0], "minor": numbers[path][1]}


def _throttles(limits: Sequence[ThrottleDevice] | None, numbers: Mapping[str, tuple[int, int]]) -> list[dict[str, int]]:
    return [{**_numbers(device.path, numbers), "rate": device.rate} for device in limits or []]


def _named_capabilities(field: str, names: Sequence[str] | None) -> list[str]:
    result = []
    for name in names or []:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in CAPABILITIES:
            raise InvalidInput(f'invalid {field}: unknown capability: "{full}"')
        result.append(full)
    return result


def _capability_sets(names: list[str]) -> dict[str, list[str]]:
    # Docker leaves inheritable and ambient empty since CVE-2022-24769.
    return {"bounding": names, "effective": names, "permitted": names}


def _security(host: HostConfig) -> set[str]:
    return {f"{key}={value}" for key, value in security_options(host)}


def _unlimited(value: int) -> int:
    return (1 << 64) - 1 if value == -1 else value


def _namespaces(limits: HostConfig, host: Surroundings) -> list[dict[str, str]]:
    result: list[dict[str, str]] = [{"type": "mount"}]
    if host.identity is not None:
        result.append({"type": "user", "path": host.user_namespace})
    if host.network_namespace is not None:
        result.append({"type": "network", "path": host.network_namespace})
    modes = {"uts": limits.uts_mode, "pid": limits.pid_mode, "ipc": limits.ipc_mode, "cgroup": limits.cgroupns_mode}
    for kind, mode in modes.items():
        if kind in host.namespaces:
            result.append({"type": kind, "path": host.namespaces[kind]})
        elif mode != "host":
            result.append({"type": kind})
    return result


def _mounts(spec: ContainerSpec, host: Surroundings) -> list[dict[str, Any]]:
    limits = spec.host_config
    access = "rw" if limits.privileged else "ro"
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", access]},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [access, "nosuid", "noexec", "nodev"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    ]
    if host.shm_namespace is not None:
        options = ["rbind", "nosuid", "noexec", "nodev"]
        mounts.append(
            {
                "destination": "/dev/shm",
                "type": "bind",
                "source": "/dev/shm",
                "options": options,
                "namespace": host.shm_namespace,  # not of the runtime-spec: see runtime.mounts
            }
        )
    elif limits.ipc_mode == "host":
        mounts.append(_bind("/dev/shm", "/dev/shm", []))
    elif limits.ipc_mode != "none":
        mounts.append(
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={limits.shm_size}"],
            }
        )
    taken = {mount.target for mount in spec.mounts}
    mounts = [mount for mount in mounts if mount["destination"] not in taken]
    ordered = sorted(spec.mounts, key=lambda mount: mount.target.count("/"))
    mounts.extend(user_mount(mount) for mount in ordered)
    for name in ("resolv.conf", "hostname", "hosts"):
        if f"/etc/{name}" not in taken:
            mounts.append(_bind(f"{host.files_dir}/{name}", f"/etc/{name}", ["ro"] if limits.readonly_rootfs else []))
    return mounts


def user_mount(mount: ResolvedMount) -> dict[str, Any]:
    """Return a mount of the user's as an entry of the runtime-spec's ``mounts``."""
    if mount.type == "tmpfs":
        options = ["noexec", "nosuid", "nodev", *(["ro"] if mount.read_only else []), *mount.options]
        return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}
    bind = "rbind" if mount.recursive else "bind"
    read_only = ["ro", *(["rro"] if mount.read_only_below else [])] if mount.read_only else []
    options = [bind, mount.propagation or "rprivate", *read_only]
    entry: dict[str, Any] = {
        "destination": mount.target,
        "type": "bind",
        "source": mount.source,
        "options": options,
    }
    # Neither is of the runtime-spec: see runtime.mounts and runtime.idmap.
    if mount.subpath:
        entry["subpath"] = mount.subpath
    if mount.idmap is not None:
        entry["idmap"] = {"uids": mount.idmap.uids, "gids": mount.idmap.gids}
    return entry


def _bind(source: str, target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate", *options]}


def _propagation(mounts: Sequence[ResolvedMount]) -> str:
    kinds = {mount.propagation for mount in mounts}
    if kinds & {"shared", "rshared"}:
        return "shared"
    if kinds & {"slave", "rslave"}:
        return "rslave"
    return "rprivate"


def _device_rules(limits: HostConfig, devices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if limits.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor, access in _DEVICE_RULES:
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        if major >= 0:
            rule["major"] = major
        if minor >= 0:
            rule["minor"] = minor
        rules.append(rule)
    rules.extend(
        {
            "allow": True,
            "type": device["type"],
            "major": device["major"],
            "minor": device["minor"],
            "access": device.get("access", "rwm"),
        }
        for device in devices
    )
    rules.extend(_parse_device_rule(text) for text in limits.device_cgroup_rules or [])
    return rules


def _parse_device_rule(text: str) -> dict[str, Any]:
    try:
        kind, numbers, access = text.split()
        major, minor = numbers.split(":")
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        if kind not in "abc" or not set(access) <= set("rwm"):
            raise ValueError
        if major != "*":
            rule["major"] = int(major)
        if minor != "*":
            rule["minor"] = int(minor)
    except ValueError:
        raise InvalidInput(f"invalid device cgroup rule format: '{text}'") from None
    return rule


def _sysctls(limits: HostConfig, identity: IdentityMapping | None) -> dict[str, str]:
    values = dict(limits.sysctls or {})
    if limits.network_mode != "host" and not limits.network_mode.startswith("container:"):
        # Docker lets unprivileged processes of a container ping and bind low ports.
        values.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        last = identity.gids[0][2] - 1 if identity else 2147483647  # only groups that there are can be named
        values.setdefault("net.ipv4.ping_group_range", f"0 {last}")
    return values
