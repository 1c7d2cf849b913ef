"""What was in a volume earlier: snapshots, the way back, copies. What :class:`VolumeService` is for the present."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from boxship.base import clock
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound, SystemFailure
from boxship.spec.boxship.volume_history import VolumeChange, VolumeSnapshot
from boxship.spec.docker.volume import Volume, VolumeCreate
from boxship.volumes import archive, copyup, snapshots, tree
from boxship.volumes.rows import KIND
from boxship.volumes.service import Emit, VolumeService

T = TypeVar("T")
Stream = Callable[[Callable[[archive.Writable], None]], AsyncIterator[bytes]]
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
        now_ns: Callable[[], int] = clock.now_ns,
    ) -> None:
        """``still`` keeps containers still: their ids -> a context. ``stream`` runs a writer in a thread and yields its bytes."""
        self._volumes = volumes
        self._stream = stream
        self._still = still
        self._emit = emit
        self._now_ns = now_ns

    async def take(self, volume: str, name: str) -> VolumeSnapshot:
        """Make a snapshot; without a name it gets the time. Raises NotFound, InvalidInput, Conflict, SystemFailure."""
        now = self._now_ns()
        name = name or re.sub(r"[^0-9]", "", clock.rfc3339(now).partition(".")[0])
        if not _NAME.fullmatch(name):
            raise InvalidInput(f'invalid snapshot name "{name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed')
        async with self._volumes.resting(volume, running=True) as directory:
            with _translated(volume, name):
                known: Mapping[str, snapshots.Entry] = {}
                holders = self._volumes.holders(volume)
                if holders:  # most is read while they run, so that they are still for what changes meanwhile only
                    known = await _in_thread(directory, snapshots.gather)
                async with self._still(holders):
                    made = await _in_thread(directory, lambda fd: snapshots.take(fd, name, now, known))
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

    async def clone(self, volume: str, new: str) -> Volume:
        """Make a volume with the content and labels of another one; raises NotFound, InvalidInput, Conflict, SystemFailure.

        A failure leaves no new volume.
        """
        source = await self._volumes.inspect(volume)
        if new in {each.name for each in await self._volumes.list({})}:
            raise Conflict(f"clone {volume}: a volume named {new} exists")
        made = await self._volumes.create(VolumeCreate(name=new, labels=source.labels))

        def copy(source_fd: int) -> None:
            with _opened(os.path.dirname(made.mountpoint)) as target_fd, snapshots.staged(target_fd) as staged_fd:
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

    async def rename(self, volume: str, new: str) -> Volume:
        """Give a volume another name, with its snapshots. Raises NotFound, InvalidInput, Conflict, SystemFailure."""
        return await self._volumes.rename(volume, new)

    async def _work(self, volume: str, name: str, work: Callable[[int], T]) -> T:
        async with self._volumes.resting(volume) as directory:
            with _translated(volume, name):
                return await _in_thread(directory, work)

    def _tell(self, action: str, volume: str, attributes: Mapping[str, str]) -> None:
        self._emit(KIND, action, volume, {"driver": "local", **attributes})


async def _in_thread(directory: str, work: Callable[[int], T]) -> T:
    """Return what ``work`` makes of the open directory.

    A cancellation waits for its end: the volume rests, and containers are still, until the thread is done.
    """

    def opened() -> T:
        with _opened(directory) as fd:
            return work(fd)

    task = asyncio.create_task(asyncio.to_thread(opened))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


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
