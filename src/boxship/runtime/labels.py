"""AppArmor and SELinux: the label that the next execve takes on."""

import os

from boxship.linux import fs
from boxship.runtime.failure import RuntimeFailure, reason

_UNCONFINED = ("", "unconfined")


def prepare(proc_fd: int, apparmor: str, selinux: str, sysfs: str = "/sys") -> None:
    """Ask the kernel to start the program under these labels; ``proc_fd`` is the host's procfs.

    Raises RuntimeFailure when a label was asked for and the host has no such security module.
    """
    if apparmor not in _UNCONFINED:
        if not os.path.isdir(f"{sysfs}/kernel/security/apparmor"):
            raise RuntimeFailure(
                "unable to apply apparmor profile: apparmor: config provided but apparmor not supported"
            )
        _write(proc_fd, ("self/attr/apparmor/exec", "self/attr/exec"), f"exec {apparmor}", "apparmor profile")
    if selinux:
        if not os.path.isdir(f"{sysfs}/fs/selinux"):
            raise RuntimeFailure("selinux label is specified in config, but selinux is disabled or not supported")
        _write(proc_fd, ("self/attr/exec",), selinux, "selinux label")


def _write(proc_fd: int, paths: tuple[str, ...], text: str, what: str) -> None:
    for path in paths:
        try:
            # "self" is a link of procfs itself; magic links stay forbidden.
            fd = fs.openat2(proc_fd, path, os.O_WRONLY, resolve=fs.RESOLVE_BENEATH | fs.RESOLVE_NO_MAGICLINKS)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise RuntimeFailure(f"unable to apply {what}: {reason(exc)}") from exc
        try:
            os.write(fd, text.encode())
        except OSError as exc:
            raise RuntimeFailure(f"unable to apply {what}: {reason(exc)}") from exc
        finally:
            os.close(fd)
        return
    raise RuntimeFailure(f"unable to apply {what}: no such file or directory")
