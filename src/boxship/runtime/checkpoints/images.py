"""Containers saved to files and brought back: what CRIU is told, and what it cannot know.

A checkpoint is a directory with CRIU's images and ``boxship.json``, which says what of the container its restore has to
provide: pipes in place of those to the shim, the network namespace, and what of the host is mounted where. Everything else
is in the images: memory, files, signals, the other namespaces.

Both functions are for single-threaded callers. CRIU runs as root and is told nothing by a container but its processes; what
it restores it trusts, so images must come from a directory that only root writes.
"""

import json
import os

from boxship.linux import cgroup as cgroups
from boxship.linux import mount, mountinfo, namespaces, pidfd
from boxship.linux.clone import fork_sibling
from boxship.runtime import mounts, places
from boxship.runtime.checkpoints import messages, worker
from boxship.runtime.checkpoints.mounts import external, sources
from boxship.runtime.failure import RuntimeFailure
from boxship.runtime.process import join_keyring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

VERSION = 1
DESCRIPTION = "boxship.json"
DUMP_LOG = "dump.log"
RESTORE_LOG = "restore.log"
_CONFIG = "/etc/criu/runc.conf"  # where people have told Docker's runtime what its CRIU shall do
_NETWORK = "network"
_DESCRIPTION_LIMIT = 1 << 20  # bytes


def dump(
    program: str,
    *,
    pid: int,
    images_fd: int,
    work_fd: int,
    pipes: "Mapping[int, int]",
    bound: "Collection[str]",
    leave_running: bool,
    commit: "Callable[[], None]",
) -> None:
    """Save the container whose init is ``pid`` to the empty directory ``images_fd``; it runs on unless all goes well.

    ``program``: CRIU. ``work_fd``: a directory for its log. ``pipes``: inodes of the pipes that the container was given as
    its descriptors 0 to 2, by number. ``bound``: where volumes and binds of the user are. ``commit`` is called when all
    is written and the processes stand still; what it raises is raised here, with the container running on. Without
    ``leave_running`` they are killed after that.
    """
    description = {
        "v": VERSION,
        "stdio": [f"pipe:[{pipes[number]}]" if number in pipes else _null() for number in range(3)],
        "mounts": external(mountinfo.read(pid), mountinfo.read(), bound),
        "network": _own_network(pid),
    }
    _write(images_fd, json.dumps(description).encode())

    def step(answer: messages.Response) -> None:
        if answer.script == "post-dump":
            commit()

    request = messages.request(
        messages.DUMP,
        {
            "images_dir_fd": images_fd,
            "work_dir_fd": work_fd,
            "log_file": DUMP_LOG,
            "pid": pid,
            "leave_running": leave_running,
            "notify_scripts": True,
            "external": _external_of_dump(description),
            **_common(),
        },
    )
    answer = worker.run(program, request, kept=[], fork=os.fork, prepare=lambda: None, on_step=step)
    _check(answer, work_fd, DUMP_LOG)


