"""Mounts that come and go while a container runs.

For a child process of its own with one thread, which ends afterwards: it enters the container's mount namespace for good.
What is mounted is cloned before that, on the host, and attached inside by descriptor: no path of the container is ever
looked up on the host, nor the reverse.
"""

import os
import stat

from boxship.linux import fs, fscontext, mount, namespaces
from boxship.runtime import mounts, places
from boxship.runtime.failure import RuntimeFailure, reason
from boxship.runtime.mount_options import MountOptions, attributes, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def change(init_pidfd: int, add: "list[dict[str, Any]]", remove: list[str], *, again: bool = False) -> None:
    """Mount ``add`` (runtime-spec ``mounts``; binds and tmpfs) and unmount what stands at the paths ``remove``.

    A mount at a path of ``remove`` replaces what is there. ``again``: the change may have been made already, so what is
    there or gone is left so. Raises RuntimeFailure naming the mount, with nothing changed (but where a mount that replaces
    another could not be attached: then that one is gone).
    """
    trees = [_detached(entry) for entry in add]
    root_fd = _enter(init_pidfd)
    wanted = [
        (os.path.normpath("/" + entry["destination"].lstrip("/")), tree) for entry, tree in zip(add, trees, strict=True)
    ]
    done: list[tuple[str, list[str]]] = []
    try:
        # What may fail comes before what cannot be taken back: only what replaces a mount has to wait for its end.
        for destination, tree_fd in wanted:
            if destination not in remove:
                done.append((destination, _attach(root_fd, destination, tree_fd, again=again)))
        for path in remove:
            _unmount(root_fd, path, again=again)
        for destination, tree_fd in wanted:
            if destination in remove:
                done.append((destination, _attach(root_fd, destination, tree_fd, again=again)))
    except BaseException:
        for destination, made in reversed(done):
            _unmount(root_fd, destination, again=True)
            _remove_places(root_fd, made)
        raise


def _enter(init_pidfd: int) -> int:
    """Enter the container's mount namespace and return its root; paths go on to be the host's, for procfs's sake."""
    host_fd = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        namespaces.setns(init_pidfd, namespaces.CLONE_NEWNS)
        root_fd = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(host_fd)
        os.chroot(".")
        return root_fd
    except OSError as exc:
        raise RuntimeFailure(f"unable to join the container's mount namespace: {reason(exc)}") from exc
    finally:
        os.close(host_fd)


def _detached(entry: "dict[str, Any]") -> int:
    """Return a descriptor of the mount that ``entry`` describes, attached nowhere."""
    options = parse(entry.get("options") or [])
    if entry.get("idmap") is not None:
        raise RuntimeFailure(f'mounting "{entry["destination"]}" with other owners takes a restart of the container')
    try:
        if entry["type"] == "tmpfs":
            tree_fd = _tmpfs(options)
        else:
            tree_fd = _clone(entry["source"], entry.get("subpath") or "", options)
        for flags in options.propagation:
            mount.mount_setattr(tree_fd, 0, 0, recursive=bool(flags & mount.MS_REC), propagation=flags & ~mount.MS_REC)
        return tree_fd
    except OSError as exc:
        raise _failed(entry["destination"], exc) from exc


def _clone(source: str, subpath: str, options: MountOptions) -> int:
    source_fd = os.open(source, fs.O_PATH | os.O_CLOEXEC)
    try:
        if subpath:
            whole_fd = source_fd
            source_fd = places.find(whole_fd, subpath)
            os.close(whole_fd)
        clone = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        recursive = mount.AT_RECURSIVE if options.flags & mount.MS_REC else 0
        tree_fd = mount.open_tree(source_fd, "", clone | recursive)
    finally:
        os.close(source_fd)
    places.set_attributes(tree_fd, options.flags, options.cleared)
    return tree_fd


def _tmpfs(options: MountOptions) -> int:
    context = fscontext.fsopen("tmpfs")
    try:
        fscontext.fsconfig_set_string(context, "source", "tmpfs")
        for option in filter(None, options.data.split(",")):
            name, _, value = option.partition("=")
            fscontext.fsconfig_set_string(context, name, value)
        fscontext.fsconfig_create(context)
        return fscontext.fsmount(context, attributes(options.flags, options.cleared)[0])
    finally:
        os.close(context)


def _attach(root_fd: int, destination: str, tree_fd: int, *, again: bool) -> list[str]:
    """Attach a mount; return the directories and the file that were made to carry it, outermost first."""
    made: list[str] = []
    try:
        is_procfs = fs.fstatfs_type(tree_fd) == fs.PROC_SUPER_MAGIC
        made = _missing(root_fd, destination)
        directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
        target_fd = places.find_or_make(root_fd, destination, directory=directory)
        try:
            if again and fs.is_mount_root(target_fd):
                return []
            mounts.check_place(target_fd, destination, is_procfs=is_procfs)
            mount.move_mount(tree_fd, target_fd)
        finally:
            os.close(target_fd)
    except BaseException as exc:
        _remove_places(root_fd, made)
        if isinstance(exc, OSError):
            raise _failed(destination, exc) from exc
        raise
    return made


def _unmount(root_fd: int, path: str, *, again: bool) -> None:
    """Unmount what stands at ``path``; by descriptor, so that a link which the container puts there leads nowhere."""
    try:
        target_fd = places.find(root_fd, path)
    except FileNotFoundError:
        if again:
            return
        raise RuntimeFailure(f'nothing is mounted at "{path}" in the container') from None
    try:
        if fs.is_mount_root(target_fd):
            mount.umount2(f"/proc/self/fd/{target_fd}", mount.MNT_DETACH)
        elif not again:
            raise RuntimeFailure(f'nothing is mounted at "{path}" in the container')
    except OSError as exc:
        raise RuntimeFailure(f'error unmounting "{path}" in the container: {reason(exc)}') from exc
    finally:
        os.close(target_fd)


def _missing(root_fd: int, path: str) -> list[str]:
    """Return ``path`` and those above it that do not exist yet, outermost first."""
    missing: list[str] = []
    while path != "/":
        try:
            os.close(places.find(root_fd, path))
            break
        except OSError:
            missing.insert(0, path)
            path = os.path.dirname(path)
    return missing


def _remove_places(root_fd: int, made: list[str]) -> None:
    """Remove what was made to carry a mount, as far as nobody uses it."""
    for path in reversed(made):
        try:
            parent_fd, name = places.find_parent(root_fd, path)
        except OSError:
            return
        try:
            try:
                os.rmdir(name, dir_fd=parent_fd)
            except NotADirectoryError:
                os.unlink(name, dir_fd=parent_fd)
        except OSError:
            return
        finally:
            os.close(parent_fd)


def _failed(destination: str, exc: OSError) -> RuntimeFailure:
    return RuntimeFailure(f'error mounting to "{destination}" in the container: {reason(exc)}')
