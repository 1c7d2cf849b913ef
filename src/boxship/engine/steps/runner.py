"""Implements ``build.runner.StepRunner``: one container for each program, made and started as any other, without the API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable

from boxship.base.errors import BoxshipError, NotSupported, SystemFailure
from boxship.base.whole import whole
from boxship.build.steps.runner import HostDevice, Step
from boxship.engine import causes
from boxship.engine.cdi import registry
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.creation import Creator, StepContainer
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import ResolvedMount, State
from boxship.engine.processes.shims import Client
from boxship.engine.settings import EngineSettings
from boxship.engine.steps import shell
from boxship.engine.steps.trim import Trim
from boxship.images.archives import piped
from boxship.linux import fs
from boxship.snapshots import Snapshotter
from boxship.snapshots.tar_writer import Writable
from boxship.spec.docker.container import CreateRequest, HealthConfig
from boxship.wire import frames

log = logging.getLogger(__name__)

_PIECE = 64 * 1024
_ANNOTATIONS = "org.mobyproject.buildkit.device"


class ContainerRunner:
    """Runs steps as containers of this engine."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        tools: Callable[[], Awaitable[str]],
        creator: Creator,
        lifecycle: Lifecycle,
        index: ContainerIndex,
        snapshotter: Snapshotter,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._creator = creator
        self._lifecycle = lifecycle
        self._index = index
        self._snapshotter = snapshotter

    def devices(self) -> list[HostDevice]:
        """Return the CDI devices of this host; blocks."""
        found = []
        for name, entry in sorted(registry.scan(self._settings.cdi_spec_dirs).devices.items()):
            notes = {**(entry.spec.annotations or {}), **(entry.device.annotations or {})}
            allowed = notes.get(f"{_ANNOTATIONS}.autoallow", "").lower() in ("1", "t", "true")
            found.append(HostDevice(name=name, class_name=notes.get(f"{_ANNOTATIONS}.class", ""), allowed=allowed))
        return found

    @contextlib.asynccontextmanager
    async def step(self, step: Step) -> AsyncIterator[ContainerStep]:
        """Give a container for a program; it goes with the ``async with`` unless ``keep`` was called."""
        request = CreateRequest(
            image=step.image.id,
            cmd=list(step.args),
            entrypoint=[],
            env=list(step.env),
            working_dir=step.cwd,
            user=step.user,
            healthcheck=HealthConfig(test=["NONE"]),
            host_config=step.host,
        )
        container = await self._create(step, request)
        running = ContainerStep(container, step, self, self._lifecycle, self._snapshotter)
        try:
            yield running
        finally:
            if not running.kept:
                await asyncio.shield(self._remove(container))

    @contextlib.asynccontextmanager
    async def shell(self, step: Step, failed: Container, height: int, width: int) -> AsyncIterator[str]:
        """Give the id of a container with a shell upon what a step's program left; see ``RunningStep.shell``.

        Raises NotSupported where the storage driver cannot show it.
        """
        if self._snapshotter.name != "overlay2":
            raise NotSupported(f"the storage driver {self._snapshotter.name} cannot show a stopped container")
        tools = await self._toolbox()
        request = CreateRequest(
            image=step.image.id,
            cmd=shell.command(tools),
            entrypoint=[],
            env=shell.environment(step.env, tools),
            working_dir=step.cwd,
            user=step.user,
            tty=True,
            open_stdin=True,
            stdin_once=True,
            healthcheck=HealthConfig(test=["NONE"]),
            host_config=shell.surroundings(step.host, tools, height, width),
        )
        container = await self._create(step, request, beneath=failed.id)
        try:
            yield container.id
        finally:
            await asyncio.shield(self._remove(container))

    async def resume(self, containers: Iterable[Container]) -> None:
        """Remove the containers of builds that a former daemon did not end; one that failed is left for its user."""
        for container in containers:
            spec, status = container.spec, container.status
            failed = status.state is State.EXITED and status.exit_code != 0 and not spec.beneath
            if spec.builds and not failed:
                await self._remove(container)

    async def _create(self, step: Step, request: CreateRequest, *, beneath: str = "") -> Container:
        mounts = [
            ResolvedMount(
                type=mount.type,
                source=mount.source,
                target=mount.target,
                subpath=mount.subpath,
                read_only=mount.read_only,
                options=list(mount.options),
                must_exist=True,
            )
            for mount in step.mounts
        ]
        asked = self._creator.create(None, request, beneath=beneath, step=StepContainer(step.image, mounts))
        creating = asyncio.ensure_future(asked)
        try:
            created = await whole(creating)
        except asyncio.CancelledError:
            if creating.exception() is None:
                await asyncio.shield(self._remove(self._index.find(creating.result().id)))
            raise
        container = self._index.find(created.id)
        container.secret_env = step.secret_env
        return container

    async def _toolbox(self) -> str:
        """Return the directory of the debugging tools, "" on a host that has none."""
        try:
            return await self._tools()
        except SystemFailure:
            return ""

    async def _remove(self, container: Container) -> None:
        try:
            await self._lifecycle.remove(container, causes.own("build"), volumes=True, force=True)
        except BoxshipError as exc:
            log.warning("container %s of a build step is left: %s", container.id, exc)


