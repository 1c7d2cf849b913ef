"""Makes the results that the cache does not have: copies files, runs programs, fetches sources."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import msgspec

from boxship.base.errors import BoxshipError, InvalidInput, SystemFailure
from boxship.base.whole import in_thread
from boxship.build import sources
from boxship.build.attestations import materials
from boxship.build.caching import adoption, keys
from boxship.build.caching.cache import Record
from boxship.build.caching.keys import FILES, Key
from boxship.build.files import Directory, Tree
from boxship.build.graph import Context, Copy, Download, Git, Image, MakeDirectory, Run, Vertex, WriteFile
from boxship.build.outcome.assembly import time_ns
from boxship.build.plan import SUMMARY
from boxship.build.progress import Output, Started, Stopped
from boxship.build.results import BuildFailed, Result
from boxship.build.session import Session
from boxship.build.settings import surroundings
from boxship.build.steps.copying import CopyFailed, LayerWriter, Owner, Selection
from boxship.build.steps.debugging import Decision, StoppedSteps
from boxship.build.steps.mounts import Mounts
from boxship.build.steps.runner import RunningStep, Step, StepRunner
from boxship.build.steps.target import Target
from boxship.images.archives import piped
from boxship.images.model import LayerRow
from boxship.runtime.user import UserError, resolve_user
from boxship.snapshots.compression import InvalidCompression
from boxship.snapshots.tar_reader import InvalidTar
from boxship.snapshots.tar_writer import Writable
from boxship.spec.docker.container import DeviceRequest, HostConfig
from boxship.spec.oci.config import LAYER_LIMIT

Value = Result | Tree


class Work(NamedTuple):
    """A result that may be in the cache under ``key``, else is made by ``carry_out``."""

    key: Key
    carry_out: Callable[[], Awaitable[Result]]
    summary: str = ""


class Executor:
    """Works for one session."""

    def __init__(self, session: Session, runner: StepRunner, mounts: Mounts, stopped: StoppedSteps) -> None:
        self._session = session
        self._layers = session.layers
        self._runner = runner
        self._mounts = mounts
        self._stopped = stopped
        self._undo = AsyncExitStack()

    async def close(self) -> None:
        """Let go of what sources hold."""
        await self._undo.aclose()

    # what graphs begin with

    async def image(self, image: Image) -> Result:
        """Hold the layers of an image. Raises NotFound when they are gone meanwhile."""
        await in_thread(lambda: self._hold(image.layers, image.reference))
        return Result(layers=image.layers)

    def context(self, context: Context) -> Tree:
        """Return the files of a build context."""
        if context.name not in self._session.contexts:
            raise InvalidInput(f"the build has no context {context.name!r}")
        return self._session.contexts[context.name]

    async def source(self, source: Download | Git, vertex: Vertex) -> Tree:
        """Fetch a file or a repository."""
        self._session.report(Started(time_ns=time.time_ns(), vertex=vertex.id))
        opened = await self._undo.enter_async_context(
            sources.fetch(source, self._session.scratch, self._session.options.ssh.get("default", ""))
        )
        self._session.fetched[vertex.id] = await in_thread(lambda: materials.of_source(opened))
        return opened

    # layers

    async def prepare(self, vertex: Vertex, base: Result, others: Sequence[Value]) -> Work:
        """Find out what the result of an operation depends on. Raises CopyFailed."""
        operation = vertex.operation
        around = surroundings(self._session.options, operation)
        match operation:
            case Copy():
                selecting = _Copying(self, vertex, operation, base, others[0])
                digest, files, summary = await in_thread(selecting.digest)
                contents = {**around, FILES: digest}
                key = keys.key(operation, base.top, vertex.platform, contents=contents, files=files)
                return Work(key, lambda: self._layer(base, selecting.write, summary, vertex), summary)
            case Run():
                contents = {**around, **await self._mounts.contents(operation, others)}
                key = keys.key(operation, base.top, vertex.platform, contents=contents)
                return Work(key, lambda: self._run(vertex, operation, base, others))
            case WriteFile() | MakeDirectory():
                key = keys.key(operation, base.top, vertex.platform, contents=around)
                making = _Making(self, operation, base)
                return Work(key, lambda: self._layer(base, making.write, "", vertex))
        raise AssertionError(f"{vertex.name} puts no layer on another")

    async def reuse(self, record: Record, base: Result) -> Result | None:
        """Return the result that a record stands for, None when its layers are gone."""

        def hold() -> bool:
            return all(self._session.addition.reuse(chain_id) for chain_id in record.layers)

        if not await in_thread(hold):
            return None
        return Result(
            layers=record.layers,
            added=record.layers != base.layers,
            created_ns=record.created_ns,
            size=record.size,
            summary=record.summary,
            cached=True,
        )

    async def adopt(self, vertex: Vertex, base: Result, summary: str) -> tuple[Result, str] | None:
        """Return the result that an image of ``--cache-from`` has, with the image's name; None if none has it."""
        step = self._session.step_of(vertex.id)
        if step is None or not self._session.cache_from or not adoption.tells_all(vertex.operation):
            return None
        below, created_by = step
        found = adoption.adopt(self._session.cache_from, below, base.layers, created_by.replace(SUMMARY, summary))
        if found is None:
            return None
        layers, entry, image = found
        added = layers != base.layers
        if added and not await in_thread(lambda: self._session.addition.reuse(layers[-1])):
            return None
        result = Result(
            layers=layers,
            added=added,
            created_ns=time_ns(entry.created),
            size=self.row(layers[-1]).size if added else 0,
            summary=summary,
            cached=True,
        )
        return result, f"image {image.references[0] if image.references else image.id}"

    async def _run(self, vertex: Vertex, run: Run, base: Result, others: Sequence[Value]) -> Result:
        while True:
            if (result := await self._attempt(vertex, run, base, others)) is not None:
                return result

    async def _attempt(self, vertex: Vertex, run: Run, base: Result, others: Sequence[Value]) -> Result | None:
        """Run a program once; None when it failed and its user wants it to run again. Raises BuildFailed, BoxshipError."""
        session = self._session
        async with AsyncExitStack() as stack:
            mounts = [await stack.enter_async_context(self._mounts.mount(mount, others)) for mount in run.mounts]
            step = Step(
                image=session.image_below(vertex.id),
                args=run.args,
                env=run.env,
                secret_env=tuple(entry for mount in mounts for entry in mount.env),
                cwd=run.cwd,
                user=run.user,
                mounts=tuple(mount.place for mount in mounts if mount.place is not None),
                host=_host(session, run, vertex),
                latest_ns=session.epoch_ns,
            )
            running = await stack.enter_async_context(self._runner.step(step))
            session.report(Started(time_ns=time.time_ns(), vertex=vertex.id, container=running.id))

            def output(stream: int, data: bytes) -> None:
                session.report(Output(time_ns=time.time_ns(), vertex=vertex.id, stream=stream, data=data))

            try:
                code = await running.run(output)
                if code != 0:
                    text = f"The command '{' '.join(run.args)}' returned a non-zero code: {code}"
                    raise BuildFailed(text, code, vertex.id)
            except BoxshipError as exc:
                decision = await self._decision(vertex, running, exc) if session.options.debug else Decision.KEEP
                if decision is Decision.RETRY:
                    return None
                if decision is Decision.KEEP and not session.options.force_rm:
                    running.keep()
                raise
            return await self._layer(base, running.write_diff, "", vertex)

    async def _decision(self, vertex: Vertex, running: RunningStep, failure: BoxshipError) -> Decision:
        """Wait until the user of a failed program has decided what becomes of it."""
        self._stopped.stop(running)
        code = failure.code if isinstance(failure, BuildFailed) else 0
        self._session.report(
            Stopped(time_ns=time.time_ns(), vertex=vertex.id, container=running.id, message=str(failure), code=code)
        )
        return await self._stopped.wait(running)

    async def _layer(self, base: Result, write: Callable[[Writable], object], summary: str, vertex: Vertex) -> Result:
        if len(base.layers) >= LAYER_LIMIT:
            raise InvalidInput("max depth exceeded")
        chain_id = await in_thread(lambda: self._store(base.top, write, vertex))
        row = self.row(chain_id)
        added = row.diff_id != piped.EMPTY_TAR
        return Result(
            layers=(*base.layers, chain_id) if added else base.layers,
            added=added,
            created_ns=self._session.now_ns(),
            size=row.size if added else 0,
            summary=summary,
        )

    def _store(self, parent: str, write: Callable[[Writable], object], vertex: Vertex) -> str:
        try:
            return piped.layer(self._session.addition, parent, write)
        except (InvalidTar, InvalidCompression) as exc:
            raise CopyFailed(f"{verb_of(vertex)} failed: {exc}") from exc
        except OSError as exc:
            raise SystemFailure(f"{verb_of(vertex)} failed: {exc.strerror or exc}: {exc.filename or ''}") from exc

    def row(self, chain_id: str) -> LayerRow:
        """Return the row of a layer, which may not be written yet."""
        row = self._layers.unpacked(chain_id) or self._layers.get(chain_id)
        if row is None:
            raise SystemFailure(f"layer {chain_id} is gone")
        return row

    def _hold(self, chain_ids: Sequence[str], reference: str) -> None:
        for chain_id in chain_ids:
            if not self._session.addition.reuse(chain_id):
                raise SystemFailure(f"layer {chain_id} of {reference} is damaged or gone")

    @contextlib.contextmanager
    def files_of(self, result: Result) -> Iterator[tuple[Directory | None, int]]:
        """Give the files of a result as a tree, with the descriptor of its root (-1 and None for an empty one)."""
        if not result.top:
            yield None, -1
            return
        with self._layers.snapshotter.view(result.top) as root_fd:
            yield Directory(root_fd, self._session.identity), root_fd

    def owner(self, chown: str, root_fd: int) -> Owner | None:
        """Return who ``--chown`` names, as the files below ``root_fd`` know them. Raises InvalidInput."""
        if not chown:
            return None
        user, _, group = chown.partition(":")
        numbers = user.isdecimal() and (not group or group.isdecimal())
        if numbers:
            return Owner(int(user), int(group or user))
        text = "unable to convert uid/gid chown string to host mapping"
        if root_fd < 0:
            raise InvalidInput(f"{text}: can't find uid for user {user}: no such user: {user}")
        try:
            found = resolve_user(root_fd, chown, [])
        except UserError as exc:
            reason = f"can't find uid for user {user}: no such user: {user}"
            if "group" in str(exc):
                reason = f"can't find gid for group {group}: no such group: {group}"
            raise InvalidInput(f"{text}: {reason}") from exc
        return Owner(found.uid, found.gid)

    def latest_ns(self) -> int | None:
        """Return the time that no file is after."""
        return self._session.epoch_ns

    def now_ns(self) -> int:
        """Return the time of new files."""
        return self._session.now_ns()


