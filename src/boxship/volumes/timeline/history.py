"""What was in a volume earlier: snapshots, the way back, copies. What :class:`VolumeService` is for the present."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from boxship.base import clock
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound, NotSupported, SystemFailure
from boxship.spec.boxship.volume_history import VolumeChange, VolumeSnapshot, VolumeUpdate
from boxship.spec.docker.volume import Volume, VolumeCreate
from boxship.volumes import copyup, tree
from boxship.volumes.local import options as driver_options
from boxship.volumes.local import resizing
from boxship.volumes.rows import KIND, LOCAL
from boxship.volumes.service import Emit, VolumeService
from boxship.volumes.timeline import archive, snapshots

T = TypeVar("T")
Stream = Callable[[Callable[[archive.Writable], None]], AsyncIterator[bytes]]


class Unpacking(Protocol):
    """An archive that arrives."""

    def into(self, directory_fd: int) -> None:
        """Unpack it into an empty directory; blocking. Raises InvalidInput, SystemFailure."""

    async def end(self) -> None:
        """Take no more of it."""


Unpack = Callable[[AsyncIterator[bytes]], Unpacking]
Still = Callable[[Sequence[str]], contextlib.AbstractAsyncContextManager[None]]
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_KINDS = {"A": "added", "C": "changed", "D": "deleted"}


class VolumeHistory:
    """Snapshots of the volumes of one service.

    Containers may run with a volume while a snapshot is made, and are still for its last part; for all else none may run.
    """

    def __init__(
        self,
        volumes: VolumeService,
        *,
        emit: Emit,
        still: Still,
        stream: Stream,
        unpack: Unpack,
        now_ns: Callable[[], int] = clock.now_ns,
    ) -> None:
        """``still`` keeps containers still: their ids -> a context. ``stream`` runs a writer in a thread and yields its bytes."""
        self._volumes = volumes
        self._stream = stream
        self._unpack = unpack
        self._still = still
        self._emit = emit
        self._now_ns = now_ns

    async def take(self, volume: str, name: str) -> VolumeSnapshot:
        """Make a snapshot; without a name it gets the time. Raises NotFound, InvalidInput, Conflict, SystemFailure."""
        now = self._now_ns()
        name = name or re.sub(r"[^0-9]", "", clock.rfc3339(now).partition(".")[0])
        if not _NAME.fullmatch(name):
            raise InvalidInput(f'invalid snapshot name "{name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed')
        async with self._volumes.resting(volume, running=True):
            with _translated(volume, name):
                known: Mapping[str, snapshots.Entry] = {}
                holders = self._volumes.holders(volume)
                if holders:  # most is read while they run, so that they are still for what changes meanwhile only
                    known = await self._in_thread(volume, snapshots.gather)
                async with self._still(holders):
                    captured = await self._in_thread(volume, lambda fd: snapshots.capture(fd, name, known))
                made = await self._in_thread(volume, lambda fd: snapshots.finish(fd, name, now, captured))
        self._tell("snapshot", volume, {"snapshot": name})
        return _document(name, made)

    async def list(self, volume: str) -> Sequence[VolumeSnapshot]:
        """Return the snapshots of a volume, the oldest first. Raises NotFound, SystemFailure."""
        await self._volumes.inspect(volume)
        directory = os.path.dirname(self._volumes.mountpoint(volume))

        def work() -> list[VolumeSnapshot]:
            with _opened(directory) as fd:
                return [_document(name, snapshots.read(fd, name)) for name in snapshots.names(fd)]

        with _translated(volume, ""):
            return sorted(await asyncio.to_thread(work), key=lambda each: each.created_at)

    async def remove(self, volume: str, name: str) -> None:
        """Remove a snapshot and what only it had. Raises NotFound, Conflict, SystemFailure."""
        _check(volume, name)
        await self._work(volume, name, lambda fd: snapshots.remove(fd, name))

    async def restore(self, volume: str, name: str) -> None:
        """Give a volume the content of a snapshot. Raises NotFound, Conflict, SystemFailure with the content as it was."""
        _check(volume, name)
        if ((await self._volumes.inspect(volume)).options or {}).get("type") == "tmpfs":
            raise NotSupported(
                f"volume {volume}: a tmpfs is empty when no container runs, so nothing can be restored to it"
            )
        await self._work(volume, name, lambda fd: snapshots.restore(fd, name))
        self._tell("restore", volume, {"snapshot": name})

    async def differences(self, volume: str, name: str) -> Sequence[VolumeChange]:
        """Return what changed in a volume since a snapshot. Raises NotFound, Conflict, SystemFailure."""
        _check(volume, name)
        found = await self._work(volume, name, lambda fd: snapshots.differences(fd, name))
        return [VolumeChange(kind=_KINDS[kind], path=path.decode("utf-8", "replace")) for kind, path in found]

    async def backup(self, volume: str, name: str) -> AsyncIterator[bytes]:
        """Return a snapshot as a tar. Raises NotFound, SystemFailure; the stream ends early for one that is damaged."""
        await self._volumes.inspect(volume)
        _check(volume, name)
        directory = os.path.dirname(self._volumes.mountpoint(volume))

        def read() -> snapshots.Snapshot:
            with _opened(directory) as fd:
                return snapshots.read(fd, name)

        def write(out: archive.Writable) -> None:
            with _opened(directory) as fd:
                archive.write(fd, snapshot, out)

        with _translated(volume, name):
            snapshot = await asyncio.to_thread(read)
        return self._stream(write)

    async def export(self, volume: str) -> AsyncIterator[bytes]:
        """Return what is in a volume now as a tar, by a snapshot that goes with the stream. Raises as :meth:`take`."""
        name = f"export-{os.urandom(8).hex()}"
        await self.take(volume, name)
        pieces = await self.backup(volume, name)

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    yield piece
            finally:
                with contextlib.suppress(BoxshipError):
                    await self._in_thread(volume, lambda fd: snapshots.remove(fd, name))

        return stream()

    async def load(self, volume: str, source: AsyncIterator[bytes]) -> Volume:
        """Make a volume of a tar, compressed or not, or fill an empty one; raises InvalidInput, Conflict, SystemFailure.

        All of it is there afterwards, or nothing.
        """
        is_new = volume not in self._volumes.names()
        made = await self._volumes.create(VolumeCreate(name=volume, driver=LOCAL))
        unpacking = self._unpack(source)

        def work(fd: int) -> None:
            data_fd = tree.open_directory(copyup.DATA, fd)
            try:
                if os.listdir(data_fd):
                    raise Conflict(f"import {volume}: the volume has content: import into a new one")
                with snapshots.staged(fd) as staged_fd:
                    tree.copy_attributes(data_fd, staged_fd)
                    unpacking.into(staged_fd)
            finally:
                os.close(data_fd)

        task = asyncio.create_task(self._work(volume, "", work))
        try:
            await asyncio.shield(task)
        except BaseException:
            await unpacking.end()
            await asyncio.gather(task, return_exceptions=True)
            if is_new:
                with contextlib.suppress(BoxshipError):
                    await self._volumes.remove(volume, force=True)
            raise
        await unpacking.end()
        self._tell("import", volume, {})
        return made

    async def clone(self, volume: str, new: str) -> Volume:
        """Make a volume with the content and labels of another one; raises NotFound, InvalidInput, Conflict, SystemFailure.

        A failure leaves no new volume.
        """
        source = await self._volumes.inspect(volume)
        if new in self._volumes.names():
            raise Conflict(f"clone {volume}: a volume named {new} exists")
        bound = {key: text for key, text in (source.options or {}).items() if key in ("size", "backing")}
        mounted = (source.options or {}).get("type")
        request = VolumeCreate(
            name=new, driver=LOCAL, labels=source.labels, driver_opts=None if mounted else bound or None
        )
        made = await self._volumes.create(request)

        def copy(source_fd: int) -> None:
            with (
                self._volumes.content(new) as data,
                _opened(os.path.dirname(data)) as target_fd,
                snapshots.staged(target_fd) as staged_fd,
            ):
                data_fd = tree.open_directory(copyup.DATA, source_fd)
                try:
                    tree.copy(data_fd, staged_fd)
                finally:
                    os.close(data_fd)

        try:
            async with self._volumes.resting(made.name):
                await self._work(volume, "", copy)
        except BaseException:
            with contextlib.suppress(BoxshipError):
                await self._volumes.remove(made.name, force=True)
            raise
        return made

    async def update(self, volume: str, change: VolumeUpdate) -> Volume:
        """Change labels and size of a volume, also while containers run with it.

        Raises NotFound; InvalidInput for a size that cannot be; Conflict; NotSupported; SystemFailure with all as it was.
        """
        async with self._volumes.resting(volume, running=True):
            options = dict((await self._volumes.inspect(volume)).options or {})
            if change.size:
                options["size"] = change.size
                try:
                    driver_options.check(volume, options)
                except InvalidInput as exc:
                    raise InvalidInput(str(exc).replace("create ", "update ", 1)) from exc
                with _translated(volume, ""):
                    await asyncio.to_thread(self._resize, volume, options)
            made = await self._volumes.change(
                volume, options or None, add_labels=change.add_labels, remove_labels=change.remove_labels
            )
        self._tell("update", volume, {})
        return made

    def _resize(self, volume: str, options: Mapping[str, str]) -> None:
        self._volumes.unmount_unheld(volume)
        resizing.resize(self._volumes.mountpoint(volume), options)

    async def rename(self, volume: str, new: str) -> Volume:
        """Give a volume another name, with its snapshots. Raises NotFound, InvalidInput, Conflict, SystemFailure."""
        return await self._volumes.rename(volume, new)

    async def _work(self, volume: str, name: str, work: Callable[[int], T]) -> T:
        async with self._volumes.resting(volume):
            with _translated(volume, name):
                return await self._in_thread(volume, work)

    async def _in_thread(self, volume: str, work: Callable[[int], T]) -> T:
        """Return what ``work`` makes of the volume's open directory, with what its options mount in it.

        A cancellation waits for its end: the volume rests, and containers are still, until the thread is done.
        """

        def opened() -> T:
            with self._volumes.content(volume) as data, _opened(os.path.dirname(data)) as fd:
                return work(fd)

        task = asyncio.create_task(asyncio.to_thread(opened))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.gather(task, return_exceptions=True)
            raise

    def _tell(self, action: str, volume: str, attributes: Mapping[str, str]) -> None:
        self._emit(KIND, action, volume, {"driver": "local", **attributes})


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = tree.open_directory(directory)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _translated(volume: str, name: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as exc:
        raise Conflict(f"volume {volume} has a snapshot {name} already") from exc
    except FileNotFoundError as exc:
        raise NotFound(f"volume {volume}: no such snapshot: {name}") from exc
    except OSError as exc:
        where = f": {exc.filename}" if isinstance(exc.filename, str) else ""
        raise SystemFailure(f"volume {volume}: {exc.strerror}{where}") from exc


def _check(volume: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise NotFound(f"volume {volume}: no such snapshot: {name}")


def _document(name: str, snapshot: snapshots.Snapshot) -> VolumeSnapshot:
    return VolumeSnapshot(
        name=name, created_at=clock.rfc3339(snapshot.created_ns), size=snapshot.size(), entries=len(snapshot.entries)
    )
