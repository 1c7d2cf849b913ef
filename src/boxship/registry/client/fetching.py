"""A blob into a file that may hold parts of it already: several ranges at once, in order, from one place or the next.

Pieces are asked for from the front, so that who reads the file while it grows seldom waits. A connection that breaks is
replaced where it stopped; a registry that knows no ranges is read once from the start. Bounds: ``attempts`` failures in a
row without progress, and the session's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from boxship.registry.client.errors import Mismatch, RegistryError, Unreachable, innermost
from boxship.registry.client.places import BlobPlace
from boxship.registry.client.repository import Patience
from boxship.registry.client.slots import Slots

CONNECTIONS = 3  # for one blob
_ALONE = 16 * 1024 * 1024  # bytes up to which one connection fetches a blob
_WRITE = 1024 * 1024  # bytes that are handed to the disk at once
_PROGRESS = 64 * 1024  # bytes after which a failure counts as the first again


class Sink(Protocol):
    """Where the bytes go; it hashes them and forgets nothing that was written. Its methods block."""

    @property
    def size(self) -> int:
        """The blob's length in bytes."""

    def missing(self) -> Sequence[tuple[int, int]]:
        """Return the parts that are not here, each as start and end, in order."""

    def write(self, offset: int, data: bytes) -> int:
        """Take bytes at ``offset``; those that are here already are skipped. Return how many of all are here now."""


class _NoRanges(Exception):
    """The registry sends the whole blob whatever part was asked for."""


class Fetcher:
    """Fetches one blob; ``repositories`` are its places, the preferred first. ``observe`` is told the bytes that are here."""

    def __init__(
        self,
        repositories: Sequence[BlobPlace],
        digest: str,
        sink: Sink,
        slots: Slots,
        observe: Callable[[int], None],
    ) -> None:
        self._repositories = repositories
        self._digest = digest
        self._sink = sink
        self._slots = slots
        self._observe = observe
        self._moved = 0  # bytes in this process

    async def run(self) -> None:
        """Return when the sink has every byte. Raises the last error that a place answered with, else that of the first.

        OSError when the disk fails.
        """
        failed: RegistryError | None = None
        for repository in self._repositories:
            try:
                await self._from(repository)
                return
            except RegistryError as exc:
                if failed is None or exc.status or exc.code:
                    failed = exc
        assert failed is not None
        raise failed

    async def _from(self, repository: BlobPlace) -> None:
        try:
            await self._pieces(repository)
        except _NoRanges:
            await self._work(repository, deque([(0, self._sink.size)]), ranged=False)

    async def _pieces(self, repository: BlobPlace) -> None:
        pieces = deque(self._sink.missing())
        if sum(end - start for start, end in pieces) <= _ALONE:
            await self._work(repository, deque(_joined(pieces)))
            return
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONNECTIONS, len(pieces))):
                    group.create_task(self._work(repository, pieces))
        except BaseExceptionGroup as errors:
            raise innermost(errors) from None

    async def _work(self, repository: BlobPlace, pieces: deque[tuple[int, int]], *, ranged: bool = True) -> None:
        while pieces:
            await self._piece(repository, *pieces.popleft(), ranged=ranged)

    async def _piece(self, repository: BlobPlace, start: int, end: int, *, ranged: bool) -> None:
        session = repository.session
        patience, mark = Patience(session.settings.attempts, session.timeouts), self._moved
        while start < end:
            try:
                async with self._slots.one():
                    start = await self._transfer(repository, start, end, ranged=ranged)
                if start < end:
                    raise Unreachable(f"{repository.endpoint.host}: unexpected EOF")
            except Unreachable as exc:
                start = exc.__dict__.pop("reached", start) if ranged else 0
                if repository.forget_redirect(self._digest):
                    continue  # the address may have been good for a while only
                if ranged and self._moved - mark >= _PROGRESS:
                    patience.renew()
                mark = self._moved
                await patience.again(exc)

    async def _transfer(self, repository: BlobPlace, start: int, end: int, *, ranged: bool) -> int:
        """Return the offset that one request brought us to."""
        whole = start == 0 and end == self._sink.size
        position = start
        buffered: list[bytes] = []
        held = 0
        try:
            async with repository.blob(self._digest, start, None if whole else end) as (answer, offset):
                if offset != start:
                    raise _NoRanges
                if whole and answer.size is not None and answer.size != end:
                    raise Mismatch(
                        f"{self._digest}: {repository.endpoint.host} sends {answer.size} bytes, the manifest says {end}"
                    )
                while piece := await answer.read():
                    if position + held + len(piece) > end:
                        if whole or not ranged:
                            raise Mismatch(f"{self._digest}: {repository.endpoint.host} sends more than {end} bytes")
                        piece = piece[: end - position - held]
                    buffered.append(piece)
                    held += len(piece)
                    if held >= _WRITE or position + held >= end:
                        await self._write(position, buffered)
                        position, buffered, held = position + held, [], 0
                    if position >= end and not whole:
                        break
                if held:
                    await self._write(position, buffered)
                    position += held
        except Unreachable as exc:
            if held:  # what did come counts
                await self._write(position, buffered)
            exc.__dict__["reached"] = position + held
            raise
        return position

    async def _write(self, position: int, pieces: Sequence[bytes]) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        here = await asyncio.to_thread(self._sink.write, position, data)
        self._moved += len(data)
        self._observe(here)


def _joined(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pieces with those that touch made one."""
    found: list[tuple[int, int]] = []
    for start, end in pieces:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
