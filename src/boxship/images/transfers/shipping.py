"""Images from engine to engine without a registry: what ``push ssh://`` and ``pull ssh://`` ask both sides for.

Theory of operation. The source describes an image in a :class:`Shipment`; the target tells which of its blobs it lacks and
how much of each an earlier attempt left. Their bytes go into the same partial files as those of pulls, so they survive the
client, the connection and the daemon. When all are here the target verifies, unpacks and names the image in one addition,
with those of other platforms and the attestations that stand beside it in its index: all of it appears, or nothing. Nothing that comes is believed: blobs by their digests, layers by their diff IDs.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import BinaryIO

import msgspec

from boxship.base.errors import InvalidInput, NotFound, SystemFailure
from boxship.content import BlobNotFound, Descriptor, DigestMismatch, Partial, SizeMismatch
from boxship.content.digest import parse
from boxship.images import indexes, progress, reference
from boxship.images.catalog import find, means_id
from boxship.images.indexes import ATTESTED, IndexRow
from boxship.images.layers import LEASE, Addition, LayerStore, NewImage, failures
from boxship.images.model import IMAGE, ImageRow, decode_image
from boxship.images.streams import PIECE
from boxship.images.transfers import feed
from boxship.images.transfers.downloads import Downloads
from boxship.images.transfers.feed import Feed, Message, Report
from boxship.images.transfers.shipments import Cargo, Layer, unpack
from boxship.snapshots.tar_reader import Readable
from boxship.spec.boxship.shipping import MissingLayer, Shipment, ShippedBlob, ShippedLayer, ShippedManifest
from boxship.spec.oci import Index, digest_of, parse_manifest
from boxship.store import ReadTransaction


class Shipping:
    """Gives and takes images of one engine; ``arrived`` is told of each that came: its id and names."""

    def __init__(self, layers: LayerStore, downloads: Downloads, arrived: Callable[[str, Sequence[str]], None]) -> None:
        self._layers = layers
        self._tell = arrived
        self._downloads = downloads

    # source

    async def shipment(self, ref: str) -> Shipment:
        """Describe the image; a name or its tag goes along, an id brings none. Raises NoSuchImage."""
        return await asyncio.to_thread(self._describe, ref)

    async def blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """Return a layer's blob from ``offset`` on. Raises InvalidDigest, BlobNotFound, InvalidInput."""
        file = await asyncio.to_thread(self._layers.content.open, digest)
        if offset < 0:
            file.close()
            raise InvalidInput(f"invalid offset {offset}")
        file.seek(offset)
        return _pieces(file)

    # target

    async def missing(self, shipment: Shipment) -> Sequence[MissingLayer]:
        """Return the blobs that must be sent before :meth:`receive`. Raises InvalidDocument."""
        return await asyncio.to_thread(self._missing, shipment)

    async def write(self, digest: str, size: int, offset: int, source: AsyncIterator[bytes]) -> None:
        """Take the blob's bytes from ``offset`` to its end; what has arrived is kept if they end early.

        Raises Conflict while it arrives in another way, InvalidInput and its kin for wrong bytes, which are not kept.
        """
        parse(digest)
        if size < 0 or offset < 0:
            raise InvalidInput(f"invalid range: {offset} of {size} bytes")
        async with self._downloads.receive(digest, size) as arriving:
            try:
                with failures():
                    async for chunk in source:
                        await asyncio.to_thread(arriving.write, offset, chunk)
                        offset += len(chunk)
                if arriving.missing():
                    raise InvalidInput(f"layer {digest}: unexpected EOF")
                await asyncio.to_thread(arriving.verify)
            except (DigestMismatch, SizeMismatch):
                await asyncio.to_thread(arriving.discard)
                raise
            except ValueError as exc:
                raise InvalidInput(f"layer {digest}: {exc}") from exc
            except SystemFailure as exc:
                if isinstance(exc.__cause__, OSError) and exc.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
                    await asyncio.to_thread(arriving.discard)  # the room is needed more than the bytes
                raise

    async def receive(self, shipment: Shipment) -> AsyncIterator[Message]:
        """Make the images of the shipment, whose blobs are here; yield progress messages. Raises NotFound without them."""
        cargo = unpack(shipment)
        async with AsyncExitStack() as stack:
            partials: dict[str, Partial] = {}
            for missing in await asyncio.to_thread(self._missing, shipment):
                arrived = await stack.enter_async_context(self._downloads.receive(missing.digest, missing.size))
                if arrived.missing():
                    await asyncio.to_thread(arrived.discard)
                    raise NotFound(f"layer {missing.digest} has not arrived")
                try:
                    await asyncio.to_thread(arrived.verify)
                except (DigestMismatch, SizeMismatch):
                    await asyncio.to_thread(arrived.discard)
                    raise
                partials[missing.digest] = arrived

            def work(_: Feed, report: Report) -> None:
                with self._layers.addition() as addition:
                    self._add(addition, cargo, shipment.names, partials, report)

            async for message in feed.run(work):
                yield message
        self._tell(digest_of(shipment.config.encode()), shipment.names)

    # private

    def _describe(self, ref: str) -> Shipment:
        with self._layers.store.read() as transaction:
            id = find(transaction, ref)
            name = None if means_id(ref, id) else reference.parse(ref).with_default_tag()
            names = [str(name)] if name is not None and name.digest is None else []
            known = indexes.named(transaction, names[0]) if names else None
            row = _image(transaction, id)
            beside = {one.image: _image(transaction, one.image) for one in known[1].images} if known else {}
        manifest, kind = "", ""
        if row.manifest:
            manifest, kind = self._document(row.manifest)
        found = Shipment(config=row.config, layers=self._blobs(row), names=names, manifest=manifest, manifest_type=kind)
        if known is None or id not in beside:
            return found
        try:
            index, index_kind = self._document(known[0])
            members = list(self._members(index, known[1], beside))
        except (BlobNotFound, SystemFailure):  # lost: `system fsck` tells of it, and the image goes without it
            return found
        return msgspec.structs.replace(found, index=index, index_type=index_kind, members=members)

    def _members(self, index: str, here: IndexRow, rows: Mapping[str, ImageRow]) -> Iterator[ShippedManifest]:
        """Yield what is here of an index, but for what is attested about other images. Raises BlobNotFound, SystemFailure."""
        parsed = parse_manifest(index.encode())
        named = parsed.manifests if isinstance(parsed, Index) else []
        about = {one.digest: (one.annotations or {}).get(ATTESTED) for one in named}
        images = {member.manifest for member in here.images}
        for member in here.members:
            if not member.image and about.get(member.manifest) not in images:
                continue
            manifest, kind = self._document(member.manifest)
            if member.image:
                row = rows[member.image]
                yield ShippedManifest(manifest=manifest, manifest_type=kind, config=row.config, layers=self._blobs(row))
                continue
            found = [self._layers.content.descriptor(digest) for digest in member.blobs]
            blobs = [ShippedBlob(digest=one.digest, size=one.size, media_type=one.media_type) for one in found]
            yield ShippedManifest(manifest=manifest, manifest_type=kind, blobs=blobs)

    def _document(self, digest: str) -> tuple[str, str]:
        """Return a manifest or index, verbatim, and its media type. Raises BlobNotFound, SystemFailure."""
        return self._layers.content.read_verified(digest).decode(), self._layers.content.descriptor(digest).media_type

    def _blobs(self, row: ImageRow) -> list[ShippedLayer]:
        layers = []
        for chain_id in row.layers:
            layer = self._layers.get(chain_id)
            if layer is None:
                raise SystemFailure(f"layer {chain_id} is missing in the store")
            layers.append(ShippedLayer(digest=layer.blob, size=layer.blob_size))
        return layers

    def _missing(self, shipment: Shipment) -> list[MissingLayer]:
        found: dict[str, MissingLayer] = {}
        started = {digest for digest, _ in self._layers.content.partials()} - self._downloads.digests
        for digest, size, chain_id in unpack(shipment).wanted():
            row = self._layers.get(chain_id) if chain_id else None
            here = row is not None and self._layers.content.exists(row.blob)
            if here or self._layers.content.exists(digest) or digest in found:
                continue
            found[digest] = MissingLayer(digest=digest, size=size, here=self._arrived(digest, size, started))
        return list(found.values())

    def _arrived(self, digest: str, size: int, started: set[str]) -> int:
        """Return how much of the blob's start is here."""
        if digest not in started:
            return 0
        arrived = self._layers.content.partial(digest, size)
        parts = arrived.missing()
        arrived.close()
        return parts[0][0] if parts else size

    def _add(
        self,
        addition: Addition,
        cargo: Cargo,
        names: Sequence[str],
        partials: Mapping[str, Partial],
        report: Report,
    ) -> None:
        content = self._layers.content
        made = []
        for image in cargo.images:
            for position, layer in enumerate(image.layers):
                self._add_layer(addition, layer, position, partials, report)
            manifest = ""
            if image.manifest is not None:
                manifest = content.add(image.manifest.data, image.manifest.media_type, lease=LEASE)
            chain = [layer.chain_id for layer in image.layers]
            made.append(NewImage(image.config, chain, names, manifest=manifest, origin=image.origin))
        for blob in cargo.blobs:
            if blob.digest in partials:
                with failures():
                    partials[blob.digest].commit(blob.media_type, durable=False)
            elif not content.protect(blob.digest, LEASE):
                raise NotFound(f"blob {blob.digest} has not arrived")
        for document in cargo.documents:
            content.add(document.data, document.media_type, lease=LEASE)
        addition.commit(made)

    def _add_layer(
        self, addition: Addition, layer: Layer, position: int, partials: Mapping[str, Partial], report: Report
    ) -> None:
        content = self._layers.content
        if addition.reuse(layer.chain_id):
            report(progress.status("Already exists", layer.short))
            return
        source: Readable
        take: Callable[[str], Descriptor]
        if layer.digest in partials:
            arrived = partials[layer.digest]
            source, take = arrived.reader(), partial(arrived.commit, durable=False)
        elif content.protect(layer.digest, LEASE):
            source, take = _Verified(content.chunks(layer.digest)), partial(_renamed, content.descriptor(layer.digest))
        else:
            raise NotFound(f"layer {layer.digest} has not arrived")
        addition.received_layer(
            source,
            layer.parent,
            take,
            position=position,
            diff_id=layer.diff_id,
            observe=progress.Meter(report, "Extracting", layer.size, layer.short).at,
        )
        report({"status": "Extracted", "progressDetail": {}, "id": layer.short})


class _Verified:
    """A stored blob as a stream, which is looked at as a whole before its end is told."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int, /) -> bytes:  # noqa: ARG002  # pieces are as large as the store gives them
        return next(self._chunks, b"")


def _image(transaction: ReadTransaction, id: str) -> ImageRow:
    document = transaction.get(IMAGE, id)
    if document is None:
        raise SystemFailure(f"image {id} is missing in the store")
    return decode_image(document)


def _renamed(found: Descriptor, media_type: str) -> Descriptor:
    return found._replace(media_type=media_type)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