class _Copying:
    """A copy from a tree or another result onto a result; blocks."""

    def __init__(self, executor: Executor, vertex: Vertex, copy: Copy, base: Result, source: Value) -> None:
        self._executor = executor
        self._verb = verb_of(vertex)
        self._copy = copy
        self._base = base
        self._source = source

    @contextlib.contextmanager
    def _selection(self) -> Iterator[Selection]:
        if not isinstance(self._source, Result):
            yield Selection(self._source, self._copy, verb=self._verb, local=True)
            return
        with self._executor.files_of(self._source) as (files, _):
            if files is None:
                raise CopyFailed(f"{self._verb} failed: stat {self._copy.sources[0]}: file does not exist")
            yield Selection(files, self._copy, verb=self._verb, local=False)

    def digest(self) -> tuple[str, dict[str, str], str]:
        """Return the digest of what is copied, of each file, and how history names it."""
        with self._selection() as selection:
            digest, files = selection.digest()
            return digest, files, f"{selection.kind}:{digest}"

    def write(self, out: Writable) -> None:
        """Write the layer."""
        copy, executor = self._copy, self._executor
        with self._selection() as selection, executor.files_of(self._base) as (files, root_fd):
            owner = executor.owner(copy.chown, root_fd)
            target = Target(files, links=not copy.link)
            writer = LayerWriter(out, target, owner=owner, chmod=copy.chmod, latest_ns=executor.latest_ns())
            writer.copy(selection, executor.now_ns())
            writer.finish()


