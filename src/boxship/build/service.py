"""The service of builds (``api.backend.Builds``): a context comes in, events go out, an image stays."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from boxship.base.errors import BoxshipError
from boxship.base.identity import IdentityMapping
from boxship.build.attestations import attaching, spdx
from boxship.build.caching import usage
from boxship.build.caching.cache import Cache
from boxship.build.classic import ClassicText
from boxship.build.job import Job
from boxship.build.outcome import comparison, exported
from boxship.build.plan import Plan
from boxship.build.progress import Aborted, AnyEvent, Built, Pulling, Warned
from boxship.build.remote_cache.exports import Exporter
from boxship.build.results import BuildFailed
from boxship.build.steps.cache_mounts import CacheMounts
from boxship.build.steps.debugging import Decision, StoppedSteps
from boxship.build.steps.entitlements import Offered
from boxship.build.steps.runner import StepRunner
from boxship.build.steps.scratch import Scratch
from boxship.build.steps.secrets import SecretFiles
from boxship.images import ImageService
from boxship.images.progress import stream
from boxship.spec.boxship.build_cache import CacheWanted
from boxship.spec.boxship.verification import Comparison
from boxship.spec.docker.build import BuildCacheItem, BuildOptions
from boxship.spec.dockerfile.errors import DockerfileError
from boxship.store import Store

log = logging.getLogger(__name__)

Message = dict[str, Any]
Emit = Callable[[str, str, str, Mapping[str, str]], None]


class _Predicate(msgspec.Struct, frozen=True):
    """What a statement says, verbatim."""

    predicate: msgspec.Raw = msgspec.Raw(b"null")


class BuildService:
    """All builds of one engine. ``data_root`` and ``state_root`` are the directories it may use."""

    def __init__(
        self,
        store: Store,
        images: ImageService,
        runner: StepRunner,
        *,
        data_root: str,
        state_root: str,
        identity: IdentityMapping | None,
        emit: Emit,
        entitlements: Offered,
        limits: Sequence[usage.Choice],
    ) -> None:
        self.images = images
        self.runner = runner
        self.identity = identity
        self.emit = emit
        self.entitlements = entitlements
        self.cache = Cache(store)
        self.scratch = Scratch(data_root, store)
        self.caches = CacheMounts(data_root, store)
        self.secrets = SecretFiles(state_root)
        self.exporter = Exporter(
            images.layers,
            self.cache,
            self.caches,
            images.puller,
            space=self.scratch.space(),
            identity=identity,
            uploads=images.uploads,
        )
        self.stopped = StoppedSteps()
        self._store = store
        self.limits = limits  # what goes after each build, rule by rule
        self._collecting: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """Remove what a killed daemon left; once, before the first build. Blocks."""
        self.scratch.clear()
        self.caches.clear_leftovers()
        self.secrets.clear()
        self.cache.forget(usage.lost(self.cache, self._store))

    async def build(
        self, options: BuildOptions, context: AsyncIterator[bytes], auths: str | None
    ) -> AsyncIterator[Message]:
        """Build and yield the classic builder's messages. Closing the iterator cancels the build."""
        said: list[Message] = []
        text: ClassicText | None = None
        begun = False  # something was said: an error can only follow in the stream
        try:
            async for event in self._events(options, context, auths):
                if isinstance(event, Plan):
                    text = ClassicText(event, removes=options.rm, forced=options.force_rm)
                    continue
                messages = list(_ending(event)) if isinstance(event, Built | Warned) else []
                if text is not None:
                    messages = [*text.messages(event), *messages]
                elif isinstance(event, Pulling):  # base images come before their steps can be counted
                    messages = [event.message]
                begun = begun or (bool(messages) and not options.quiet)
                if not options.quiet:
                    for message in messages:
                        yield message
                elif isinstance(event, Built):
                    yield stream(f"{event.image}\n")
                else:
                    said += messages
        except BoxshipError as exc:
            if text is None and not begun:
                raise
            for message in said:
                yield message
            detail: Message = {"message": str(exc)}
            if isinstance(exc, BuildFailed) and exc.code:
                detail["code"] = exc.code
            yield {"errorDetail": detail, "error": str(exc)}

    async def events(
        self, options: BuildOptions, context: AsyncIterator[bytes], auths: str | None
    ) -> AsyncIterator[Message]:
        """Build and yield the typed events of ``build.progress`` as documents, bytes in base64."""
        begun = False
        try:
            async for event in self._events(options, context, auths):
                if not isinstance(event, Plan):
                    begun = True
                    yield msgspec.to_builtins(event)
        except BoxshipError as exc:
            if not begun:
                raise
            code = exc.code if isinstance(exc, BuildFailed) else 0
            shown = exc.excerpt if isinstance(exc, DockerfileError) else ""
            yield msgspec.to_builtins(Aborted(time_ns=0, message=str(exc), code=code, excerpt=shown))

    async def files(self, ref: str) -> AsyncIterator[bytes]:
        """Return the tar of an image's files, all layers merged, in pieces. Raises NotFound before the first one."""
        image = await asyncio.to_thread(self.images.resolve, ref)
        return exported.files(self.images.layers, image.layers)

    async def shell(self, step: str, height: int, width: int) -> str:
        """Make a shell in what a stopped step left; return its container's id. Raises NotFound, Conflict."""
        return await self.stopped.find(step).shell(height, width)

    async def retry(self, step: str) -> None:
        """Run a stopped step again. Raises NotFound, Conflict."""
        self.stopped.find(step).decide(Decision.RETRY)

    async def abandon(self, step: str, *, keep: bool) -> None:
        """Let the build of a stopped step fail; ``keep`` its container as other builds do. Raises NotFound, Conflict."""
        self.stopped.find(step).decide(Decision.KEEP if keep else Decision.DROP)

    async def sbom(self, ref: str, *, scan: bool) -> bytes:
        """Return the SPDX document of an image: the one that is attached to it, else, or to ``scan``, one of its files.

        Raises NotFound.
        """
        image = await asyncio.to_thread(self.images.resolve, ref)
        attached = [] if scan else await self.images.statements(ref, types=(spdx.PREDICATE,))
        if attached:
            return bytes(msgspec.json.decode(attached[0].data, type=_Predicate).predicate)
        return await asyncio.to_thread(attaching.scanned, self.images.layers, image)

    async def compare(self, first: str, second: str) -> Comparison:
        """Return where two images first differ. Raises NotFound."""
        images = [await asyncio.to_thread(self.images.resolve, ref) for ref in (first, second)]
        return await asyncio.to_thread(comparison.compare, self.images.layers, *images)

    async def cache_layout(self, wanted: CacheWanted) -> AsyncIterator[bytes]:
        """Return an OCI layout with results and cache mounts, as a tar in pieces. Raises NotFound before the first one."""
        return await self.exporter.archive(wanted)

    async def prune(
        self, *, all: bool, reserved: int, max_used: int, min_free: int, filters: Mapping[str, Sequence[str]]
    ) -> dict[str, Any]:
        """Delete cache records and cache mounts (POST /build/prune). Raises InvalidInput for an unknown filter."""
        chosen = usage.Choice.parse(filters, all=all, reserved=reserved, max_used=max_used, min_free=min_free)
        deleted, freed = await asyncio.to_thread(self._prune, chosen)
        self.emit("builder", "prune", "", {"reclaimed": str(freed)})
        return {"CachesDeleted": deleted or None, "SpaceReclaimed": freed}

    async def cache_usage(self) -> list[BuildCacheItem]:
        """Return the rows of ``BuildCache`` in GET /system/df."""
        return [row.item for row in await asyncio.to_thread(usage.rows, self.cache, self.caches, self._store)]

    async def close(self) -> None:
        """End all builds; what they finished is kept."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._collecting is not None:
            await asyncio.gather(self._collecting, return_exceptions=True)

    def collect_later(self) -> None:
        """Bring the cache within its bounds, in the background: measuring it takes a while."""
        if self.limits and (self._collecting is None or self._collecting.done()):
            self._collecting = asyncio.get_running_loop().create_task(asyncio.to_thread(self._collect, self.limits))
            self._collecting.add_done_callback(_log_failure)

    def _collect(self, limits: Sequence[usage.Choice]) -> None:
        for choice in limits:
            self._prune(choice)

    def _prune(self, choice: usage.Choice) -> tuple[list[str], int]:
        disk = os.statvfs(self.scratch.root)
        chosen = usage.choose(choice, usage.rows(self.cache, self.caches, self._store), disk.f_bavail * disk.f_frsize)
        if not chosen:
            return [], 0
        before = self.images.layers.disk_usage()
        self.images.layers.drop(self.cache.forget(row.id for row in chosen if not row.is_mount))
        freed = max(0, before - self.images.layers.disk_usage())
        kept = [row for row in chosen if row.is_mount and not self.caches.remove(row.id)]
        freed += sum(row.item.size for row in chosen if row.is_mount and row not in kept)
        return [row.item.id for row in chosen if row not in kept], freed

    async def _events(
        self, options: BuildOptions, context: AsyncIterator[bytes], auths: str | None
    ) -> AsyncIterator[AnyEvent | Plan]:
        said: asyncio.Queue[AnyEvent | Plan | None] = asyncio.Queue()
        job = Job(self, options, auths, said.put_nowait)
        task = asyncio.get_running_loop().create_task(job.run(context))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (event := await said.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.shield(asyncio.gather(task, return_exceptions=True))


def _log_failure(collecting: asyncio.Task[None]) -> None:
    if not collecting.cancelled() and collecting.exception() is not None:
        log.error("the build cache could not be brought within its bound", exc_info=collecting.exception())


def _ending(event: Built | Warned) -> list[Message]:
    if isinstance(event, Warned):
        return [stream(f"{event.message}\n")] if not event.rule else []
    short = event.image.removeprefix("sha256:")[:12]
    return [
        stream(f"Successfully built {short}\n"),
        *(stream(f"Successfully tagged {name}\n") for name in event.names),
    ]
