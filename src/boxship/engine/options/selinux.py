"""SELinux labels of containers: of their processes, of their files, and of what is bound with ``:z`` or ``:Z``.

A label is ``user:role:type:level``. Two categories in the level, drawn for each container, keep containers apart that have
the same type. Labels are given where the daemon runs with ``--selinux-enabled`` and the kernel has SELinux; elsewhere the
options are only checked.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Collection
from typing import NamedTuple

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.options.security import security_options
from boxship.snapshots import tree
from boxship.spec.docker.container import HostConfig

_PARTS = ("user", "role", "type", "level")
_OPTIONS = ("disable", *_PARTS, "filetype")
_CATEGORIES = 1024  # of the targeted policy: c0 to c1023
_CONTEXTS = "etc/selinux/{}/contexts/lxc_contexts"  # selinux's libselinux: lxc_contexts(5)
_ATTRIBUTE = "security.selinux"
_PROTECTED = frozenset(
    (
        *("/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64"),
        *("/media", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib"),
        "/var/log",
    )
)  # relabelled as a whole, the host would not start again


class Labels(NamedTuple):
    """The labels of one container; empty without SELinux."""

    process: str = ""
    mount: str = ""


def check(host: HostConfig) -> None:
    """Raise InvalidInput in Docker's words for a ``label`` option that means nothing."""
    for value in _given(host):
        key, separator, _ = value.partition(":")
        if not separator and key != "disable":
            raise InvalidInput(
                f"Bad label option \"{value}\", valid options 'disable' or \n'user, role, level, type, filetype' "
                "followed by ':' and a value"
            )
        if key not in _OPTIONS:
            raise InvalidInput(
                f"Bad label option \"{key}\", valid options 'disable, user, role, level, type, filetype'"
            )


def choose(
    host: HostConfig, taken: Collection[str], *, root: str = "/", draw: Callable[[int], int] = secrets.randbelow
) -> Labels:
    """Return the labels of a new container on a host with SELinux; ``taken`` are the levels of the others.

    Privileged containers, and those that share the host's processes or IPC, are not confined, as in Docker. Blocking.
    Raises SystemFailure when the host's policy has no labels for containers.
    """
    given = _given(host)
    if "disable" in given or host.privileged or "host" in (host.pid_mode, host.ipc_mode):
        return Labels()
    defaults = _defaults(root)
    process, mount = defaults["process"].split(":", 3), defaults["file"].split(":", 3)
    process[3] = mount[3] = _level(taken, draw)
    for value in given:
        key, _, wanted = value.partition(":")
        if key == "filetype":
            mount[_PARTS.index("type")] = wanted
            continue
        process[_PARTS.index(key)] = wanted
        if key in ("user", "level"):
            mount[_PARTS.index(key)] = wanted
    return Labels(":".join(process), ":".join(mount))


def hint(spec: ContainerSpec) -> str:
    """Return what keeps a container from files that are bound into it as the host has labelled them; "" if nothing does."""
    if not spec.process_label:
        return ""
    bound = [each.source for each in spec.mounts if each.type == "bind" and not {"z", "Z"} & set(each.mode.split(","))]
    if not bound:
        return ""
    return (
        f'SELinux may have denied it access ("Permission denied") to {", ".join(bound)}: mount that with :z, '
        "or with :Z if no other container uses it"
    )


def relabel(mounts: Collection[ResolvedMount], label: str) -> None:
    """Give the sources of mounts with ``z`` the label that all containers share, those with ``Z`` this container's.

    Blocking; links are not followed. Raises InvalidInput for directories that the host needs, SystemFailure.
    """
    for each in mounts:
        modes = each.mode.split(",")
        if each.type == "tmpfs" or not {"z", "Z"} & set(modes):
            continue
        if os.path.realpath(each.source) in _PROTECTED:
            raise InvalidInput(f"SELinux relabeling of {each.source} is not allowed")
        wanted = label if "Z" in modes else ":".join([*label.split(":", 3)[:3], "s0"])
        try:
            _relabel(each.source, os.fsencode(wanted))
        except OSError as exc:
            raise SystemFailure(f"error setting label on mount source '{each.source}': {exc.strerror}") from exc


def _given(host: HostConfig) -> list[str]:
    return [value for key, value in security_options(host) if key == "label"]


def _defaults(root: str) -> dict[str, str]:
    """Return the host's labels for containers: ``process`` and ``file``."""
    policy = "targeted"
    for line in _lines(f"{root.rstrip('/')}/etc/selinux/config"):
        key, _, value = line.partition("=")
        if key.strip() == "SELINUXTYPE":
            policy = value.strip()
    found = {}
    for line in _lines(f"{root.rstrip('/')}/{_CONTEXTS.format(policy)}"):
        key, separator, value = line.partition("=")
        if separator and not key.lstrip().startswith("#"):
            found[key.strip()] = value.strip().strip('"')
    if any(found.get(key, "").count(":") < len(_PARTS) - 1 for key in ("process", "file")):
        raise SystemFailure(f"SELinux policy {policy} has no labels for containers")
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _level(taken: Collection[str], draw: Callable[[int], int]) -> str:
    """Draw a level that no container has; with half a million pairs that is soon found."""
    while True:
        first, second = sorted((draw(_CATEGORIES), draw(_CATEGORIES)))
        level = f"s0:c{first},c{second}"
        if first != second and level not in taken:
            return level


def _relabel(path: str, value: bytes) -> None:
    os.setxattr(path, _ATTRIBUTE, value)
    if not stat.S_ISDIR(os.stat(path).st_mode):
        return
    with tree.opened(tree.open_root(path)) as root_fd:
        for name, parent_fd, _ in tree.walk(root_fd):
            tree.set_xattr(parent_fd, name.rpartition("/")[2], _ATTRIBUTE, value)
