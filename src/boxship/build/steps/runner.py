"""What carries out programs: the engine, whose containers they run in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from boxship.images.model import Image
from boxship.snapshots.tar_writer import Writable
from boxship.spec.docker.container import HostConfig


class StepMount(msgspec.Struct, frozen=True, kw_only=True):
    """Something of the host that a program sees at ``target``, or memory of its own (tmpfs)."""

    type: Literal["bind", "tmpfs"]
    target: str
    source: str = ""  # host path
    subpath: str = ""  # what of the source, looked up inside it when it is mounted
    read_only: bool = False
    options: tuple[str, ...] = ()  # of tmpfs


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A program with its surroundings."""

    image: Image  # what lies below; need not be in the store, its layers are
    args: tuple[str, ...]
    env: tuple[str, ...]
    secret_env: tuple[str, ...] = ()  # more of it, which is written nowhere
    cwd: str
    user: str
    mounts: tuple[StepMount, ...]
    host: HostConfig  # limits, network, hosts
    latest_ns: int | None = None  # times of files in the layer are not after this


class HostDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the host that programs can get by name (CDI). The last two come from annotations of its specification."""

    name: str  # vendor/class=name
    class_name: str = ""  # another way to name it
    allowed: bool = False  # whether builds get it that were not allowed any


class RunningStep(Protocol):
    """A program that can be started once."""

    @property
    def id(self) -> str:
        """The container's."""

    async def run(self, output: Callable[[int, bytes], None]) -> int:
        """Run the program to its end and return its exit code; ``output`` gets stream (1, 2) and bytes."""

    def write_diff(self, out: Writable) -> object:
        """Write the layer tar of what the program changed; blocks. Places of mounts that were made for it are not in it."""

    def keep(self) -> None:
        """Leave the container when the step ends."""

    def shell(self, height: int, width: int) -> AbstractAsyncContextManager[str]:
        """Give the id of a container with a shell on a terminal of this size, to be started by its user.

        It has what the program had (variables, user, directory, mounts, secrets, network) on a new layer upon what the program left.
        The program has ended; leaving the ``with`` removes the container.
        """


class StepRunner(Protocol):
    """Makes containers for steps."""

    def devices(self) -> list[HostDevice]:
        """Return what devices there are, sorted by name; blocks."""

    def step(self, step: Step) -> AbstractAsyncContextManager[RunningStep]:
        """Give a container; leaving the ``with``, also by cancellation, removes it with all that it has."""
