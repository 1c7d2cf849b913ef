"""A container in three parts: what the user asked for, what was observed, and what is wanted now.

The specification is written at create and changed by rename and update only. The status is replaced whole at each step, so
that whoever lists or inspects holds a consistent snapshot. Both are stored as JSON under the container's id.
"""

from __future__ import annotations

import enum
import re

import msgspec

from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.engine.causes import Ending, Request
from boxship.engine.health.policy import Health
from boxship.networks import Sandbox
from boxship.spec.docker.container import ContainerConfig, HostConfig
from boxship.spec.docker.network import EndpointSettings

SPEC_KIND = "container"
STATUS_KIND = "container-status"

NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


class State(enum.StrEnum):
    """Docker's container states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


ALLOWED: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.RUNNING, State.REMOVING, State.CREATED}),
    State.RUNNING: frozenset({State.PAUSED, State.RESTARTING, State.EXITED, State.REMOVING}),
    State.PAUSED: frozenset({State.RUNNING, State.EXITED, State.RESTARTING, State.REMOVING}),
    State.RESTARTING: frozenset({State.RUNNING, State.EXITED, State.REMOVING, State.RESTARTING}),
    State.EXITED: frozenset({State.RUNNING, State.REMOVING, State.EXITED, State.RESTARTING}),
    State.REMOVING: frozenset({State.DEAD, State.REMOVING}),
    State.DEAD: frozenset({State.REMOVING, State.DEAD}),
}
"""The moves a container may make; anything else is a bug."""

ALIVE = frozenset({State.RUNNING, State.PAUSED})


class IdMap(msgspec.Struct, frozen=True):
    """Which ids on disk are which in the container: first on disk, first inside, how many; see ``runtime.idmap``.

    A kind without ranges follows the owner of the source, who is the container's user then.
    """

    uids: list[tuple[int, int, int]] = []
    gids: list[tuple[int, int, int]] = []


class ResolvedMount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount as the runtime will make it. ``source`` is a host path, empty for tmpfs."""

    type: str  # bind, volume, tmpfs, image
    source: str
    target: str
    name: str = ""  # of the volume; of the image, as the user typed it
    driver: str = ""
    mode: str = ""  # as the user typed it
    read_only: bool = False
    read_only_below: bool = False  # and so are the mounts below it
    propagation: str = "rprivate"
    recursive: bool = True
    options: list[str] = []  # further mount options (tmpfs)
    anonymous: bool = False  # a volume that goes with the container
    must_exist: bool = False  # a bind whose source is not created
    subpath: str = ""  # what of a volume or an image is mounted, from its root; empty is all
    idmap: IdMap | None = None
    image_id: str = ""
    snapshot: str = ""  # key of the image's snapshot that is mounted at ``source`` while the container runs


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, resolved against the image."""

    version: int = 1
    id: str
    name: str  # without a slash
    created_ns: int
    image_id: str
    config: ContainerConfig
    host_config: HostConfig
    endpoints: dict[str, EndpointSettings] = {}  # what it asks of its networks, by name
    endpoints_complete: bool = False  # they name all its networks; else there is also that of the network mode
    path: str
    args: list[str]
    mounts: list[ResolvedMount] = []
    apparmor_profile: str = ""  # empty where there is no AppArmor
    process_label: str = ""  # SELinux; empty where that is not used
    mount_label: str = ""
    platform: str = "linux"
    debugs: str = ""  # id of the container or image that this one shows to a debugging shell, with which it ends
    beneath: str = ""  # id of the stopped container whose writable layer lies below this one's
    builds: bool = False  # whether it runs a step of a build, with which it ends unless it failed

    def images(self) -> dict[str, str]:
        """Return the images that the container needs, by id, as the user typed them."""
        mounted = {mount.image_id: mount.name for mount in self.mounts if mount.type == "image"}
        return {**mounted, self.image_id: self.config.image}


class UnfinishedChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a change to a running container the specification says already and the kernel perhaps not yet.

    Written with the specification and gone when all is done; a daemon that finds it carries it out.
    """

    limits: bool = False
    mount: list[ResolvedMount] = []
    unmount: list[str] = []  # targets
    restart: bool = False


class ContainerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed, and what is wanted (``wanted_running``, for restart policies and repair)."""

    version: int = 1
    state: State = State.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restart_count: int = 0
    wanted_running: bool = False
    stopped_by_user: bool = False
    held_still: bool = False  # frozen by us for a moment, or about to be: see engine.stillness
    stopped_as_unhealthy: bool = False  # its end counts as a failure, whatever the exit code
    sandbox: Sandbox | None = None
    change: UnfinishedChange | None = None
    health: Health | None = None  # from the first start of a container with a health check
    boot_id: str = ""  # the kernel's boot in which the last run began
    started_by: Request | None = None
    asked: Request | None = None  # the last request to end this run
    ending: Ending | None = None  # of the run before this one, or of the last

    def move(self, state: State) -> State:
        """Return ``state`` if the table allows the move from here; raise AssertionError otherwise."""
        if state not in ALLOWED[self.state]:
            raise AssertionError(f"a container cannot go from {self.state} to {state}")
        return state

    @property
    def alive(self) -> bool:
        """Whether its first process exists."""
        return self.state in ALIVE


class NoSuchContainer(NotFound):
    """No container has that id, id prefix or name."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"No such container: {ref}")
        self.ref = ref


class NameInUse(Conflict):
    """Another container holds the name."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


class NotRunning(Conflict):
    """The operation needs a running container."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Container {id} is not running")


def unknown_user(failure: str) -> bool:
    """Tell whether a program failed to start since its user or group does not exist."""
    return failure.startswith(("unable to find user ", "unable to find group "))


def check_name(name: str) -> str:
    """Return the name without its leading slash; raise InvalidInput for characters that Docker refuses."""
    if not _NAME.match(name):
        raise InvalidInput(f"Invalid container name ({name}), only {NAME_PATTERN} are allowed")
    return name.removeprefix("/")
