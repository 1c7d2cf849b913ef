"""Blobs on their way in, each fetched once however many pulls want it.

A download belongs to all who hold it: the first starts it, the last who leaves before its end cancels it, and what has
arrived by then is kept for the next time (``content.Partial``).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from boxship.base.errors import BoxshipError, Conflict, SystemFailure
from boxship.content import ContentStore, DigestMismatch, Partial, SizeMismatch
from boxship.images.layers import LEASE, failures
from boxship.registry.client.fetching import Fetcher
from boxship.registry.client.places import BlobPlace
from boxship.registry.client.slots import Slots

Observe = Callable[[int], None]
"""Is told how many bytes of a blob are here; called from threads and from the loop."""


class Download:
    """One blob that is being fetched, or was."""

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.observers: list[Observe] = []
        self.holders = 0
        self.here = 0  # bytes, as observers were told
        self.task: asyncio.Task[None] | None = None

    def observe(self, here: int) -> None:
        """Tell all observers."""
        self.here = here
        for observer in tuple(self.observers):
            observer(here)


class Downloads:
    """All downloads of one engine."""

    def __init__(self, content: ContentStore, slots: Slots) -> None:
        self._content = content
        self._slots = slots
        self._running: dict[str, Download] = {}
        self._opening = asyncio.Lock()

    @property
    def digests(self) -> set[str]:
        """The blobs that are being fetched."""
        return set(self._running)

    @property
    def busy(self) -> bool:
        """Whether a new download has to wait for its turn."""
        return self._slots.full

    @asynccontextmanager
    async def hold(
        self, repositories: Sequence[BlobPlace], digest: str, size: int, observe: Observe
    ) -> AsyncIterator[Download]:
        """Give the blob's download, started if nobody did; it goes on while somebody holds it."""
        async with self._opening:
            download = self._running.get(digest)
            if download is None:
                with failures():
                    partial = await asyncio.to_thread(self._content.partial, digest, size, lease=LEASE)
                download = self._running[digest] = Download(partial)
                download.task = asyncio.create_task(self._fetch(repositories, digest, download))
            elif download.partial.size != size:
                raise SizeMismatch(download.partial.size, size)
            download.holders += 1
        download.observers.append(observe)
        if download.here:
            observe(download.here)  # who comes later sees at once how far it is
        try:
            yield download
        finally:
            download.observers.remove(observe)
            download.holders -= 1
            if not download.holders:
                await asyncio.shield(asyncio.ensure_future(self._end(digest, download)))

    @asynccontextmanager
    async def receive(self, digest: str, size: int) -> AsyncIterator[Partial]:
        """Give the blob's file to somebody who brings the bytes himself and verifies them.

        A pull that wants it meanwhile waits for that. Raises Conflict while it is arriving in another way.
        """
        ended = asyncio.Event()
        errors: list[BoxshipError] = []

        async def wait() -> None:
            await ended.wait()
            if errors:
                raise errors[0]

        async with self._opening:
            if digest in self._running:
                raise Conflict(f"layer {digest} is arriving already")
            with failures():
                partial = await asyncio.to_thread(self._content.partial, digest, size, lease=LEASE)
            download = self._running[digest] = Download(partial)
            download.task = asyncio.create_task(wait())
            download.holders = 1
        try:
            yield partial
        except BaseException:
            errors.append(SystemFailure(f"the transfer of layer {digest} was interrupted"))
            partial.fail(errors[0])
            raise
        finally:
            ended.set()
            download.holders -= 1
            if not download.holders:
                await asyncio.shield(asyncio.ensure_future(self._end(digest, download)))

    async def _end(self, digest: str, download: Download) -> None:
        assert download.task is not None
        async with self._opening:
            if download.holders:
                return  # somebody came while we waited
            download.task.cancel()
            await asyncio.gather(download.task, return_exceptions=True)
            await asyncio.to_thread(download.partial.close)
            del self._running[digest]

    async def _fetch(self, repositories: Sequence[BlobPlace], digest: str, download: Download) -> None:
        partial = download.partial
        try:
            async with repositories[0].session:
                if partial.resumed:
                    download.observe(partial.resumed)
                await Fetcher(repositories, digest, partial, self._slots, download.observe).run()
                try:
                    await asyncio.to_thread(partial.verify)
                except (DigestMismatch, SizeMismatch):
                    if not partial.resumed:
                        raise
                    # What an earlier attempt left was damaged, by a power cut for instance.
                    await asyncio.to_thread(partial.restart)
                    await Fetcher(repositories, digest, partial, self._slots, download.observe).run()
                    await asyncio.to_thread(partial.verify)
        except (DigestMismatch, SizeMismatch):
            error = SystemFailure(f"filesystem layer verification failed for digest {digest}")
            await asyncio.to_thread(partial.discard)
            partial.fail(error)
            raise error from None
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                await asyncio.to_thread(partial.discard)  # the room is needed more than the bytes
            failure = SystemFailure(f"write {partial.path}: {(exc.strerror or str(exc)).lower()}")
            partial.fail(failure)
            raise failure from exc
        except BoxshipError as exc:
            partial.fail(exc)
            raise
        except asyncio.CancelledError:
            partial.fail(SystemFailure("context canceled"))
            raise
        except Exception as exc:
            partial.fail(SystemFailure(f"internal error: {exc}"))
            raise
