"""Where caches come from: a registry, an OCI layout among the files that came with a build, an image that is here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from boxship.base.errors import NotFound, SystemFailure
from boxship.base.whole import in_thread
from boxship.build.files import Kind, Tree
from boxship.build.remote_cache.layout import TAG
from boxship.build.remote_cache.offer import NOTHING, Offer, Offered, of_document
from boxship.content import DigestMismatch
from boxship.images import platform as platforms
from boxship.images.layers import Addition
from boxship.images.model import Image
from boxship.images.reference import Reference
from boxship.images.streams import Pieces
from boxship.images.transfers.feed import Message
from boxship.images.transfers.pulling import Layer, Puller
from boxship.registry.client.errors import Mismatch
from boxship.registry.client.hosts import Credentials
from boxship.registry.client.places import first
from boxship.registry.client.repository import Repository, digest_like
from boxship.registry.client.session import Session
from boxship.snapshots.tar_reader import Readable
from boxship.spec.boxship.build_cache import CONFIG, CacheImport, check, read
from boxship.spec.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    InvalidDocument,
    Manifest,
    parse_config,
    parse_manifest,
)
from boxship.spec.oci.manifest import CONFIGS

_NESTING = 3  # indexes in indexes


class Source(Protocol):
    """One place. What it gives is verified by digest."""

    place: str  # for people: "registry localhost:5000/app:cache"

    async def offer(self) -> Offer:
        """Return what it has. Raises BoxshipError."""

    async def layer(self, addition: Addition, layer: Layer, report: Callable[[Message], None]) -> bool:
        """Bring a layer, whose parent is held, into ``addition``; return whether it could. Raises BoxshipError."""

    def archive(self, blob: Descriptor) -> AbstractAsyncContextManager[Readable]:
        """Give the verified bytes of a cache mount's archive for the time of the ``async with``. Raises BoxshipError."""


class RegistrySource:
    """A cache under a name in a registry, or an image there whose configuration holds one."""

    def __init__(self, puller: Puller, session: Session, name: Reference, credentials: Credentials) -> None:
        self.place = f"registry {name.familiar}"
        self._puller = puller
        self._session = session
        self._name = name
        self._credentials = credentials
        self._repositories: Sequence[Repository] = ()

    async def offer(self) -> Offer:
        """Return what the manifest under the name offers."""
        resolved = await self._puller.resolve(self._session, self._name, self._credentials)
        self._repositories = resolved.repositories
        document = resolved.top
        for _ in range(_NESTING):
            parsed = parse_manifest(document.data, document.media_type)
            if isinstance(parsed, Manifest):
                return await self._of_manifest(parsed)
            chosen = _chosen(parsed)
            _, document = await first(self._repositories, lambda place, digest=chosen.digest: place.manifest(digest))  # type: ignore[misc]  # a default binds the digest
        raise InvalidDocument(f"invalid index: indexes are nested more than {_NESTING} levels deep")

    async def layer(self, addition: Addition, layer: Layer, report: Callable[[Message], None]) -> bool:
        """Fetch and unpack a layer."""
        await self._puller.bring(addition, self._repositories, layer, report)
        return True

    @asynccontextmanager
    async def archive(self, blob: Descriptor) -> AsyncIterator[Readable]:
        """Fetch the archive beside the blobs; it does not stay."""
        async with self._puller.downloads.hold(self._repositories, blob.digest, blob.size, lambda _: None) as download:
            assert download.task is not None
            await asyncio.shield(download.task)
            reader = download.partial.reader()
            try:
                yield reader
            finally:
                reader.stop()
                await asyncio.to_thread(download.partial.discard)

    async def _of_manifest(self, manifest: Manifest) -> Offer:
        kind = manifest.config.media_type
        if kind != CONFIG and kind not in CONFIGS:
            raise InvalidDocument(f"unsupported media type {kind[:200]}: the manifest is no cache and no image")
        data = await self._document(manifest.config)
        if kind == CONFIG:
            document = read(data)
            return of_document(document, manifest.layers, document.diff_ids)
        config = parse_config(data)
        if config.build_cache is None:
            return NOTHING
        return of_document(check(config.build_cache), manifest.layers, config.diff_ids)

    async def _document(self, blob: Descriptor) -> bytes:
        if blob.size > DOCUMENT_LIMIT:
            raise InvalidDocument(f"invalid build cache: {blob.size} bytes, more than {DOCUMENT_LIMIT}")

        async def ask(repository: Repository) -> bytes:
            async with repository.blob(blob.digest) as (answer, _):
                data = await answer.document()
            if digest_like(blob.digest, data) != blob.digest:
                raise Mismatch(f"build cache verification failed for digest {blob.digest}")
            return data

        _, data = await first(self._repositories, ask)
        return data


