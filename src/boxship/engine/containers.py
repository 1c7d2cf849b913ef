"""Containers as the API asks for them: ``api.backend.Containers`` on top of the lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from boxship.base import clock
from boxship.base.errors import BoxshipError, InvalidInput, NotFound, NotSupported, SystemFailure
from boxship.engine import causes, describe, why
from boxship.engine.container import Container
from boxship.engine.creation import Creator
from boxship.engine.files import ContainerFiles
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.logs import LogQuery, LogStream
from boxship.engine.model import NotRunning, State
from boxship.engine.observation import top
from boxship.engine.observation.sampling import StatsSampler
from boxship.engine.processes.attach import AttachSession, check_attachable, parse_detach_keys
from boxship.engine.processes.execs import ExecService
from boxship.engine.reconfigure.service import Reconfigurer
from boxship.engine.rootfs.export import export
from boxship.engine.rootfs.paths import shown
from boxship.engine.signals import parse_signal
from boxship.engine.start import StartComposer
from boxship.images import ImageService, NoSuchImage
from boxship.snapshots import ChangeKind, Snapshotter
from boxship.spec.boxship.changes import ChangesMade, ContainerChanges
from boxship.spec.docker.container import (
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    GraphDriver,
    TopResult,
    WaitResult,
)

_KINDS = {ChangeKind.MODIFIED: 0, ChangeKind.ADDED: 1, ChangeKind.DELETED: 2}

Changes = list[dict[str, Any]]
Warnings = list[str]


class Query(Protocol):
    """What a listing reads of its query (``api.backend.ContainerQuery``)."""

    @property
    def all(self) -> bool: ...

    @property
    def limit(self) -> int: ...

    @property
    def size(self) -> bool: ...

    @property
    def filters(self) -> dict[str, list[str]]: ...


class AttachOptions(Protocol):
    """What an attach reads of its query (``api.backend.AttachOptions``)."""

    @property
    def stdin(self) -> bool: ...

    @property
    def stdout(self) -> bool: ...

    @property
    def stderr(self) -> bool: ...

    @property
    def logs(self) -> bool: ...

    @property
    def stream(self) -> bool: ...

    @property
    def detach_keys(self) -> str | None: ...


class _Replay(NamedTuple):
    """The log query of an attach that wants the past first."""

    stdout: bool
    stderr: bool
    follow: bool = False
    since: int = 0
    until: int = 0
    timestamps: bool = False
    details: bool = False
    tail: int = -1


class ContainerService:
    """Implements ``api.backend.Containers``."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        creator: Creator,
        *,
        images: ImageService,
        snapshotter: Snapshotter,
        files: ContainerFiles,
        composer: StartComposer,
        execs: ExecService,
        sampler: StatsSampler,
        reconfigurer: Reconfigurer,
        emit: Any,
        emit_pruned: Callable[[int], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._creator = creator
        self._index = lifecycle.index
        self._images = images
        self._snapshotter = snapshotter
        self._files = files
        self._composer = composer
        self._execs = execs
        self._sampler = sampler
        self._reconfigurer = reconfigurer
        self._emit = emit
        self._emit_pruned = emit_pruned  # with the bytes that a prune freed

    async def list(self, query: Query) -> list[ContainerSummary]:
        """Return the rows of ``ps``."""
        ancestors = set()
        for value in query.filters.get("ancestor", []):
            try:
                ancestors.add(self._images.resolve(value).id)
            except NotFound:
                continue
        chosen = describe.select(
            self._index, stopped_too=query.all, limit=query.limit, filters=query.filters, ancestors=frozenset(ancestors)
        )
        rows = []
        for container in chosen:
            sizes = await self._sizes(container) if query.size else None
            rows.append(describe.summary(container, image=self._image_name(container), sizes=sizes))
        return rows

    async def create(self, name: str | None, request: CreateRequest, platform: str | None) -> CreateResponse:
        """Create a container."""
        return await self._creator.create(name, request, platform)

    async def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect:
        """Describe a container."""
        container = self._index.find(ref)
        try:
            data = self._snapshotter.graph_data(container.id)
        except SystemFailure:
            data = None  # its rows are on a disk that fails; the container itself is known
        graph = GraphDriver(name=self._snapshotter.name, data=data)
        sizes = await self._sizes(container) if size else None
        return describe.inspect(container, files_dir=self._files.directory(container.id), graph=graph, sizes=sizes)

    async def start(self, ref: str) -> bool:
        """Start a container; False when it runs already."""
        return await self._lifecycle.start(self._index.find(ref), causes.asked("start"))

    async def stop(self, ref: str, *, timeout: int | None, signal: str | None) -> bool:
        """Stop a container; False when it was stopped."""
        number = parse_signal(signal) if signal else None
        return await self._lifecycle.stop(self._index.find(ref), causes.asked("stop"), timeout=timeout, signal=number)

    async def restart(self, ref: str, *, timeout: int | None, signal: str | None) -> None:
        """Stop and start a container."""
        number = parse_signal(signal) if signal else None
        await self._lifecycle.restart(self._index.find(ref), causes.asked("restart"), timeout=timeout, signal=number)

    async def kill(self, ref: str, signal: str | None) -> None:
        """Send a signal, SIGKILL by default."""
        number = parse_signal(signal or "SIGKILL")
        await self._lifecycle.kill(self._index.find(ref), number, ref=ref, asked=causes.asked("kill", signal=number))

    async def pause(self, ref: str) -> None:
        """Freeze a container."""
        await self._lifecycle.pause(self._index.find(ref))

    async def unpause(self, ref: str) -> None:
        """Thaw a container."""
        await self._lifecycle.unpause(self._index.find(ref))

    async def rename(self, ref: str, name: str) -> None:
        """Rename a container."""
        await self._lifecycle.rename(self._index.find(ref), name)

    async def remove(self, ref: str, *, volumes: bool, force: bool, link: bool) -> None:
        """Remove a container, or with ``link`` only the link that is named ``container/alias``."""
        if link:
            await self._lifecycle.remove_link(ref)
            return
        container = self._index.find(ref)
        await self._lifecycle.remove(container, causes.asked("rm"), volumes=volumes, force=force)
        self._execs.forget(container)

    async def why(self, ref: str) -> dict[str, Any]:
        """Explain the state of a container by the end of its last run."""
        container = self._index.find(ref)
        return await asyncio.to_thread(why.document, container.spec, container.status, now_ns=clock.now_ns())

    async def wait(self, ref: str, condition: str) -> Awaitable[WaitResult]:
        """Register a wait; awaiting the result is the second step."""
        container = self._index.find(ref)
        match condition or "not-running":
            case "not-running":
                if container.status.alive or container.leaving or container.status.state is State.RESTARTING:
                    return container.next_exit()
                done: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
                done.set_result(container.result())
                return done
            case "next-exit":
                return container.next_exit()
            case "removed":
                return container.removal()
            case other:
                raise InvalidInput(f'invalid condition: "{other}"')

    async def attach(self, ref: str, options: AttachOptions) -> AttachSession:
        """Accept an attach."""
        container = self._index.find(ref)
        check_attachable(container)
        config = container.spec.config
        replay = None
        if options.logs and container.spec.host_config.log_config.type == "json-file":
            replay = LogStream(container, self._files.log_path(container.id), _Replay(options.stdout, options.stderr))
        session = AttachSession(
            container,
            stdin=options.stdin and config.open_stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            stream=options.stream,
            detach_keys=parse_detach_keys(options.detach_keys),
            replay=replay,
        )
        self._emit(container, "attach", {})
        return session

    async def logs(self, ref: str, query: LogQuery) -> LogStream:
        """Accept a log request."""
        container = self._index.find(ref)
        if container.spec.host_config.log_config.type != "json-file":
            raise NotSupported("configured logging driver does not support reading")
        return LogStream(container, self._files.log_path(container.id), query)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the size of the container's terminal."""
        container = self._index.find(ref)
        if not container.status.alive or container.shim is None:
            raise NotRunning(container.id)
        await container.shim.ask("resize", {"exec_id": None, "height": height, "width": width})
        self._emit(container, "resize", {"height": str(height), "width": str(width)})

    async def top(self, ref: str, ps_args: str) -> TopResult:
        """List the processes of a container."""
        container = self._index.find(ref)
        if not container.status.alive:
            raise NotRunning(container.id)
        pids = await asyncio.to_thread(self._composer.cgroup(container).pids)
        result = await top.top(pids, ps_args)
        self._emit(container, "top", {})
        return result

    def stats(self, ref: str, *, stream: bool, one_shot: bool) -> AsyncIterator[bytes]:
        """Return samples in Docker's shape, a JSON document each."""
        return self._sampler.one(self._index.find(ref), stream=stream, one_shot=one_shot)

    def stats_of_all(self, *, stopped_too: bool, stream: bool) -> AsyncIterator[bytes]:
        """Return arrays of samples of all containers."""
        return self._sampler.all(stopped_too=stopped_too, stream=stream)

    async def update(self, ref: str, changes: dict[str, Any]) -> Warnings:
        """Change limits and the restart policy."""
        return await self._reconfigurer.update(self._index.find(ref), changes)

    async def change(self, ref: str, changes: ContainerChanges) -> ChangesMade:
        """Change ports, mounts, environment, labels and limits of a container that exists."""
        return await self._reconfigurer.change(self._index.find(ref), changes)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Remove all stopped containers that the filters select."""
        for key in filters:
            if key not in ("until", "label", "label!"):
                raise InvalidInput(f"invalid filter '{key}'")
        deleted, reclaimed = [], 0
        for container in self._index:
            if container.status.alive or container.status.state in (State.RESTARTING, State.REMOVING):
                continue
            if not describe.prunable(container.spec, filters):
                continue
            size, _ = await self._sizes(container)
            try:
                await self.remove(container.id, volumes=False, force=False, link=False)
            except BoxshipError:
                continue
            deleted.append(container.id)
            reclaimed += size
        self._emit_pruned(reclaimed)
        return {"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    async def changes(self, ref: str) -> Changes:
        """Return what differs from the image."""
        container = self._index.find(ref)
        found = await asyncio.to_thread(self._snapshotter.changes, container.id)
        return [{"Path": shown(change.path), "Kind": _KINDS[change.kind]} for change in found]

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return the container's files as a tar stream."""
        container = self._index.find(ref)
        self._emit(container, "export", {})
        return export(self._snapshotter, container.id)

    def _image_name(self, container: Container) -> str:
        typed = container.spec.config.image
        try:
            return typed if self._images.means(typed, container.spec.image_id) else container.spec.image_id
        except (NoSuchImage, SystemFailure):  # looking at containers works without a disk
            return container.spec.image_id

    async def _sizes(self, container: Container) -> tuple[int, int]:
        writable = await asyncio.to_thread(self._snapshotter.usage, container.id)
        try:
            size = self._images.get(container.spec.image_id).size
        except NotFound:
            size = 0
        return writable, writable + size
