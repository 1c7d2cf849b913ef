"""``docker pull``: from a name to an image.

Theory of operation. The manifest is asked for at each endpoint of the repository in turn, an index leads to the manifest of
the wanted platform, the configuration to the chain IDs. Layers that are not here are fetched at the same time, and each is
unpacked in a thread as soon as its parent is there and its own first bytes are. All of it happens in one addition
(``images.layers``), so that the image appears whole or not at all; the bytes that did arrive are kept for the next attempt.
Progress goes to the client from queues; its leaving cancels this pull, but no download that another pull waits for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import NamedTuple

from boxship import content
from boxship.base.errors import BoxshipError, NotFound, SystemFailure
from boxship.content import PartialReader
from boxship.images import platform as platforms
from boxship.images import progress
from boxship.images.indexes import ATTESTED, Member, Origin, alone
from boxship.images.layers import LEASE, Addition, LayerStore, NewImage, next_chain_id
from boxship.images.model import IMAGE, decode_image
from boxship.images.reference import Reference
from boxship.images.transfers.downloads import Downloads
from boxship.images.transfers.feed import Message, Report, reports
from boxship.registry.client.errors import (
    Denied,
    ManifestUnknown,
    Mismatch,
    NameUnknown,
    NoCredentials,
    innermost,
)
from boxship.registry.client.hosts import Credentials, Endpoint, RegistrySettings, endpoints
from boxship.registry.client.places import BlobPlace, Foreign, first
from boxship.registry.client.repository import Document, Repository, digest_like
from boxship.registry.client.session import Session, Timeouts
from boxship.registry.client.slots import Slots
from boxship.snapshots.tar_reader import Readable
from boxship.spec.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    InvalidDocument,
    Manifest,
    Platform,
    parse_config,
    parse_manifest,
)
from boxship.spec.oci.manifest import CONFIGS, FOREIGN_LAYERS, LAYERS

_NESTING = 4  # indexes in indexes
_ATTESTATIONS = 8  # of one image
_PLATFORMS = 64  # of an index that are brought at once
_URLS = 3  # of a foreign layer that are tried


class Resolved(NamedTuple):
    """What a reference led to."""

    repositories: Sequence[Repository]  # the one that answered first, then the others
    top: Document  # manifest or index, as the reference names it
    digest: str
    media_type: str


class Layer(NamedTuple):
    """One layer of the image that is being pulled."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str
    parent: str  # chain ID

    @property
    def short(self) -> str:
        """What progress messages call it."""
        return self.descriptor.digest.partition(":")[2][:12]


