"""Images from engine to engine without a registry: what ``push ssh://`` and ``pull ssh://`` ask both sides for.

Theory of operation. The source describes an image in a :class:`Shipment`; the target tells which of its blobs it lacks and
how much of each an earlier attempt left. Their bytes go into the same partial files as those of pulls, so they survive the
client, the connection and the daemon. When all are here the target verifies, unpacks and names the image in one addition:
it appears whole or not at all. Nothing that comes is believed: blobs by their digests, layers by their diff IDs.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import BinaryIO, NamedTuple

from boxship.base.errors import InvalidInput, NotFound, SystemFailure
from boxship.content import Descriptor, DigestMismatch, Partial, SizeMismatch
from boxship.content.digest import parse
from boxship.images import feed, progress, reference
from boxship.images.catalog import find, means_id
from boxship.images.downloads import Downloads
from boxship.images.feed import Feed, Message, Report
from boxship.images.layers import LEASE, Addition, LayerStore, NewImage, failures, next_chain_id
from boxship.images.model import IMAGE, decode_image
from boxship.images.streams import PIECE
from boxship.snapshots.tar_reader import Readable
from boxship.spec.boxship.shipping import MissingLayer, Shipment, ShippedLayer
from boxship.spec.oci import InvalidDocument, digest_of, parse_config, parse_manifest
from boxship.spec.oci.manifest import Manifest


class _Layer(NamedTuple):
    blob: ShippedLayer
    diff_id: str
    chain_id: str
    parent: str  # chain ID

    @property
    def short(self) -> str:
        return self.blob.digest.partition(":")[2][:12]


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
        """Make the image of the shipment, whose blobs are here; yield progress messages. Raises NotFound without them."""
        layers = _layers(shipment)
        wanted = {layer.digest: layer for layer in await asyncio.to_thread(self._missing, shipment)}
        async with AsyncExitStack() as stack:
            partials: dict[str, Partial] = {}
            for digest, layer in wanted.items():
                arrived = await stack.enter_async_context(self._downloads.receive(digest, layer.size))
                if arrived.missing():
                    await asyncio.to_thread(arrived.discard)
                    raise NotFound(f"layer {digest} has not arrived")
                try:
                    await asyncio.to_thread(arrived.verify)
                except (DigestMismatch, SizeMismatch):
                    await asyncio.to_thread(arrived.discard)
                    raise
                partials[digest] = arrived

            def work(_: Feed, report: Report) -> None:
                with self._layers.addition() as addition:
                    self._add(addition, shipment, layers, partials, report)

            async for message in feed.run(work):
                yield message
        self._tell(digest_of(shipment.config.encode()), shipment.names)

    # private

    def _describe(self, ref: str) -> Shipment:
        with self._layers.store.read() as transaction:
            id = find(transaction, ref)
            document = transaction.get(IMAGE, id)
        assert document is not None
        row = decode_image(document)
        layers = []
        for chain_id in row.layers:
            layer = self._layers.get(chain_id)
            if layer is None:
                raise SystemFailure(f"layer {chain_id} is missing in the store")
            layers.append(ShippedLayer(digest=layer.blob, size=layer.blob_size))
        name = None if means_id(ref, id) else reference.parse(ref).with_default_tag()
        names = [str(name)] if name is not None and name.digest is None else []
        manifest, kind = "", ""
        if row.manifest:
            manifest = self._layers.content.read_verified(row.manifest).decode()
            kind = self._layers.content.descriptor(row.manifest).media_type
        return Shipment(config=row.config, layers=layers, names=names, manifest=manifest, manifest_type=kind)

    def _missing(self, shipment: Shipment) -> list[MissingLayer]:
        found: dict[str, MissingLayer] = {}
        started = {digest for digest, _ in self._layers.content.partials()} - self._downloads.digests
        for layer in _layers(shipment):
            digest, size = layer.blob.digest, layer.blob.size
            row = self._layers.get(layer.chain_id)
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
        shipment: Shipment,
        layers: Sequence[_Layer],
        partials: dict[str, Partial],
        report: Report,
    ) -> None:
        store = self._layers.content
        for position, layer in enumerate(layers):
            digest = layer.blob.digest
            if addition.reuse(layer.chain_id):
                report(progress.status("Already exists", layer.short))
                continue
            source: Readable
            take: Callable[[str], Descriptor]
            if digest in partials:
                source, take = partials[digest].reader(), partial(partials[digest].commit, durable=False)
            elif store.protect(digest, LEASE):
                source, take = _Verified(store.chunks(digest)), partial(_renamed, store.descriptor(digest))
            else:
                raise NotFound(f"layer {digest} has not arrived")
            meter = progress.Meter(report, "Extracting", layer.blob.size, layer.short)
            addition.received_layer(
                source,
                layer.parent,
                take,
                position=position,
                diff_id=layer.diff_id,
                observe=meter.at,
            )
            report({"status": "Extracted", "progressDetail": {}, "id": layer.short})
        manifest = ""
        if shipment.manifest:
            manifest = store.add(shipment.manifest.encode(), shipment.manifest_type, lease=LEASE)
        chain = [layer.chain_id for layer in layers]
        addition.commit([NewImage(shipment.config.encode(), chain, shipment.names, manifest=manifest)])


class _Verified:
    """A stored blob as a stream, which is looked at as a whole before its end is told."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int, /) -> bytes:  # noqa: ARG002  # pieces are as large as the store gives them
        return next(self._chunks, b"")


def _layers(shipment: Shipment) -> list[_Layer]:
    """Return the layers, bottom first. Raises InvalidDocument, InvalidDigest, InvalidReference for what can't be."""
    config = parse_config(shipment.config.encode())
    if len(config.diff_ids) != len(shipment.layers):
        raise InvalidDocument(
            f"invalid shipment, layers length mismatch: expected {len(config.diff_ids)}, got {len(shipment.layers)}"
        )
    for name in shipment.names:
        parsed = reference.parse(name)
        if parsed.tag is None or parsed.digest is not None or str(parsed) != name:
            raise InvalidInput(f'invalid tag "{name}"')
    if shipment.manifest and not isinstance(
        parse_manifest(shipment.manifest.encode(), shipment.manifest_type), Manifest
    ):
        raise InvalidDocument("invalid shipment: its manifest is an index")
    layers: list[_Layer] = []
    for blob, diff_id in zip(shipment.layers, config.diff_ids, strict=True):
        parse(blob.digest)
        if blob.size < 0:
            raise InvalidDocument(f"invalid shipment: layer {blob.digest} of {blob.size} bytes")
        parent = layers[-1].chain_id if layers else ""
        layers.append(_Layer(blob, diff_id, next_chain_id(parent, diff_id), parent))
    return layers


def _renamed(found: Descriptor, media_type: str) -> Descriptor:
    return found._replace(media_type=media_type)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
