"""What is known of a container between two calls: ``<root>/<id>/state.json``, and what the kernel says now."""

import fcntl
import json
import os
import re

from boxship.base import atomicfile, clock
from boxship.linux import cgroup, pidfd
from boxship.runtime.failure import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
OCI_VERSION = "1.2.0"
FIFO = "start.fifo"  # there as long as the program waits to be started
_ID = re.compile(r"[\w+.-]{1,1024}", re.ASCII)


class Container:
    """A container of this runtime; ``save`` keeps it."""

    __slots__ = ("bundle", "cgroup_path", "created", "directory", "id", "pid", "root", "start_time")

    def __init__(self, root: str, id: str, bundle: str, cgroup_path: str) -> None:
        self.root = root
        self.id = id
        self.directory = os.path.join(root, id)
        self.bundle = bundle
        self.cgroup_path = cgroup_path  # below each hierarchy
        self.pid = 0  # 0: none yet
        self.start_time = 0  # clock ticks since boot; with the pid it names one process only
        self.created = clock.rfc3339(clock.now_ns())

    def save(self) -> None:
        """Write the state file."""
        document = {
            "version": VERSION,
            "id": self.id,
            "bundle": self.bundle,
            "cgroup_path": self.cgroup_path,
            "pid": self.pid,
            "start_time": self.start_time,
            "created": self.created,
        }
        path = os.path.join(self.directory, "state.json")
        atomicfile.write(path, json.dumps(document).encode(), durable=False)  # a reboot ends the container too

    def config(self) -> "dict[str, Any]":
        """Return the configuration it was created with."""
        with open(os.path.join(self.directory, "config.json"), encoding="utf-8") as file:
            document: dict[str, Any] = json.load(file)
        return document

    def cgroup(self) -> cgroup.Cgroup:
        """Return its cgroup."""
        return cgroup.open_cgroup(self.cgroup_path)

    def open_init(self) -> int:
        """Return a pidfd of the container's init, or -1 when that has ended: never one of another process."""
        if not self.pid:
            return -1
        try:
            fd = pidfd.pidfd_open(self.pid)
        except OSError:
            return -1
        try:
            if pidfd.start_time(self.pid) == self.start_time and not pidfd.wait(fd, 0):
                return fd
        except OSError:
            pass
        os.close(fd)
        return -1

    def status(self) -> str:
        """Return ``creating``, ``created``, ``running``, ``paused`` or ``stopped``."""
        if not self.pid:
            return "creating"
        fd = self.open_init()
        if fd < 0:
            return "stopped"
        os.close(fd)
        if os.path.exists(os.path.join(self.directory, FIFO)):
            return "created"
        try:
            return "paused" if self.cgroup().frozen() else "running"
        except OSError:
            return "running"  # no freezer on this host

    def document(self) -> "dict[str, Any]":
        """Return the runtime-spec's state document, with runc's ``rootfs``, ``created`` and ``owner`` beside it."""
        config = self.config()
        status = self.status()
        return {
            "ociVersion": config.get("ociVersion", OCI_VERSION),
            "id": self.id,
            "pid": self.pid if status != "stopped" else 0,
            "status": status,
            "bundle": self.bundle,
            "rootfs": rootfs_of(self.bundle, config),
            "created": self.created,
            "annotations": config.get("annotations") or {},
            "owner": "",
        }

    def forget(self) -> None:
        """Remove the state directory."""
        with os.scandir(self.directory) as entries:
            for entry in entries:
                os.unlink(entry.path)
        os.rmdir(self.directory)


def reserve(root: str, id: str, bundle: str, config: "dict[str, Any]", cgroup_path: str) -> Container:
    """Make the state directory of a new container. Raises RuntimeFailure for a bad or taken ID."""
    if not _ID.fullmatch(id) or id in (".", ".."):
        raise RuntimeFailure(f"invalid id format: {id}")
    os.makedirs(root, 0o700, exist_ok=True)
    container = Container(root, id, bundle, cgroup_path)
    try:
        os.mkdir(container.directory, 0o711)
    except FileExistsError as exc:
        raise RuntimeFailure("container with given ID already exists") from exc
    text = json.dumps(config).encode()
    atomicfile.write(os.path.join(container.directory, "config.json"), text, durable=False)
    container.save()
    return container


def load(root: str, id: str) -> Container:
    """Return the container called ``id``. Raises RuntimeFailure when there is none."""
    if not _ID.fullmatch(id) or id in (".", ".."):
        raise RuntimeFailure(f"invalid id format: {id}")
    try:
        with open(os.path.join(root, id, "state.json"), encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError as exc:
        raise RuntimeFailure("container does not exist") from exc
    if document["version"] > VERSION:
        raise RuntimeFailure(f"state of container {id} is of a newer version ({document['version']})")
    container = Container(root, id, document["bundle"], document["cgroup_path"])
    container.pid = document["pid"]
    container.start_time = document["start_time"]
    container.created = document["created"]
    return container


def load_all(root: str) -> list[Container]:
    """Return all containers, by ID."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    containers = []
    for name in names:
        try:
            containers.append(load(root, name))
        except (RuntimeFailure, OSError, ValueError):
            continue  # half made or half removed by another call
    return containers


class Lock:
    """Keeps other calls away from one container; for a ``with`` block."""

    __slots__ = ("_fd", "_path")

    def __init__(self, container: Container) -> None:
        self._path = container.directory
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def rootfs_of(bundle: str, config: "dict[str, Any]") -> str:
    """Return the absolute path of the configuration's root filesystem. Raises RuntimeFailure without one."""
    path = (config.get("root") or {}).get("path")
    if not path:
        raise RuntimeFailure("root.path must be given")
    return os.path.realpath(os.path.join(bundle, path))