class Puller:
    """Pulls images into ``layers``. ``settings`` is asked anew for each pull."""

    def __init__(
        self, layers: LayerStore, settings: Callable[[], RegistrySettings], timeouts: Timeouts | None = None
    ) -> None:
        self._layers = layers
        self._settings = settings
        self._timeouts = timeouts
        self.downloads = Downloads(layers.content, Slots(lambda: settings().downloads))
        self._chains: dict[str, tuple[asyncio.Lock, int]] = {}

    def session(self) -> Session:
        """Return the connections for one operation."""
        return Session(self._settings(), self._timeouts)

    def repositories(
        self, session: Session, name: Reference, credentials: Credentials, *, mirrors: bool = True
    ) -> list[Repository]:
        """Return the places of a name, the preferred one first."""
        places = endpoints(name.domain, name.path, session.settings, mirrors=mirrors)
        return [Repository(session, place, _credentials(place, credentials)) for place in places]

    async def resolve(self, session: Session, name: Reference, credentials: Credentials) -> Resolved:
        """Return the manifest or index that ``name`` (with tag or digest) means. Raises NotFound in Docker's words."""
        wanted = name.digest or name.tag or ""
        repositories = self.repositories(session, name, credentials)

        async def ask(repository: Repository) -> Document:
            return await repository.manifest(wanted)

        try:
            repository, document = await first(repositories, ask)
        except ManifestUnknown as exc:
            raise NotFound(f"manifest for {name.familiar} not found: {exc}") from exc
        except NameUnknown as exc:
            raise NotFound(f"repository {name.familiar_name} not found: {exc}") from exc
        except NoCredentials as exc:
            raise SystemFailure(f'Head "{exc.url}/v2/{name.path}/manifests/{wanted}": {exc}') from exc
        except Denied as exc:
            raise denied(name, exc) from exc
        others = [other for other in repositories if other is not repository]
        return Resolved([repository, *others], document, document.digest, document.media_type)

    async def tags(self, session: Session, name: Reference, credentials: Credentials) -> Sequence[str]:
        """Return all tags of a repository, sorted."""
        try:
            _, tags = await first(self.repositories(session, name, credentials), Repository.tags)
        except (NameUnknown, ManifestUnknown) as exc:
            raise NotFound(f"repository {name.familiar_name} not found: {exc}") from exc
        except Denied as exc:
            raise denied(name, exc) from exc
        return sorted(tags)

    async def pull(
        self, session: Session, name: Reference, credentials: Credentials, wanted: Platform | None
    ) -> AsyncIterator[Message]:
        """Bring one image here under ``name``; yield its progress but for the last status line.

        Without ``wanted`` it is the one for this host; with it, those of other platforms stay beside it, and ``ALL``
        brings every one of the index.
        """
        resolved = await self.resolve(session, name, credentials)
        yield progress.status(f"Pulling from {name.path}", name.tag if not name.digest and name.tag else name.familiar)
        for platform in [wanted] if wanted != platforms.ALL else _platforms(resolved.top):
            manifest = await self._manifest(resolved, platform or platforms.host())
            origin = await self._origin(resolved, manifest, keep=platform is not None)
            document = await self._config(resolved, manifest[1])
            async for message in self._image(name, resolved, manifest, document, origin):
                yield message
        yield progress.status(f"Digest: {resolved.digest}")

    # documents

    async def _manifest(self, resolved: Resolved, wanted: Platform) -> tuple[Document, Manifest]:
        document = resolved.top
        for _ in range(_NESTING):
            parsed = parse_manifest(document.data, document.media_type)
            if isinstance(parsed, Manifest):
                self._check(parsed)
                return document, parsed
            chosen = _choose(parsed, wanted)
            document = await self._by_descriptor(resolved.repositories, chosen)
        raise InvalidDocument(f"invalid index: indexes are nested more than {_NESTING} levels deep")

    async def _origin(
        self, resolved: Resolved, manifest: tuple[Document, Manifest], *, keep: bool
    ) -> tuple[Origin, Sequence[Document]] | None:
        """Return the index that the manifest came out of, and the blobs to keep for it; None when it came by itself.

        What is attested about an image comes along, unless it is larger than such documents are.
        """
        top = parse_manifest(resolved.top.data, resolved.top.media_type)
        if not isinstance(top, Index):
            return None
        chosen = next((one for one in top.manifests if one.digest == manifest[0].digest), None)
        if chosen is None or not (keep or alone(top) == chosen):
            return Origin(resolved.digest, top.manifests), ()
        image = manifest[1].config.digest
        members = [Member(manifest=chosen.digest, image=image, platform=chosen.platform or Platform())]
        documents = [resolved.top]
        for descriptor in top.manifests:
            if (descriptor.annotations or {}).get(ATTESTED) == chosen.digest and len(members) <= _ATTESTATIONS:
                attestation = await self._small(resolved, descriptor)
                if attestation is not None:
                    documents += attestation
                    blobs = tuple(document.digest for document in attestation[1:])
                    members.append(Member(manifest=descriptor.digest, blobs=blobs))
        return Origin(resolved.digest, top.manifests, members), documents

    async def _small(self, resolved: Resolved, descriptor: Descriptor) -> list[Document] | None:
        """Return a manifest with all its blobs, None when they are large or many."""
        document = await self._by_descriptor(resolved.repositories, descriptor)
        manifest = parse_manifest(document.data, document.media_type)
        if not isinstance(manifest, Manifest):
            return None
        needed = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        if sum(blob.size for blob in needed.values()) > DOCUMENT_LIMIT:
            return None
        return [
            document,
            *[
                Document(blob.digest, blob.media_type, await self._document(resolved, blob.digest))
                for blob in needed.values()
            ],
        ]

    async def _by_descriptor(self, repositories: Sequence[Repository], descriptor: Descriptor) -> Document:
        async def ask(repository: Repository) -> Document:
            return await repository.manifest(descriptor.digest)

        _, document = await first(repositories, ask)
        if len(document.data) != descriptor.size:
            raise InvalidDocument(f"invalid manifest: {len(document.data)} bytes, its index says {descriptor.size}")
        return document._replace(media_type=descriptor.media_type or document.media_type)

    @staticmethod
    def _check(manifest: Manifest) -> None:
        if manifest.config.media_type not in CONFIGS:
            raise InvalidDocument(
                f"unsupported media type {manifest.config.media_type}: the manifest is no container image"
            )
        if manifest.config.size > DOCUMENT_LIMIT:
            raise InvalidDocument(f"invalid image config: {manifest.config.size} bytes, more than {DOCUMENT_LIMIT}")
        for layer in manifest.layers:
            if layer.media_type not in LAYERS and layer.media_type not in FOREIGN_LAYERS:
                raise InvalidDocument(f"invalid manifest: unexpected layer media type {layer.media_type!r}")

    async def _config(self, resolved: Resolved, manifest: Manifest) -> bytes:
        """Return the configuration, from here if we have it."""
        digest = manifest.config.digest
        known = await asyncio.to_thread(self._known, digest)
        return known if known is not None else await self._document(resolved, digest)

    @staticmethod
    async def _document(resolved: Resolved, digest: str) -> bytes:
        """Return a small blob."""

        async def ask(repository: Repository) -> bytes:
            async with repository.blob(digest) as (answer, _):
                data = await answer.document()
            if digest_like(digest, data) != digest:
                raise Mismatch(f"image config verification failed for digest {digest}")
            return data

        _, data = await first(resolved.repositories, ask)
        return data

    def _known(self, id: str) -> bytes | None:
        with self._layers.store.read() as transaction:
            row = transaction.get(IMAGE, id)
        return None if row is None else decode_image(row).config.encode()

    # layers

    async def _image(
        self,
        name: Reference,
        resolved: Resolved,
        manifest: tuple[Document, Manifest],
        config: bytes,
        origin: tuple[Origin, Sequence[Document]] | None,
    ) -> AsyncIterator[Message]:
        layers = _layers(config, manifest[1])
        names = [f"{name.name}@{resolved.digest}", *([] if name.digest else [str(name)])]

        async def add(report: Report) -> None:
            await self._add(resolved, layers, config, manifest[0], names, origin, report)

        async for message in reports(add):
            yield message

    async def _add(
        self,
        resolved: Resolved,
        layers: Sequence[Layer],
        config: bytes,
        manifest: Document,
        names: Sequence[str],
        origin: tuple[Origin, Sequence[Document]] | None,
        report: Report,
    ) -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            blocking = ExitStack()
            addition = await asyncio.to_thread(blocking.enter_context, self._layers.addition())
            stack.push_async_callback(_in_thread, blocking.close)
            missing = await asyncio.to_thread(_missing, addition, layers)
            new = await asyncio.to_thread(self._known, f"sha256:{hashlib.sha256(config).hexdigest()}") is None
            for layer in layers if new or missing else ():
                report(
                    {"status": "Pulling fs layer", "progressDetail": {}, "id": layer.short}
                    if layer in missing
                    else progress.status("Already exists", layer.short)
                )
            try:
                async with asyncio.TaskGroup() as group:
                    sources: dict[str, asyncio.Future[_Source]] = {
                        layer.chain_id: loop.create_future() for layer in missing
                    }
                    done = asyncio.Event()
                    for layer in missing:
                        group.create_task(
                            self._download(resolved.repositories, layer, sources[layer.chain_id], done, report)
                        )
                    for layer in missing:
                        await self._unpack(addition, layer, layers.index(layer), sources[layer.chain_id], report)
                    done.set()
            except BaseExceptionGroup as errors:
                raise innermost(errors) from None

            def finish() -> None:
                digest = self._layers.content.add(manifest.data, manifest.media_type, lease=LEASE)
                for document in origin[1] if origin is not None else ():
                    self._layers.content.add(document.data, document.media_type, lease=LEASE)
                chain = [layer.chain_id for layer in layers]
                image = NewImage(config, chain, names, manifest=digest, origin=origin[0] if origin else None)
                addition.commit([image])

            await asyncio.to_thread(finish)

    async def bring(self, addition: Addition, repositories: Sequence[Repository], layer: Layer, report: Report) -> None:
        """Bring one layer, whose parent is there, into an addition. Raises BoxshipError."""
        source: asyncio.Future[_Source] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._download(repositories, layer, source, done, report))
                await self._unpack(addition, layer, 0, source, report)
                done.set()
        except BaseExceptionGroup as errors:
            raise innermost(errors) from None

    async def _download(
        self,
        places: Sequence[Repository],
        layer: Layer,
        source: asyncio.Future[_Source],
        done: asyncio.Event,
        report: Report,
    ) -> None:
        """Have the layer's blob here or on its way until ``done``; hand it to the unpacking through ``source``."""
        digest, size = layer.descriptor.digest, layer.descriptor.size
        if await asyncio.to_thread(self._layers.content.protect, digest, LEASE):
            source.set_result(_Stored(self._layers.content, digest, size))
            report({"status": "Download complete", "progressDetail": {}, "id": layer.short})
            await done.wait()
            return
        if self.downloads.busy:
            report({"status": "Waiting", "progressDetail": {}, "id": layer.short})
        meter = progress.Meter(report, "Downloading", size, layer.short)
        repositories: Sequence[BlobPlace] = places
        if layer.descriptor.urls and layer.descriptor.media_type in FOREIGN_LAYERS:
            repositories = [*places, *_foreign(places[0], layer.descriptor.urls)]
        async with self.downloads.hold(repositories, digest, size, meter.at) as download:
            arriving = _Arriving(download.partial.reader(), download.partial)
            source.set_result(arriving)
            assert download.task is not None
            await asyncio.shield(download.task)
            report({"status": "Verifying Checksum", "progressDetail": {}, "id": layer.short})
            report({"status": "Download complete", "progressDetail": {}, "id": layer.short})
            arriving.complete = True
            await done.wait()

    async def _unpack(
        self, addition: Addition, layer: Layer, position: int, source: asyncio.Future[_Source], report: Report
    ) -> None:
        """Unpack one layer, whose parent is there."""
        async with self._chain(layer.chain_id):
            if await asyncio.to_thread(addition.reuse, layer.chain_id):  # another pull was faster
                report({"status": "Pull complete", "progressDetail": {}, "id": layer.short})
                return
            found = await source
            meter = progress.Meter(report, "Extracting", layer.descriptor.size, layer.short)

            def observe(count: int) -> None:
                if found.complete:  # one bar shows one thing at a time
                    meter.at(count)

            def work() -> str:
                return addition.received_layer(
                    found.reader,
                    layer.parent,
                    found.take,
                    position=position,
                    diff_id=layer.diff_id,
                    observe=observe,
                )

            thread = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                await asyncio.shield(thread)
            finally:
                found.stop()
                await asyncio.gather(thread, return_exceptions=True)
            report({"status": "Pull complete", "progressDetail": {}, "id": layer.short})

    @asynccontextmanager
    async def _chain(self, chain_id: str) -> AsyncIterator[None]:
        """Let one pull at a time unpack a layer."""
        lock, users = self._chains.get(chain_id, (asyncio.Lock(), 0))
        self._chains[chain_id] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._chains[chain_id]
            if users == 1:
                del self._chains[chain_id]
            else:
                self._chains[chain_id] = lock, users - 1