class ContainerStep:
    """One program (``build.runner.RunningStep``)."""

    def __init__(
        self,
        container: Container,
        step: Step,
        runner: ContainerRunner,
        lifecycle: Lifecycle,
        snapshotter: Snapshotter,
    ) -> None:
        self._container = container
        self._step = step
        self._runner = runner
        self._lifecycle = lifecycle
        self._snapshotter = snapshotter
        self.kept = False

    @property
    def id(self) -> str:
        """The container's id."""
        return self._container.id

    def keep(self) -> None:
        """Leave the container when the step ends."""
        self.kept = True

    def shell(self, height: int, width: int) -> contextlib.AbstractAsyncContextManager[str]:
        """Give the id of a container with a shell upon what the program left."""
        return self._runner.shell(self._step, self._container, height, width)

    async def run(self, output: Callable[[int, bytes], None]) -> int:
        """Run the program to its end; return its exit code. Raises StartFailed and other BoxshipErrors."""
        container = self._container
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        exited = container.next_exit()
        # The lifecycle owns the descriptor from here, also when the start fails.
        container.attaching.append(Client(theirs.detach(), False, True, True, [], b""))
        reading = asyncio.ensure_future(_read(ours, output))
        try:
            await whole(self._lifecycle.start(container, causes.own("build")))  # else its removal would meet it
            await reading
            return (await exited).status_code
        except asyncio.CancelledError:
            self.kept = False
            raise
        finally:
            exited.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            ours.close()

    def write_diff(self, out: Writable) -> object:
        """Write the layer tar of what the program changed, without the places that were made for its mounts."""
        id, step = self._container.id, self._step
        places = {mount.target.strip("/") for mount in step.mounts}
        if not places and step.latest_ns is None:
            return self._snapshotter.write_diff(id, out)
        parent = self._snapshotter.parent(id)
        assert parent is not None
        with self._snapshotter.view(parent) as root_fd:
            trim = Trim(out, places=_missing(root_fd, places), latest_ns=step.latest_ns)
            return piped.through(lambda pipe: self._snapshotter.write_diff(id, pipe), trim.run)


async def _read(sock: socket.socket, output: Callable[[int, bytes], None]) -> None:
    decoder = frames.Decoder()
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, _PIECE):
        for stream, payload in decoder.feed(data):
            output(stream, payload)


def _missing(root_fd: int, places: Collection[str]) -> set[str]:
    """Return those of the paths, and of the directories above them, that are not there."""
    found = set()
    for path in places:
        while path and not _exists(root_fd, path):
            found.add(path)
            path = path.rpartition("/")[0]
    return found


def _exists(root_fd: int, path: str) -> bool:
    try:
        os.close(fs.openat2(root_fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=fs.RESOLVE_IN_ROOT))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
