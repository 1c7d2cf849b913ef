"""Mounts that show other owners than the disk has (mount_setattr(2), ``MOUNT_ATTR_IDMAP``).

An entry of ``mounts`` with our own field ``idmap`` is cloned and mapped before the container's first process is forked: only
who is root on the host may map ids, and the process may not be that any more when it mounts. Either ``idmap`` has the
ranges, ``{"uids": [[on disk, in the container, how many]], "gids": [...]}``, and ids outside of them are nobody's; or it is
empty: then the owner of the source is the container's user, and all others stay who they are.
"""

import os
import signal

from boxship.linux import fs, mount, namespaces, prctl
from boxship.runtime import places
from boxship.runtime.failure import RuntimeFailure, reason
from boxship.runtime.mount_options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Ranges = list[tuple[int, int, int]]
    """First id on disk, first id that is seen, how many."""

_ALL = 0xFFFFFFFF  # as many ids as there are: the last number means no id


def clone_all(spec: "dict[str, Any]") -> dict[str, int]:
    """Return descriptors of mapped, unattached copies of the mounts that want one, by destination.

    Raises RuntimeFailure naming the mount; none is open then.
    """
    found: dict[str, int] = {}
    try:
        for entry in spec.get("mounts") or []:
            if entry.get("idmap") is not None:
                found[entry["destination"]] = _clone(entry, spec)
    except BaseException:
        for fd in found.values():
            os.close(fd)
        raise
    return found


def _clone(entry: "dict[str, Any]", spec: "dict[str, Any]") -> int:
    source: str = entry["source"]
    recursive = bool(parse(entry.get("options") or []).flags & mount.MS_REC)
    try:
        place_fd = os.open(source, fs.O_PATH | os.O_CLOEXEC)
        try:
            if entry.get("subpath"):
                whole_fd, place_fd = place_fd, places.find(place_fd, entry["subpath"])
                os.close(whole_fd)
            owner = os.fstat(place_fd)
            flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
            tree_fd = mount.open_tree(place_fd, "", flags | (mount.AT_RECURSIVE if recursive else 0))
        finally:
            os.close(place_fd)
    except OSError as exc:
        raise RuntimeFailure(f'error mounting "{source}" to rootfs at "{entry["destination"]}": {reason(exc)}') from exc
    linux, user = spec.get("linux") or {}, spec["process"].get("user") or {}
    uids = _ranges(entry["idmap"].get("uids"), owner.st_uid, user.get("uid") or 0, linux.get("uidMappings") or [])
    gids = _ranges(entry["idmap"].get("gids"), owner.st_gid, user.get("gid") or 0, linux.get("gidMappings") or [])
    if uids == gids == [(0, 0, _ALL)]:
        return tree_fd  # everybody is who he is
    try:
        namespace_fd = _user_namespace(uids, gids)
        try:
            mount.mount_setattr(tree_fd, mount.MOUNT_ATTR_IDMAP, 0, recursive=recursive, user_namespace_fd=namespace_fd)
        finally:
            os.close(namespace_fd)
    except OSError as exc:
        os.close(tree_fd)
        raise RuntimeFailure(
            f'error mounting "{source}" to rootfs at "{entry["destination"]}": idmapped mounts are not supported by the '
            f"file system of {source}, or by one that is mounted below it: {reason(exc)}"
        ) from exc
    return tree_fd


def _ranges(given: "Ranges | None", owner: int, user: int, container: "list[dict[str, int]]") -> "Ranges":
    """Return the ranges of one kind of id; what is seen are ids of the host, where ``container`` maps its own to."""
    if given:
        return [part for first, inside, count in given for part in _on_host(first, inside, count, container)]
    (_, seen, _), *_ = _on_host(owner, user, 1, container) or [(owner, user, 1)]
    lower, upper = sorted((owner, seen))
    if lower == upper:
        return [(0, 0, _ALL)]
    between = [(0, 0, lower), (lower + 1, lower + 1, upper - lower - 1), (upper + 1, upper + 1, _ALL - upper - 1)]
    return [(owner, seen, 1), *(each for each in between if each[2])]


def _on_host(first: int, inside: int, count: int, container: "list[dict[str, int]]") -> "Ranges":
    """Return the range with the container's ids as the host has them; what the container has not is left out."""
    if not container:
        return [(first, inside, count)]
    found = []
    for row in container:
        start = max(inside, row["containerID"])
        end = min(inside + count, row["containerID"] + row["size"])
        if start < end:
            found.append((first + start - inside, row["hostID"] + start - row["containerID"], end - start))
    return found


def _user_namespace(uids: "Ranges", gids: "Ranges") -> int:
    """Return a descriptor of a new user namespace with these maps, which no process is in. Raises OSError."""
    ready, entered = os.pipe()
    pid = os.fork()
    if pid == 0:
        _wait_inside(entered)
    os.close(entered)
    try:
        said = os.read(ready, 16)
        if said != b"0":
            raise OSError(int(said or 1), "unshare")
        for name, ranges in (("uid_map", uids), ("gid_map", gids)):
            lines = "".join(f"{first} {seen} {count}\n" for first, seen, count in ranges)
            with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                file.write(lines.encode())
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)  # not reaped, so still the same
        os.waitpid(pid, 0)


def _wait_inside(entered: int) -> None:
    """Enter a new user namespace, say so, and wait to be killed; the end of the parent does that too."""
    try:
        prctl.set_parent_death_signal(signal.SIGKILL)
        prctl.set_dumpable(True)  # else /proc/PID/uid_map is not writable
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            os.write(entered, b"0")
        except OSError as exc:
            os.write(entered, str(exc.errno).encode())
        signal.pause()
    finally:
        os._exit(1)
