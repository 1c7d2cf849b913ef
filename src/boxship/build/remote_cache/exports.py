"""What a build learnt, for other engines: into its image, a registry, or an archive for its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import msgspec

from boxship.base.errors import BoxshipError, NotFound
from boxship.base.identity import IdentityMapping
from boxship.base.whole import in_thread
from boxship.build.caching.cache import Cache, Record
from boxship.build.graph import Run, Vertex
from boxship.build.outcome.assembly import StepImage
from boxship.build.progress import AnyEvent, CacheReady, Ended, Failed, Started, Warned
from boxship.build.remote_cache import archives, blobs, layout
from boxship.build.remote_cache.blobs import Blob
from boxship.build.remote_cache.cargo import Cargo, entry, pack
from boxship.build.settings import registry_auth
from boxship.build.steps.cache_mounts import CacheMounts
from boxship.images import reference as references
from boxship.images.layers import LayerStore
from boxship.images.transfers.pulling import Puller
from boxship.registry.client.credentials import from_header
from boxship.registry.client.errors import innermost
from boxship.registry.client.places import first
from boxship.registry.client.pushing import BlobPusher, Memory, put_manifest
from boxship.registry.client.repository import Repository
from boxship.snapshots import tree
from boxship.spec.boxship.build_cache import ARCHIVE, VERSION, CacheDocument, CacheExport, CacheWanted
from boxship.spec.oci import digest_of, encode_config

Report = Callable[[AnyEvent], None]


class Exporter:
    """Exports of one engine."""

    def __init__(
        self,
        layers: LayerStore,
        cache: Cache,
        mounts: CacheMounts,
        puller: Puller,
        *,
        space: str,
        identity: IdentityMapping | None,
        uploads: Callable[[], int],
    ) -> None:
        self._layers = layers
        self._cache = cache
        self._mounts = mounts
        self._puller = puller
        self._space = space
        self._identity = identity
        self._uploads = uploads

    async def finish(
        self,
        wanted: Sequence[CacheExport],
        records: Mapping[str, Record],
        final: Sequence[str],
        vertices: Iterable[Vertex],
        auths: str | None,
        report: Report,
    ) -> None:
        """Export what a build gave: ``records`` by id, ``final`` the layers of its image.

        Raises BoxshipError, unless the export says that errors are to be ignored.
        """
        names = sorted(_mounts_of(vertices))
        for number, each in enumerate(wanted):
            chosen = of_mode(each.mode, records, final)
            mounts = names if each.mounts else []
            if each.type == "local":
                report(CacheReady(time_ns=time.time_ns(), export=number, records=tuple(chosen), mounts=tuple(mounts)))
            elif each.type == "registry":
                await self._to_registry(each, list(chosen.values()), mounts, auths, report)

    async def archive(self, wanted: CacheWanted) -> AsyncIterator[bytes]:
        """Return the OCI layout of what a client wants, as a tar in pieces. Raises NotFound before the first one."""
        warned: list[str] = []
        async with AsyncExitStack() as stack:
            mounts = await self._packed(wanted.mounts, wanted.export, warned.append)
            holding = ExitStack()
            stack.push_async_callback(in_thread, holding.close)
            records = [self._cache.record(id) for id in wanted.records]
            cargo = await in_thread(lambda: self._held(records, mounts, wanted.export, holding))
            owned = stack.pop_all()
        return self._pieces(layout.pieces(cargo, wanted.export.tag), owned)

    async def _pieces(self, source: Iterator[bytes], owned: AsyncExitStack) -> AsyncIterator[bytes]:
        async with owned:
            while piece := await in_thread(partial(next, source, b"")):
                yield piece

    def _held(
        self, found: Sequence[Record | None], mounts: Mapping[str, Blob], wanted: CacheExport, holding: ExitStack
    ) -> Cargo:
        """Return the cargo of records; it and their layers are held by ``holding``, and the mounts' blobs are its own."""
        records = [record for record in found if record is not None]
        addition = holding.enter_context(self._layers.addition())
        whole = all(addition.reuse(chain_id) for record in records for chain_id in record.layers)
        if len(records) < len(found) or not whole:
            for blob in mounts.values():
                blob.close()
            raise NotFound("a result of the build was pruned meanwhile")
        cargo = pack(self._layers, records, mounts, wanted, self._space)
        holding.callback(cargo.close)
        return cargo

    async def _to_registry(
        self, wanted: CacheExport, records: Sequence[Record], mounts: Sequence[str], auths: str | None, report: Report
    ) -> None:
        vertex = f"exporting cache to registry {wanted.ref}"
        report(Started(time_ns=time.time_ns(), vertex=vertex))

        def warn(text: str) -> None:
            report(Warned(time_ns=time.time_ns(), message=f"cache export: {text}"))

        try:
            packed = await self._packed(mounts, wanted, warn)
            async with AsyncExitStack() as stack:
                holding = ExitStack()
                stack.push_async_callback(in_thread, holding.close)
                cargo = await in_thread(lambda: self._held(records, packed, wanted, holding))
                await self._push(wanted.ref, cargo, auths)
        except BoxshipError as exc:
            if not wanted.ignore_error:
                report(Failed(time_ns=time.time_ns(), vertex=vertex, message=str(exc)))
                raise
            warn(f"{wanted.ref}: {exc}")
        report(Ended(time_ns=time.time_ns(), vertex=vertex))

    async def _push(self, ref: str, cargo: Cargo, auths: str | None) -> None:
        name = references.parse(ref).with_default_tag()
        credentials = from_header(registry_auth(auths, name))
        async with self._puller.session() as session:
            places = self._puller.repositories(session, name, credentials, mirrors=False)
            repository, _ = await first(places, lambda place: place.ping(push=True))
            turns = asyncio.Semaphore(max(1, self._uploads()))
            try:
                async with asyncio.TaskGroup() as group:
                    for blob in {blob.descriptor.digest: blob for blob in cargo.blobs}.values():
                        group.create_task(_push_blob(repository, blob, turns))
            except BaseExceptionGroup as errors:
                raise innermost(errors) from None
            await BlobPusher(repository, digest_of(cargo.config), Memory(cargo.config)).run()
            if cargo.top != cargo.manifest:
                await put_manifest(repository, cargo.manifest.digest, cargo.manifest)
            await put_manifest(repository, name.tag or "latest", cargo.top)

    async def _packed(
        self, names: Sequence[str], wanted: CacheExport, warn: Callable[[str], object]
    ) -> dict[str, Blob]:
        """Return the archives of cache mounts, without those that are in use, too large, or not there."""
        found: dict[str, Blob] = {}
        try:
            for name in names:
                async with self._mounts.still(name) as path:
                    if path is None:
                        if await in_thread(partial(self._mounts.has, name)):
                            warn(f"cache mount {name} is in use")
                        continue
                    blob = await in_thread(partial(self._archived, name, path, wanted.mounts_limit, warn))
                    if blob is not None:
                        found[name] = blob
        except BaseException:
            for blob in found.values():
                blob.close()
            raise
        return found

    def _archived(self, name: str, path: str, limit: int, warn: Callable[[str], object]) -> Blob | None:
        uses = self._mounts.uses(name)
        try:
            with tree.opened(tree.open_root(path)) as fd:
                size = tree.usage(fd)
                if size > limit:
                    warn(f"cache mount {name} has {size} bytes, more than {limit}")
                    return None
                blob = blobs.made(self._space, ARCHIVE, lambda out: archives.pack(fd, out, self._identity))
        except OSError as exc:
            warn(f"cache mount {name}: {(exc.strerror or str(exc)).lower()}")
            return None
        if self._mounts.uses(name) != uses:
            blob.close()
            warn(f"cache mount {name} is in use")
            return None
        return blob