class _Arriving:
    """A layer's blob that is being fetched."""

    def __init__(self, reader: PartialReader, partial: content.Partial) -> None:
        self.reader: Readable = reader
        self._reader = reader
        self._partial = partial
        self.complete = False  # the client was told that the download is

    def take(self, media_type: str) -> content.Descriptor:
        return self._partial.commit(media_type, durable=False)

    def stop(self) -> None:
        self._reader.stop()


class _Stored:
    """A layer's blob that is here already; it is hashed again, since nothing has looked at it for long."""

    def __init__(self, store: content.ContentStore, digest: str, size: int) -> None:
        self.reader: Readable = self
        self._store = store
        self._digest = digest
        self._size = size
        self._chunks: Iterator[bytes] | None = None
        self._stopped = False
        self.complete = True

    def read(self, size: int, /) -> bytes:  # noqa: ARG002  # pieces are as large as the store gives them
        if self._stopped:
            raise SystemFailure("context canceled")
        if self._chunks is None:
            self._chunks = self._store.chunks(self._digest)
        return next(self._chunks, b"")

    def take(self, media_type: str) -> content.Descriptor:
        found = self._store.descriptor(self._digest)
        if found.size != self._size:
            raise content.SizeMismatch(self._size, found.size)
        return found._replace(media_type=media_type)

    def stop(self) -> None:
        self._stopped = True


