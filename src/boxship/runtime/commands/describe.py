"""spec and features: what a configuration looks like, and what this runtime can do."""

import json
import os

from boxship.linux import capabilities
from boxship.runtime import mount_options
from boxship.runtime.commands.options import VALUE, Options
from boxship.runtime.commands.state import OCI_VERSION
from boxship.runtime.failure import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC_OPTIONS = {"bundle b": VALUE}

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_SCMP_ACTIONS = (
    *("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"),
    *("SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"),
)
_SCMP_OPERATORS = (
    *("SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ"),
    "SCMP_CMP_NE",
)


def write_spec(root: str, options: Options) -> int:  # noqa: ARG001 - all commands are called alike
    """Write the default configuration into a bundle that has none."""
    path = os.path.join(options.value("bundle") or ".", "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(default_spec(), file, indent="\t")
            file.write("\n")
    except FileExistsError as exc:
        raise RuntimeFailure("File config.json exists. Remove it first") from exc
    return 0


def show_features(root: str, options: Options) -> int:  # noqa: ARG001
    """Print the runtime-spec's features document."""
    print(json.dumps(features(), indent=2))
    return 0


def default_spec() -> "dict[str, Any]":
    """Return a configuration that starts a shell in ``rootfs`` with few privileges."""
    sets = ("bounding", "effective", "permitted", "ambient")
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(_CAPABILITIES) for name in sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "boxship",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                *("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance"),
                *("ptmxmode=0666", "mode=0620", "gid=5"),
            ),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in _NAMESPACES],
            "maskedPaths": [
                *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
                *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def features() -> "dict[str, Any]":
    """Return what this runtime supports (runtime-spec, features.md)."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(mount_options.names()),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": True, "actions": list(_SCMP_ACTIONS), "operators": list(_SCMP_OPERATORS)},
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
        },
        "annotations": {},
    }


def _mount(destination: str, type: str, source: str, *options: str) -> "dict[str, Any]":
    entry: dict[str, Any] = {"destination": destination, "type": type, "source": source}
    if options:
        entry["options"] = list(options)
    return entry