def restore(
    program: str,
    spec: "Mapping[str, Any]",
    *,
    container_id: str,
    rootfs: str,
    images_fd: int,
    work_fd: int,
    stdio: "Sequence[int]",
    cgroup: cgroups.Cgroup,
    asker_fd: int,
) -> tuple[int, int, int]:
    """Bring the container in the directory ``images_fd`` back; return pid and pidfd of its init and its terminal's master or -1.

    The init is a child of the caller's parent.

    ``spec`` (runtime-spec config.json) is the container's configuration as it is now, ``rootfs`` the host's directory
    where its root filesystem is mounted, ``stdio`` the new descriptors 0 to 2, ``cgroup`` where all processes get,
    ``asker_fd`` the connection to whoever wants this, whose end calls it off.
    Raises RuntimeFailure or OSError; what is left of processes then is in ``cgroup``, and the parent's to reap.
    """
    description = _read(images_fd)
    entries = spec["linux"].get("namespaces") or []
    paths = {entry["type"]: entry.get("path") or "" for entry in entries}
    if bool(paths.get("network")) != bool(description["network"]):
        raise RuntimeFailure("the container's network mode is not that of its checkpoint")
    inherited = [(key, fd) for key, fd in zip(description["stdio"], stdio, strict=True)]
    network = os.open(paths["network"], os.O_RDONLY | os.O_CLOEXEC) if paths.get("network") else -1
    if network >= 0:
        inherited.append((_NETWORK, network))
    binds = [entry for entry in spec.get("mounts") or [] if mounts.is_bind(entry)]
    found: list[int] = []
    consoles: list[int] = []

    def prepare() -> None:
        if (spec.get("root") or {}).get("readonly"):
            _hold_read_only(rootfs)
        cgroup.join()
        if "cgroup" in paths:
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        join_keyring(container_id)

    def step(answer: messages.Response) -> None:
        if answer.script == "post-restore":  # the init is there and stands still, so its number is its own
            found[:] = [answer.pid, pidfd.pidfd_open(answer.pid)]
        elif answer.script == "orphan-pts-master" and answer.fd >= 0:
            consoles.append(answer.fd)
            answer.fd = -1

    try:
        targets = sources(description["mounts"], binds, cgroup.paths())
        # CRIU does not follow a link that it is to mount.
        external = [f"mnt[{target}]:{os.path.realpath(source)}" for target, source in targets.items()]
        request = messages.request(
            messages.RESTORE,
            {
                "images_dir_fd": images_fd,
                "work_dir_fd": work_fd,
                "log_file": RESTORE_LOG,
                "root": rootfs,
                "rst_sibling": True,
                "notify_scripts": True,
                "inherit_fd": inherited,
                "external": external,
                **_common(),
            },
        )
        kept = [fd for _, fd in inherited]
        answer = worker.run(
            program, request, kept=kept, fork=fork_sibling, prepare=prepare, on_step=step, asker_fd=asker_fd
        )
        _check(answer, work_fd, RESTORE_LOG)
        if not found:
            raise RuntimeFailure("criu did not say which process it restored")
    except BaseException as exc:
        for fd in (*found[1:], *consoles):
            os.close(fd)
        if isinstance(exc, ValueError):
            raise RuntimeFailure(str(exc)) from exc
        raise
    finally:
        if network >= 0:
            os.close(network)
    return found[0], found[1], consoles[0] if consoles else -1


def _hold_read_only(rootfs: str) -> None:
    """Make the root read-only for the caller and what it mounts from now on: CRIU restores all mounts' flags but the root's."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    places.set_attributes(fd, mount.MS_RDONLY, 0)
    os.close(fd)


def _external_of_dump(description: "Mapping[str, Any]") -> list[str]:
    external = [f"mnt[{entry['target']}]:{entry['target']}" for entry in description["mounts"]]
    external += [key for key in dict.fromkeys(description["stdio"]) if key.startswith("file[")]
    if description["network"]:
        external.append(f"net[{description['network']}]:{_NETWORK}")
    return external


def _null() -> str:
    """Return CRIU's name of the host's null device, which stands for a pipe that the container was not given."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            mount_id = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
        return f"file[{mount_id:x}:{os.fstat(fd).st_ino:x}]"
    finally:
        os.close(fd)


def _own_network(pid: int) -> int:
    """Return the inode of the process's network namespace, 0 if it is the host's."""
    theirs, ours = os.stat(f"/proc/{pid}/ns/net").st_ino, os.stat("/proc/self/ns/net").st_ino
    return theirs if theirs != ours else 0


def _common() -> "dict[str, int | str]":
    """Return the options of both ways; a file of the host's administrator overrides them all."""
    options: dict[str, int | str] = {
        "manage_cgroups_mode": messages.IGNORE_CGROUPS,
        "orphan_pts_master": True,
        "network_lock": messages.LOCK_BY_NFTABLES,  # the other way runs programs that need not be there
    }
    return {**options, "config_file": _CONFIG} if os.path.exists(_CONFIG) else options


def _check(answer: messages.Response, work_fd: int, log: str) -> None:
    if not answer.success:
        raise RuntimeFailure(f"criu failed: {worker.errors(work_fd, log) or answer.text or 'it gives no reason'}")


def _write(directory: int, document: bytes) -> None:
    fd = os.open(DESCRIPTION, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(fd, "wb") as file:
        file.write(document)


def _read(directory: int) -> "dict[str, Any]":
    """Return the description in the directory. Raises RuntimeFailure."""
    try:
        fd = os.open(DESCRIPTION, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        with open(fd, "rb") as file:
            document = json.loads(file.read(_DESCRIPTION_LIMIT))
        if document["v"] != VERSION:
            raise RuntimeFailure(f"the checkpoint is of another version: {document['v']!r}")
        targets = [{str(key): str(value) for key, value in entry.items()} for entry in document["mounts"]]
        stdio = [str(key) for key in document["stdio"]]
        if len(stdio) != 3 or any("target" not in entry for entry in targets):
            raise ValueError(DESCRIPTION)
        return {"stdio": stdio, "mounts": targets, "network": int(document["network"])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise RuntimeFailure(f"it is no checkpoint that Boxship made: {DESCRIPTION}: {exc}") from exc