_Source = _Arriving | _Stored


def denied(name: Reference, exc: BoxshipError) -> NotFound:
    """Return Docker's error for a repository that one may not see."""
    return NotFound(
        f"pull access denied for {name.familiar_name}, repository does not exist or may require 'docker login': {exc}"
    )


def _credentials(place: Endpoint, given: Credentials) -> Credentials:
    """Return a mirror's own credentials, never the user's: those are for the registry."""
    return given if place.credentials is None else place.credentials


def _choose(index: Index, wanted: Platform) -> Descriptor:
    chosen = platforms.choose(index.manifests, wanted)
    if chosen is None:
        raise NotFound(f"no matching manifest for {platforms.shown(wanted)} in the manifest list entries")
    return chosen


def _platforms(top: Document) -> list[Platform]:
    """Return the platforms of an index; of a manifest this host's, as if none had been asked for."""
    parsed = parse_manifest(top.data, top.media_type)
    if not isinstance(parsed, Index):
        return [platforms.host()]
    found = [one.platform for one in parsed.manifests if one.platform is not None and one.platform.os == "linux"]
    if len(found) > _PLATFORMS:
        raise InvalidDocument(f"invalid index: more than {_PLATFORMS} platforms")
    return found


def _layers(config: bytes, manifest: Manifest) -> list[Layer]:
    """Return the image's layers, bottom first. Raises InvalidDocument when manifest and configuration differ."""
    parsed = parse_config(config)
    if parsed.os not in ("", "linux"):
        raise InvalidDocument(f'image operating system "{parsed.os}" cannot be used on this platform')
    if len(parsed.diff_ids) != len(manifest.layers):
        raise InvalidDocument(
            f"invalid manifest, layers length mismatch: expected {len(parsed.diff_ids)}, got {len(manifest.layers)}"
        )
    layers: list[Layer] = []
    for descriptor, diff_id in zip(manifest.layers, parsed.diff_ids, strict=True):
        parent = layers[-1].chain_id if layers else ""
        layers.append(Layer(descriptor, diff_id, next_chain_id(parent, diff_id), parent))
    return layers


def _missing(addition: Addition, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that have to be brought; the others are held by the addition."""
    return [layer for layer in layers if not addition.reuse(layer.chain_id)]


def _foreign(repository: Repository, urls: Sequence[str]) -> list[Foreign]:
    return [Foreign(repository.session, url, repository.endpoint) for url in urls[:_URLS]]


async def _in_thread(work: Callable[[], object]) -> None:
    await asyncio.to_thread(work)
