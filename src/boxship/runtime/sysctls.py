"""Kernel parameters of a container: only those that belong to one of its own namespaces."""

import os

from boxship.linux import fs
from boxship.runtime.failure import RuntimeFailure, reason

_IPC = frozenset(
    (
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
        *("kernel.shmmni", "kernel.shm_rmid_forced"),
    )
)


def check(name: str, namespaces: frozenset[str]) -> None:
    """Raise RuntimeFailure unless ``name`` is a parameter of one of ``namespaces`` (runtime-spec types)."""
    key = name.replace("/", ".")
    if key in _IPC or key.startswith("fs.mqueue."):
        if "ipc" not in namespaces:
            raise RuntimeFailure(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif key.startswith("net."):
        if "network" not in namespaces:
            raise RuntimeFailure(f'sysctl "{name}" not allowed in host network namespace')
    elif key == "kernel.domainname" and "uts" in namespaces:
        return
    elif key == "kernel.hostname":
        raise RuntimeFailure(f'sysctl "{name}" conflicts with the hostname of the configuration')
    else:
        raise RuntimeFailure(f'sysctl "{name}" is not in a separate kernel namespace')


def apply(proc_fd: int, values: dict[str, str], namespaces: frozenset[str]) -> None:
    """Write ``values`` below ``proc_fd``, a procfs; the kernel takes them for the namespaces that the caller is in.

    Names are written with dots, or with slashes where a part has a dot of its own. Raises RuntimeFailure.
    """
    for name, value in values.items():
        check(name, namespaces)
        path = name if "/" in name else name.replace(".", "/")
        try:
            rules = fs.RESOLVE_BENEATH | fs.RESOLVE_NO_SYMLINKS
            fd = fs.openat2(proc_fd, f"sys/{path}", os.O_WRONLY, resolve=rules)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as exc:
            raise RuntimeFailure(f"write sysctl key {name}: open /proc/sys/{path}: {reason(exc)}") from exc