class LayoutSource:
    """An OCI layout that came with the build: nothing of it has a name on this host."""

    place = "local"

    def __init__(self, files: Tree, wanted: CacheImport) -> None:
        self._files = files
        self._wanted = wanted

    async def offer(self) -> Offer:
        """Return what the manifest of the tag offers."""
        return await in_thread(self._read)

    async def layer(self, addition: Addition, layer: Layer, report: Callable[[Message], None]) -> bool:  # noqa: ARG002
        """Unpack a layer."""

        def work() -> None:
            source = self._opened(layer.descriptor)
            addition.layer(source, layer.parent, diff_id=layer.diff_id, blob=layer.descriptor)

        await in_thread(work)
        return True

    @asynccontextmanager
    async def archive(self, blob: Descriptor) -> AsyncIterator[Readable]:
        """Give the archive."""
        yield await in_thread(lambda: self._opened(blob))

    def _read(self) -> Offer:
        digest = self._wanted.digest or self._tagged()
        for _ in range(_NESTING):
            parsed = parse_manifest(self._small(digest))
            if isinstance(parsed, Manifest):
                if parsed.config.media_type != CONFIG:
                    raise InvalidDocument(f"unsupported media type {parsed.config.media_type[:200]}: no build cache")
                document = read(self._small(parsed.config.digest))
                return of_document(document, parsed.layers, document.diff_ids)
            digest = _chosen(parsed).digest
        raise InvalidDocument(f"invalid index: indexes are nested more than {_NESTING} levels deep")

    def _tagged(self) -> str:
        index = parse_manifest(self._content("index.json", DOCUMENT_LIMIT))
        for each in index.manifests if isinstance(index, Index) else ():
            if (each.annotations or {}).get(TAG) == self._wanted.tag:
                return each.digest
        raise NotFound(f"the layout has no {json.dumps(self._wanted.tag[:100])} tag on index.json")

    def _small(self, digest: str) -> bytes:
        data = self._content(_path(digest), DOCUMENT_LIMIT)
        if digest_like(digest, data) != digest:
            raise Mismatch(f"build cache verification failed for digest {digest}")
        return data

    def _content(self, path: str, limit: int) -> bytes:
        try:
            node = self._files.node(path)
            if node.kind is not Kind.FILE or node.size > limit:
                raise InvalidDocument(f"invalid build cache: {path} is no file of at most {limit} bytes")
            return b"".join(self._files.data(path, node))
        except OSError as exc:
            raise NotFound(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc

    def _opened(self, blob: Descriptor) -> Readable:
        path = _path(blob.digest)
        try:
            node = self._files.node(path)
            if node.kind is not Kind.FILE or node.size != blob.size:
                raise InvalidDocument(f"invalid build cache: {path} is no file of {blob.size} bytes")
            algorithm, _, wanted = blob.digest.partition(":")
            found = self._files.digest(path, node).hex() if algorithm == "sha256" else self._hash(path, algorithm)
        except OSError as exc:
            raise NotFound(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
        if found != wanted:
            raise DigestMismatch(blob.digest, f"{algorithm}:{found}")
        return Pieces(iter(self._files.data(path, node)))

    def _hash(self, path: str, algorithm: str) -> str:
        hash = hashlib.new(algorithm)
        for piece in self._files.data(path, self._files.node(path)):
            hash.update(piece)
        return hash.hexdigest()


class ImageSource:
    """An image that is here and whose configuration holds a cache."""

    def __init__(self, image: Image) -> None:
        self.place = f"image {image.references[0] if image.references else image.id}"
        self._image = image

    async def offer(self) -> Offer:
        """Return what the configuration holds."""
        config = self._image.image_config
        if config.build_cache is None:
            return NOTHING
        return of_document(check(config.build_cache), None, config.diff_ids)

    async def layer(self, addition: Addition, layer: Layer, report: Callable[[Message], None]) -> bool:  # noqa: ARG002
        """Return whether the layer is here, which the caller has seen to."""
        return False

    def archive(self, blob: Descriptor) -> AbstractAsyncContextManager[Readable]:
        """Raise: images hold no mounts."""
        raise SystemFailure(f"{self.place} has no archive {blob.digest}")


def layer_of(offered: Offered, chain_id: str, parent: str) -> Layer:
    """Return an offered layer on ``parent`` as it is fetched."""
    blob = offered.blob or Descriptor(digest=offered.diff_id, size=0)
    return Layer(blob, offered.diff_id, chain_id, parent)


def _chosen(index: Index) -> Descriptor:
    if len(index.manifests) == 1:
        return index.manifests[0]
    chosen = platforms.choose(index.manifests, platforms.host())
    if chosen is None:
        raise NotFound(f"no matching manifest for {platforms.shown(platforms.host())} in the manifest list entries")
    return chosen


def _path(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    return f"blobs/{algorithm}/{name}"
