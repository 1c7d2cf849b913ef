"""The mounts of a container, in the order of its configuration."""

import os
import stat

from boxship.linux import fs, mount
from boxship.runtime import cgroup_mounts, copy_up, foreign, places
from boxship.runtime.failure import RuntimeFailure, reason
from boxship.runtime.mount_options import MountOptions, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# What may be mounted below /proc: single files that tell about the machine (lxcfs), no place where writes are obeyed.
_BELOW_PROC = frozenset(
    (
        *("/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime"),
        *("/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid"),
        "/proc/sys/crypto/fips_enabled",
    )
)
# Filesystems whose files change the host when they are taken for others: only on an ordinary directory of the root.
_KERNEL_TYPES = ("proc", "sysfs")
_UNLABELLED = ("proc", "sysfs", "mqueue", "cgroup")


def is_bind(entry: "dict[str, Any]") -> bool:
    """Return whether the entry of ``mounts`` is a bind mount."""
    return entry.get("type") == "bind" or bool(parse(entry.get("options") or []).flags & mount.MS_BIND)


def labelled(entry: "dict[str, Any]", label: str) -> "dict[str, Any]":
    """Return the entry with ``linux.mountLabel`` as the SELinux context of all files of a new file system.

    Binds keep the labels they have, and the kernel's own file systems take none.
    """
    if not label or is_bind(entry) or entry.get("namespace") or entry.get("type") in _UNLABELLED:
        return entry
    return {**entry, "options": [*(entry.get("options") or []), f'context="{label}"']}


def apply(
    root_fd: int,
    mounts: "list[dict[str, Any]]",
    sources: "Mapping[str, int]",
    mapped: "Mapping[str, int]",
    *,
    cgroup_namespace: bool,
) -> None:
    """Mount each of ``mounts`` (runtime-spec ``mounts``) below ``root_fd``. Raises RuntimeFailure naming the mount.

    ``sources`` are descriptors of sources of bind mounts that are open already, by path; ``mapped`` are the mounts
    themselves of those with other owners (see :mod:`boxship.runtime.idmap`), by destination.

    Two fields are our own: ``subpath`` of a bind is what of ``source`` is mounted, walked inside it; ``namespace`` is the
    mount namespace (a path) from whose ``source`` a tmpfs is shared.
    """
    for entry in mounts:
        source = entry.get("source", "")
        try:
            _mount_one(root_fd, entry, sources, mapped, cgroup_namespace)
        except OSError as exc:
            raise RuntimeFailure(
                f'error mounting "{source}" to rootfs at "{entry["destination"]}": {_detail(exc)}'
            ) from exc


def _mount_one(
    root_fd: int,
    entry: "dict[str, Any]",
    sources: "Mapping[str, int]",
    mapped: "Mapping[str, int]",
    cgroup_namespace: bool,
) -> None:
    destination = os.path.normpath("/" + entry["destination"].lstrip("/"))
    options = parse(entry.get("options") or [])
    fstype = entry.get("type") or ""
    if entry.get("namespace"):
        tree_fd = _shared_memory(root_fd, destination, entry["source"], entry["namespace"], options)
    elif entry["destination"] in mapped:
        tree_fd = _attach(root_fd, destination, os.dup(mapped[entry["destination"]]), options)
    elif is_bind(entry):
        source = entry.get("source", "")
        source_fd = os.dup(sources[source]) if source in sources else os.open(source, fs.O_PATH | os.O_CLOEXEC)
        tree_fd = _bind(root_fd, destination, source_fd, options, entry.get("subpath") or "")
    elif fstype == "cgroup":
        target_fd = places.find_or_make(root_fd, destination, directory=True)
        try:
            check_place(target_fd, destination)
            tree_fd = cgroup_mounts.mount_all(root_fd, destination, target_fd, options, namespaced=cgroup_namespace)
        finally:
            os.close(target_fd)
    else:
        tree_fd = _mount_filesystem(root_fd, destination, fstype, entry.get("source", ""), options)
    try:
        for flags in options.propagation:
            mount.mount(None, f"/proc/self/fd/{tree_fd}", None, flags)
        if options.recursive_flags or options.recursive_cleared:
            places.set_attributes(tree_fd, options.recursive_flags, options.recursive_cleared, recursive=True)
    finally:
        os.close(tree_fd)


