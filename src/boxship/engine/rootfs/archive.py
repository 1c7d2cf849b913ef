"""Files into and out of a container (``docker cp``): ``api.backend.Archives``.

Everything inside the container is hostile and may change while it is looked at. Trees come from ``trees``, every
path is walked by the kernel inside the container's root, archives are decompressed and parsed in this process, and nothing
of the container is ever executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import posixpath
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

from boxship.base import clock
from boxship.base.errors import Conflict, InvalidInput, NotFound, SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.files import ContainerFiles
from boxship.engine.lifecycle import CLEANUP_DEADLINE, Emit
from boxship.engine.model import ResolvedMount, State
from boxship.engine.processes.launcher import Launcher, UnattachedMount
from boxship.engine.rootfs import paths, threads, trees
from boxship.images.transfers.feed import Feed
from boxship.linux import fs
from boxship.runtime.user import UserError, resolve_user
from boxship.snapshots import Decompressed, InvalidTar, Snapshotter, TarReader, TarWriter, apply, owners, tree
from boxship.snapshots.tar_reader import Entry
from boxship.snapshots.tar_writer import Writable
from boxship.spec.docker.container import PathStat

T = TypeVar("T")
Open = Callable[[ExitStack], int]
"""Opens a container's root, until the stack is closed."""

_EPOCH = "1970-01-01T00:00:00Z"  # which `clock` takes for "never"
_NETWORK_FILES = ("hostname", "hosts", "resolv.conf")


class NoSuchFile(NotFound):
    """The container has nothing at that path."""

    def __init__(self, path: str, ref: str) -> None:
        super().__init__(f"Could not find the file {path} in container {ref}")


class Download:
    """The archive of one path, opened and looked at; close it when it was not read to its end."""

    def __init__(
        self, found: PathStat, root_fd: int, path: str, stack: ExitStack, identity: IdentityMapping | None
    ) -> None:
        self.stat = found
        self._root_fd = root_fd
        self._path = path
        self._stack = stack
        self._identity = identity
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = threads.stream(self._write)
        return self._pieces

    async def aclose(self) -> None:
        """Release the container's tree; a thread that still reads it does so itself."""
        if self._pieces is None:
            self._stack.close()

    def _write(self, out: Writable) -> None:
        with self._stack:
            try:
                _write_archive(self._root_fd, self._path, TarWriter(out, self._identity))
            except OSError as exc:
                raise SystemFailure(f"archive {self._path}: {exc.strerror}") from exc


class ArchiveService:
    """Implements ``api.backend.Archives``."""

    def __init__(
        self,
        index: ContainerIndex,
        *,
        snapshotter: Snapshotter,
        files: ContainerFiles,
        launcher: Launcher,
        emit: Emit,
    ) -> None:
        self._index = index
        self._launcher = launcher
        self._snapshotter = snapshotter
        self._files = files
        self._emit = emit

    async def stat(self, ref: str, path: str) -> PathStat:
        """Describe what is at ``path``. Raises NotFound."""
        container = self._index.find(ref)

        def look(open: Open) -> PathStat:
            with ExitStack() as stack:
                return _stat(open(stack), path, ref)

        return await self._with_tree(container, look)

    async def read(self, ref: str, path: str) -> Download:
        """Open ``path`` as an archive whose names begin with the last name of the path. Raises NotFound."""
        container = self._index.find(ref)

        def start(open: Open) -> Download:
            with ExitStack() as stack:
                root_fd = open(stack)
                return Download(
                    _stat(root_fd, path, ref),
                    root_fd,
                    paths.absolute(path),
                    stack.pop_all(),
                    self._snapshotter.identity,
                )

        download = await self._with_tree(container, start)
        self._emit(container, "archive-path", {})
        return download

    async def write(self, ref: str, path: str, source: AsyncIterator[bytes], *, keep_kinds: bool, own: bool) -> None:
        """Unpack an archive, compressed or not, into the directory ``path``.

        ``keep_kinds`` refuses to replace a directory by something else or the reverse; ``own`` gives all files to the
        container's user. What was unpacked before an error stays. Raises NotFound, InvalidInput.
        """
        container = self._index.find(ref)
        feed = Feed(asyncio.get_running_loop())

        def work(open: Open) -> None:
            with ExitStack() as stack:
                root_fd = open(stack)
                directory = _extraction_point(root_fd, path, ref)
                _check_writable(container, directory)
                owner = _owner(root_fd, container.spec.config.user) if own else None
                prepare = prepare_owners(owner, self._snapshotter.identity)
                _unpack(root_fd, directory, feed, keep_kinds=keep_kinds, prepare=prepare)

        pump = asyncio.ensure_future(feed.pump(source))
        try:
            await self._with_tree(container, work, writable=True)
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump
        self._emit(container, "extract-to-dir", {})

    async def _with_tree(self, container: Container, work: Callable[[Open], T], *, writable: bool = False) -> T:
        """Run ``work`` in a thread with the container's tree; while it is written, a stopped container cannot start."""
        running = await self._running(container)
        if running is not None:
            return await threads.alone(functools.partial(_consume, running, work))
        async with container.lock:
            running = await self._running(container)
            if running is not None:
                return await threads.alone(functools.partial(_consume, running, work))
            if container.status.state in (State.REMOVING, State.DEAD):
                raise Conflict(f"can't copy files of container {container.id}: it is marked for removal")
            async with asyncio.timeout(CLEANUP_DEADLINE):
                await container.clean.wait()
            mounts = self._mounts(container)
            loop = asyncio.get_running_loop()

            def assemble(root_fd: int, parts: Sequence[UnattachedMount]) -> socket.socket:
                return asyncio.run_coroutine_threadsafe(self._launcher.assemble(root_fd, parts), loop).result()

            def open(stack: ExitStack) -> int:
                return trees.open_stopped(
                    self._snapshotter, container.id, mounts, writable=writable, stack=stack, assemble=assemble
                )

            return await threads.alone(lambda: work(open))

    async def _running(self, container: Container) -> int | None:
        """Return a handle of the running container's root, None when it does not run."""
        while container.status.alive:
            pid = container.status.pid
            record = await asyncio.to_thread(self._files.state_record, container.id)
            if record is None or record["pid"] != pid:
                raise SystemFailure(f"the state of container {container.id} is not known")
            with contextlib.suppress(trees.NotThere):
                return await threads.alone(functools.partial(trees.open_running, pid, record["pid_start_time"]))
            await container.ended.wait()
        return None

    def _mounts(self, container: Container) -> list[ResolvedMount]:
        """Return what a stopped container's tree shows beside its layers."""
        directory = self._files.directory(container.id)
        return [*container.spec.mounts] + [
            ResolvedMount(type="bind", source=f"{directory}/{name}", target=f"/etc/{name}", recursive=False)
            for name in _NETWORK_FILES
            if os.path.exists(f"{directory}/{name}")
            and not any(m.target == f"/etc/{name}" for m in container.spec.mounts)
        ]


