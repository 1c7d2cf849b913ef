"""``docker push``: layers that the registry lacks, the configuration, then the manifest.

A layer goes as the compressed blob that it came as, so an image that was pulled is pushed with the same digests: under the
manifest that it came with when all of that one's blobs are here, else under one that is made as Docker makes it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from boxship.base.errors import InvalidInput, NotFound, SystemFailure
from boxship.content import BlobNotFound, ContentStore
from boxship.images import progress
from boxship.images.feed import Message, Report
from boxship.images.layers import LEASE, LayerStore, NewImage
from boxship.images.model import IMAGE, LAYER, LayerRow, decode_image, decode_layer
from boxship.images.pulling import Puller
from boxship.images.reference import Reference, parse
from boxship.images.removal import repository_of
from boxship.registry.client.errors import innermost
from boxship.registry.client.hosts import Credentials
from boxship.registry.client.places import first
from boxship.registry.client.pushing import BlobPusher, Memory, Pushed, put_manifest
from boxship.registry.client.repository import Document, Repository
from boxship.registry.client.session import Session
from boxship.registry.client.slots import Slots
from boxship.spec.oci import InvalidDocument, Manifest, digest_of, parse_manifest
from boxship.spec.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    FOREIGN_LAYERS,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from boxship.store import ReadTransaction

_MOUNTS = 3  # repositories that a layer may be mounted from, at most


class Selected(NamedTuple):
    """One image to push."""

    id: str
    config: bytes
    chain: Sequence[str]  # chain IDs, bottom first
    layers: Sequence[LayerRow]
    manifest: Document
    foreign: frozenset[str]  # digests of blobs that no registry gets
    mounts: dict[str, Sequence[str]]  # digest -> repositories of the same registry that have the blob


class Pusher:
    """Pushes images of ``layers``; connections and endpoints are the puller's."""

    def __init__(self, layers: LayerStore, puller: Puller, uploads: Callable[[], int]) -> None:
        self._layers = layers
        self._puller = puller
        self._slots = Slots(uploads)

    async def push(
        self, session: Session, repository_name: Reference, tags: Sequence[str], credentials: Credentials
    ) -> AsyncIterator[Message]:
        """Push the tags of one repository one after the other; yield Docker's messages."""
        places = self._puller.repositories(session, repository_name, credentials, mirrors=False)
        repository: Repository | None = None
        for tag in tags:
            name = repository_name._replace(tag=tag)
            selected = await asyncio.to_thread(self._select, name)
            for row in reversed(selected.layers):
                yield {"status": "Preparing", "progressDetail": {}, "id": _short(row.diff_id)}
            if repository is None:
                repository, _ = await first(places, lambda place: place.ping(push=True))
            async for message in self._blobs(repository, selected):
                yield message
            await put_manifest(repository, tag, selected.manifest)
            await asyncio.to_thread(self._remember, name, selected)
            digest, size = selected.manifest.digest, len(selected.manifest.data)
            yield progress.status(f"{tag}: digest: {digest} size: {size}")
            yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}

    def _select(self, name: Reference) -> Selected:
        with self._layers.store.read() as transaction:
            id = transaction.lookup(IMAGE, str(name))
            document = None if id is None else transaction.get(IMAGE, id)
            if id is None or document is None:
                raise NotFound(f"tag does not exist: {name.familiar}")
            row = decode_image(document)
            layers = [_layer(transaction, chain_id) for chain_id in row.layers]
            mounts = _mounts(transaction, name, {layer.blob for layer in layers})
        config = row.config.encode()
        kept = self._kept_manifest(row.manifest, id, layers)
        manifest, foreign = kept or (_made_manifest(id, config, layers), frozenset())
        return Selected(id, config, row.layers, layers, manifest, foreign, mounts)

    def _kept_manifest(
        self, digest: str, id: str, layers: Sequence[LayerRow]
    ) -> tuple[Document, frozenset[str]] | None:
        """Return the manifest that the image came with, and its foreign blobs, if it is still true of what is here."""
        if not digest:
            return None
        try:
            data = self._layers.content.read_verified(digest)
            manifest = parse_manifest(data)
        except (BlobNotFound, SystemFailure, InvalidDocument):
            return None
        if not isinstance(manifest, Manifest) or manifest.config.digest != id:
            return None
        if [layer.digest for layer in manifest.layers] != [row.blob for row in layers]:
            return None
        foreign = frozenset(layer.digest for layer in manifest.layers if layer.media_type in FOREIGN_LAYERS)
        media_type = manifest.media_type or self._layers.content.descriptor(digest).media_type
        return Document(digest, media_type, data), foreign

    async def _blobs(self, repository: Repository, selected: Selected) -> AsyncIterator[Message]:
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(message: Message) -> None:
            loop.call_soon_threadsafe(messages.put_nowait, message)

        task = asyncio.create_task(self._push_all(repository, selected, report))
        task.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                yield message
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _push_all(self, repository: Repository, selected: Selected, report: Report) -> None:
        rows = {row.blob: row for row in selected.layers}  # a blob that is there twice goes once
        try:
            async with asyncio.TaskGroup() as group:
                for row in reversed(rows.values()):
                    group.create_task(self._push_layer(repository, row, selected, report))
                group.create_task(BlobPusher(repository, selected.id, Memory(selected.config)).run())
        except BaseExceptionGroup as errors:
            raise innermost(errors) from None

    async def _push_layer(self, repository: Repository, row: LayerRow, selected: Selected, report: Report) -> None:
        short = _short(row.diff_id)

        def say(text: str) -> None:
            report({"status": text, "progressDetail": {}, "id": short})

        if row.blob in selected.foreign:
            say("Skipped foreign layer")
            return
        if self._slots.full:
            say("Waiting")
        async with self._slots.one():
            meter = progress.Meter(report, "Pushing", row.blob_size, short)
            source = await asyncio.to_thread(_Blob, self._layers.content, row)
            try:
                pusher = BlobPusher(repository, row.blob, source, meter.at)
                how, other = await pusher.run(selected.mounts.get(row.blob, ()))
            finally:
                source.close()
        match how:
            case Pushed.EXISTS:
                say("Layer already exists")
            case Pushed.MOUNTED:
                say(f"Mounted from {other}")
            case Pushed.UPLOADED:
                say("Pushed")

    def _remember(self, name: Reference, selected: Selected) -> None:
        """Give the image the digest as a name, and keep the manifest."""
        digest = selected.manifest.digest
        named = f"{name.name}@{digest}"
        with self._layers.store.read() as transaction:
            if transaction.lookup(IMAGE, named) == selected.id:
                return
        with self._layers.addition() as addition:
            for chain_id in selected.chain:
                addition.reuse(chain_id)
            manifest = self._layers.content.add(selected.manifest.data, selected.manifest.media_type, lease=LEASE)
            addition.commit([NewImage(selected.config, selected.chain, [named], manifest=manifest)])


