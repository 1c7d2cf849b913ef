"""What other engines' caches give to one build.

All sources are asked when the build begins, beside each other; a step waits for those in front of the one that has its result.
A source that fails is said and passed over: its cache saves work, it is never needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from boxship.base.errors import BoxshipError, InvalidInput, SystemFailure
from boxship.base.whole import in_thread
from boxship.build.caching.keys import Key
from boxship.build.files import Archive, Tree
from boxship.build.files.node import clean
from boxship.build.progress import AnyEvent, Ended, Started, Transfer, Warned
from boxship.build.remote_cache import archives
from boxship.build.remote_cache.offer import NOTHING, Offer, Offered
from boxship.build.remote_cache.sources import ImageSource, LayoutSource, RegistrySource, Source, layer_of
from boxship.build.results import Result
from boxship.build.settings import registry_auth
from boxship.images import reference as references
from boxship.images.layers import Addition, LayerStore, next_chain_id
from boxship.images.model import Image
from boxship.images.transfers.feed import Message
from boxship.images.transfers.pulling import Puller
from boxship.registry.client.credentials import from_header
from boxship.snapshots.tar_reader import Readable
from boxship.spec.boxship.build_cache import CacheImport
from boxship.spec.oci.config import LAYER_LIMIT

_LONGEST = 60.0  # seconds that a source may take to say what it has

Report = Callable[[AnyEvent], None]


class Imports:
    """Results of ``sources``, the first ones first. Made by :func:`opened`."""

    def __init__(self, sources: Sequence[Source], layers: LayerStore, addition: Addition, report: Report) -> None:
        self._layers = layers
        self._addition = addition
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._offers = [(source, self._loop.create_task(self._load(source))) for source in sources]

    async def close(self) -> None:
        """Ask no more."""
        for _, offer in self._offers:
            offer.cancel()
        await asyncio.gather(*(offer for _, offer in self._offers), return_exceptions=True)

    async def result(self, key: Key, base: Result, summary: str, vertex: str) -> tuple[Result, str] | None:
        """Return the result of a key on ``base`` and where it came from, its layer held; None if no source gives it."""
        for source, loading in self._offers:
            offered = (await asyncio.shield(loading)).results.get(key.digest)
            if offered is not None and (result := await self._take(source, offered, base, summary, vertex)) is not None:
                return result, source.place
        return None

    @contextlib.asynccontextmanager
    async def archive(self, name: str) -> AsyncIterator[Readable | None]:
        """Give the files of a cache mount as a compressed tar for the time of the ``async with``, None if no source has it."""
        async with contextlib.AsyncExitStack() as stack:
            found: Readable | None = None
            for source, loading in self._offers:
                blob = (await asyncio.shield(loading)).mounts.get(name)
                if blob is not None and found is None:
                    try:
                        if blob.size > archives.LARGEST:
                            raise InvalidInput(f"the archive has {blob.size} bytes, more than {archives.LARGEST}")
                        found = await stack.enter_async_context(source.archive(blob))
                    except BoxshipError as exc:
                        self.warn(f"cache mount {name} of {source.place}: {exc}")
            yield found

    def warn(self, text: str) -> None:
        """Say what is missing; from any thread."""
        event = Warned(time_ns=time.time_ns(), message=f"cache import: {text}")
        self._loop.call_soon_threadsafe(self._report, event)

    async def _load(self, source: Source) -> Offer:
        vertex = f"importing cache manifest from {source.place.partition(' ')[2] or source.place}"
        shown = not isinstance(source, ImageSource)
        if shown:
            self._report(Started(time_ns=time.time_ns(), vertex=vertex))
        offer = NOTHING
        try:
            async with asyncio.timeout(_LONGEST):
                offer = await source.offer()
        except TimeoutError:
            self.warn(f"{source.place}: no answer for {_LONGEST:.0f} seconds")
        except BoxshipError as exc:
            self.warn(f"{source.place}: {exc}")
        if shown:
            self._report(Ended(time_ns=time.time_ns(), vertex=vertex))
        return offer

    async def _take(self, source: Source, offered: Offered, base: Result, summary: str, vertex: str) -> Result | None:
        if not offered.diff_id:
            return Result(layers=base.layers, created_ns=offered.created_ns, summary=summary, cached=True)
        if len(base.layers) >= LAYER_LIMIT:
            return None
        chain_id = next_chain_id(base.top, offered.diff_id)

        def report(message: Message) -> None:
            detail = message.get("progressDetail") or {}
            if message.get("status") == "Downloading" and detail:
                current, total = int(detail.get("current", 0)), int(detail.get("total", 0))
                what = f"layer {message.get('id', '')}"
                event = Transfer(time_ns=time.time_ns(), vertex=vertex, what=what, current=current, total=total)
                self._loop.call_soon_threadsafe(self._report, event)

        try:
            if not await in_thread(lambda: self._addition.reuse(chain_id)):
                layer = layer_of(offered, chain_id, base.top)
                if not await source.layer(self._addition, layer, report):
                    return None
            row = self._layers.unpacked(chain_id) or self._layers.get(chain_id)
            if row is None:
                raise SystemFailure(f"layer {chain_id} is gone")
        except BoxshipError as exc:
            self.warn(f"layer {offered.diff_id} of {source.place}: {exc}")
            return None
        return Result(
            layers=(*base.layers, chain_id),
            added=True,
            created_ns=offered.created_ns,
            size=row.size,
            summary=summary,
            cached=True,
        )


@contextlib.asynccontextmanager
async def opened(
    wanted: Sequence[CacheImport],
    images: Sequence[Image],
    files: Tree,
    *,
    puller: Puller,
    layers: LayerStore,
    addition: Addition,
    auths: str | None,
    report: Report,
) -> AsyncIterator[Imports]:
    """Give the imports of one build for the time of the ``async with``; ``files`` are those that its client sent.

    Raises InvalidInput for a name that is none, and for a directory that did not come.
    """
    async with contextlib.AsyncExitStack() as stack:
        session = puller.session()
        sources: list[Source] = []
        for each in wanted:
            if each.type == "local":
                sources.append(LayoutSource(_layout(files, each.directory), each))
                continue
            name = references.parse(each.ref).with_default_tag()
            sources.append(RegistrySource(puller, session, name, from_header(registry_auth(auths, name))))
        if any(isinstance(source, RegistrySource) for source in sources):
            await stack.enter_async_context(session)
        imports = Imports([*sources, *map(ImageSource, images)], layers, addition, report)
        stack.push_async_callback(imports.close)
        yield imports


def _layout(files: Tree, directory: str) -> Tree:
    try:
        if not isinstance(files, Archive) or not clean(directory):
            raise FileNotFoundError(directory)
        return files.detach(clean(directory))
    except OSError as exc:
        raise InvalidInput("the files of a local cache did not come with the build") from exc