def _shared_memory(root_fd: int, destination: str, source: str, namespace: str, options: MountOptions) -> int:
    tree_fd = foreign.clone(namespace, source, fs.TMPFS_MAGIC)
    try:
        target_fd = places.find_or_make(root_fd, destination, directory=True)
        try:
            check_place(target_fd, destination)
            mount.move_mount(tree_fd, target_fd)
        finally:
            os.close(target_fd)
        places.set_attributes(tree_fd, options.flags, options.cleared)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def _bind(root_fd: int, destination: str, source_fd: int, options: MountOptions, subpath: str) -> int:
    """Bind what ``source_fd``, which is closed here, is or has at ``subpath``."""
    recursive = bool(options.flags & mount.MS_REC)
    try:
        if subpath:  # what containers wrote: their links lead nowhere but inside
            whole_fd = source_fd
            source_fd = places.find(whole_fd, subpath)
            os.close(whole_fd)
        directory = stat.S_ISDIR(os.fstat(source_fd).st_mode)
        target_fd = places.find_or_make(root_fd, destination, directory=directory)
        try:
            check_place(target_fd, destination, is_procfs=fs.fstatfs_type(source_fd) == fs.PROC_SUPER_MAGIC)
            return places.bind(source_fd, target_fd, recursive=recursive, flags=options.flags, cleared=options.cleared)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _attach(root_fd: int, destination: str, tree_fd: int, options: MountOptions) -> int:
    """Attach the mount ``tree_fd``, which is returned."""
    try:
        directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
        target_fd = places.find_or_make(root_fd, destination, directory=directory)
        try:
            check_place(target_fd, destination, is_procfs=fs.fstatfs_type(tree_fd) == fs.PROC_SUPER_MAGIC)
            mount.move_mount(tree_fd, target_fd)
        finally:
            os.close(target_fd)
        places.set_attributes(tree_fd, options.flags, options.cleared)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def _mount_filesystem(root_fd: int, destination: str, fstype: str, source: str, options: MountOptions) -> int:
    ordinary = fstype in _KERNEL_TYPES
    data = options.data
    try:
        target_fd = places.find(root_fd, destination, links=not ordinary)
        is_new = False
    except FileNotFoundError:
        target_fd = places.find_or_make(root_fd, destination, directory=True, links=not ordinary)
        is_new = True
    try:
        if fstype != "proc":
            check_place(target_fd, destination)
        target = f"/proc/self/fd/{target_fd}"
        if fstype == "tmpfs" and "mode=" not in data and not is_new:  # a new place has tmpfs's own mode, 1777
            mode = f"mode={stat.S_IMODE(os.fstat(target_fd).st_mode):o}"
            data = f"{data},{mode}" if data else mode
        mount.mount(source or fstype, target, fstype, options.flags & ~mount.MS_REC, data)
        tree_fd = places.find(root_fd, destination, links=not ordinary)
        if options.copy_up:
            copy_up.copy(target_fd, tree_fd)
        return tree_fd
    finally:
        os.close(target_fd)


def check_place(target_fd: int, destination: str, *, is_procfs: bool = False) -> None:
    """Raise RuntimeFailure when what is mounted at ``destination`` would show in place of procfs or of files in it.

    ``target_fd`` is asked too: a link of the image or of a volume may have led there. ``is_procfs``: what is mounted is
    procfs itself.
    """
    if destination == "/proc" and not is_procfs:
        raise RuntimeFailure(f'"{destination}" cannot be mounted because it is not of type proc')
    inside = destination.startswith("/proc/") or fs.fstatfs_type(target_fd) == fs.PROC_SUPER_MAGIC
    if inside and destination not in (*_BELOW_PROC, "/proc"):
        raise RuntimeFailure(f'"{destination}" cannot be mounted because it is inside /proc')


def _detail(exc: OSError) -> str:
    if exc.strerror and ":" in exc.strerror:  # the call is named already: "mount: Invalid argument"
        return f"{exc.strerror.split(':')[0]}: {reason(exc)}"
    return f"{exc.filename}: {reason(exc)}" if exc.filename else reason(exc)