class _Blob:
    """A layer's blob on disk."""

    def __init__(self, store: ContentStore, row: LayerRow) -> None:
        self._file = store.open(row.blob)
        self.size = row.blob_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        self._file.close()


def tags_to_push(transaction: ReadTransaction, name: Reference) -> list[str]:
    """Return the tags that a push of ``name`` means: its own, or all of the repository.

    Raises NotFound and InvalidInput in Docker's words.
    """
    if name.digest is not None:
        raise InvalidInput("cannot push a digest reference")
    if name.tag is not None:
        return [name.tag]
    names = (parse(known) for known in transaction.names(IMAGE) if repository_of(known) == name.name)
    tags = sorted(known.tag for known in names if known.tag)
    if not tags:
        raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
    return tags


def _layer(transaction: ReadTransaction, chain_id: str) -> LayerRow:
    document = transaction.get(LAYER, chain_id)
    if document is None:
        raise SystemFailure(f"layer {chain_id} is missing in the store")
    return decode_layer(document)


def _mounts(transaction: ReadTransaction, name: Reference, blobs: set[str]) -> dict[str, Sequence[str]]:
    """Return where on the same registry the blobs are: in repositories that images with them came from or went to."""
    by_image: dict[str, set[str]] = {}
    for known, id in transaction.names(IMAGE).items():
        if "@" in known:
            parsed = parse(known)
            if parsed.domain == name.domain and parsed.path != name.path:
                by_image.setdefault(id, set()).add(parsed.path)
    found: dict[str, set[str]] = {}
    for id, paths in by_image.items():
        document = transaction.get(IMAGE, id)
        for chain_id in decode_image(document).layers if document is not None else ():
            blob = _layer(transaction, chain_id).blob
            if blob in blobs:
                found.setdefault(blob, set()).update(paths)
    return {blob: sorted(paths)[:_MOUNTS] for blob, paths in found.items()}


def _made_manifest(id: str, config: bytes, layers: Sequence[LayerRow]) -> Document:
    """Return a manifest as Docker writes it; with a zstd layer an OCI one, since Docker's format knows none."""
    oci = any(row.compression == "zstd" for row in layers)
    types = (
        {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "": OCI_LAYER}
        if oci
        else {"gzip": DOCKER_LAYER_GZIP, "": DOCKER_LAYER}
    )
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": OCI_CONFIG if oci else DOCKER_CONFIG, "size": len(config), "digest": id},
        "layers": [{"mediaType": types[row.compression], "size": row.blob_size, "digest": row.blob} for row in layers],
    }
    data = json.dumps(document, indent=3).encode()
    return Document(digest_of(data), media_type, data)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