def _consume(root_fd: int, work: Callable[[Open], T]) -> T:
    """Call ``work`` with a running container's root, which it owns."""
    with ExitStack() as mine:
        mine.callback(os.close, root_fd)

        def open(stack: ExitStack) -> int:
            stack.push(mine.pop_all())
            return root_fd

        return work(open)


def _stat(root_fd: int, path: str, ref: str) -> PathStat:
    with _translated(path, ref):
        found = paths.describe(root_fd, paths.absolute(path))
    return PathStat(
        name=paths.shown(found.name),
        size=found.status.st_size,
        mode=paths.go_mode(found.status.st_mode),
        mtime=_EPOCH if found.status.st_mtime_ns == 0 else clock.rfc3339(found.status.st_mtime_ns),
        link_target=paths.shown(found.link_target),
    )


def _write_archive(root_fd: int, path: str, writer: TarWriter) -> None:
    """Write what is at the absolute ``path``, a directory with its content; names begin with the path's last one."""
    base = paths.last_name(path)
    handle = paths.open_entry(root_fd, path)
    with tree.opened(handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            with tree.opened(paths.open_target(root_fd, posixpath.dirname(path))) as parent_fd:
                name = posixpath.basename(path)
                writer.add_file(parent_fd, name, base, os.stat(name, dir_fd=parent_fd, follow_symlinks=False))
                writer.finish()
            return
        prefix = "/" if base == "/" else f"{base}/"
        writer.add_file(handle, ".", prefix.rstrip("/"), os.fstat(handle))
        for below, parent_fd, status in tree.walk(handle, leave=paths.is_kernels):
            with contextlib.suppress(FileNotFoundError):  # the container deleted it
                writer.add_file(parent_fd, posixpath.basename(below), prefix + below, status)
    writer.finish()


def _extraction_point(root_fd: int, path: str, ref: str) -> str:
    """Return the directory ``path`` without links. Raises NoSuchFile, InvalidInput."""
    with _translated(path, ref), tree.opened(paths.open_target(root_fd, paths.absolute(path))) as handle:
        if paths.is_kernels(handle):
            raise NoSuchFile(path, ref)
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise InvalidInput("extraction point is not a directory")
        return paths.place_of(root_fd, handle)


def _check_writable(container: Container, directory: str) -> None:
    """Say in Docker's words what the kernel would refuse (EROFS)."""
    writable = trees.writable_place(directory, container.spec.mounts)
    if writable is False:
        raise InvalidInput("mounted volume is marked read-only")
    if writable is None and container.spec.host_config.readonly_rootfs:
        raise InvalidInput("container rootfs is marked read-only")


def _owner(root_fd: int, user: str) -> Callable[[Entry], None] | None:
    """Return what gives entries to the container's user; None when it names none, as in Docker."""
    if not user:
        return None
    try:
        found = resolve_user(root_fd, user, [])
    except UserError as exc:
        raise InvalidInput(str(exc)) from exc

    def give(entry: Entry) -> None:
        entry.uid, entry.gid = found.uid, found.gid

    return give


def prepare_owners(
    owner: Callable[[Entry], None] | None, identity: IdentityMapping | None
) -> Callable[[Entry], None] | None:
    """Return what gives entries their owners on disk: first inside the container, then on the host."""
    if identity is None:
        return owner

    def prepare(entry: Entry) -> None:
        if owner is not None:
            owner(entry)
        owners.to_host(entry, identity)

    return prepare


def _unpack(
    root_fd: int, directory: str, source: Feed, *, keep_kinds: bool, prepare: Callable[[Entry], None] | None
) -> None:
    reader = TarReader(Decompressed(source))
    with tree.opened(fs.openat2(root_fd, ".", os.O_RDONLY | os.O_DIRECTORY, resolve=fs.RESOLVE_IN_ROOT)) as start_fd:
        try:
            apply.unpack(reader, start_fd, start=directory, keep_kinds=keep_kinds, prepare=prepare)
            reader.finish()
        except InvalidTar as exc:
            raise InvalidInput(f"Error processing tar file(exit status 1): {exc}") from exc


@contextlib.contextmanager
def _translated(path: str, ref: str) -> Iterator[None]:
    """Turn the walk's errors into Docker's."""
    try:
        yield
    except OSError as exc:
        if exc.errno is None or exc.errno == errno.ENOENT:
            raise NoSuchFile(path, ref) from exc
        raise SystemFailure(f"lstat {path}: {os.strerror(exc.errno).lower()}") from exc