class _Making:
    """One file or directory that is made on a result; blocks."""

    def __init__(self, executor: Executor, operation: WriteFile | MakeDirectory, base: Result) -> None:
        self._executor = executor
        self._operation = operation
        self._base = base

    def write(self, out: Writable) -> None:
        """Write the layer."""
        executor, operation = self._executor, self._operation
        with executor.files_of(self._base) as (files, root_fd):
            owner = executor.owner(
                operation.owner if isinstance(operation, MakeDirectory) else operation.chown, root_fd
            )
            target = Target(files)
            if isinstance(operation, MakeDirectory):
                writer = LayerWriter(out, target, owner=owner, latest_ns=executor.latest_ns())
                place = target.locate(operation.path)
                if place.exists and not place.is_directory:
                    raise CopyFailed(f"Cannot mkdir: {operation.path} is not a directory")
                writer.directory(place.path, executor.now_ns())
            else:
                writer = LayerWriter(out, target, owner=owner, chmod=operation.chmod, latest_ns=executor.latest_ns())
                writer.file(operation.path, operation.data, executor.now_ns())
            writer.finish()


def verb_of(vertex: Vertex) -> str:
    """Return the instruction's word, for messages."""
    words = vertex.name.rpartition("] ")[2].split()
    return words[0].upper() if words and words[0].upper() in ("ADD", "RUN") else "COPY"


def _host(session: Session, run: Run, vertex: Vertex) -> HostConfig:
    """Return the surroundings of a program, which it was granted."""
    devices = session.devices.get(vertex.id, [])
    return msgspec.structs.replace(
        session.host,
        network_mode=session.host.network_mode if run.network == "default" else run.network,
        privileged=run.security == "insecure",
        device_requests=[DeviceRequest(driver="cdi", device_ids=devices)] if devices else None,
    )