def of_mode(mode: str, records: Mapping[str, Record], final: Sequence[str]) -> dict[str, Record]:
    """Return the records that an export of a mode takes: all of them, or those whose layers are the result's (pure)."""
    if mode == "max":
        return dict(records)
    return {id: record for id, record in records.items() if tuple(final[: len(record.layers)]) == record.layers}


def inlined(image: StepImage, records: Mapping[str, Record]) -> StepImage:
    """Return the image with the cache of its own layers in its configuration; it stands on the one without (pure)."""
    entries = [
        entry(record, len(record.layers) - 1 if record.added else -1)
        for record in of_mode("min", records, image.layers).values()
    ]
    document = msgspec.to_builtins(CacheDocument(version=VERSION, entries=entries))
    config = msgspec.structs.replace(image.config, build_cache=document)
    data = encode_config(config)
    return StepImage(digest_of(data), data, image.layers, image.id, config, image.created_ns)


async def _push_blob(repository: Repository, blob: Blob, turns: asyncio.Semaphore) -> None:
    async with turns:
        await BlobPusher(repository, blob.descriptor.digest, blob).run()


def _mounts_of(vertices: Iterable[Vertex]) -> set[str]:
    runs = (vertex.operation for vertex in vertices if isinstance(vertex.operation, Run))
    return {mount.id or mount.target for run in runs for mount in run.mounts if mount.type == "cache"}
