"""``docker push``: layers that the registry lacks, the configuration, then the manifest.

A layer goes as the compressed blob that it came as, so an image that was pulled is pushed with the same digests: under the
manifest that it came with when all of that one's blobs are here, else under one that is made as Docker makes it.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Sequence

from boxship.content import ContentStore
from boxship.images import indexes, progress
from boxship.images.archives.outgoing import Cargo, Outgoing, Selected
from boxship.images.layers import LEASE, LayerStore, NewImage
from boxship.images.model import IMAGE, LayerRow
from boxship.images.reference import Reference
from boxship.images.transfers.feed import Message, Report, reports
from boxship.images.transfers.pulling import Puller
from boxship.registry.client.errors import innermost
from boxship.registry.client.hosts import Credentials
from boxship.registry.client.places import first
from boxship.registry.client.pushing import BlobPusher, Memory, Pushed, put_manifest
from boxship.registry.client.repository import Repository
from boxship.registry.client.session import Session
from boxship.registry.client.slots import Slots
from boxship.spec.oci import Platform
from boxship.store import Transaction


class Pusher:
    """Pushes images of ``layers``; connections and endpoints are the puller's."""

    def __init__(self, layers: LayerStore, puller: Puller, uploads: Callable[[], int]) -> None:
        self._layers = layers
        self._puller = puller
        self._outgoing = Outgoing(layers.store, layers.content)
        self._slots = Slots(uploads)

    async def push(
        self,
        session: Session,
        repository_name: Reference,
        tags: Sequence[str],
        credentials: Credentials,
        platform: Platform | None = None,
    ) -> AsyncIterator[Message]:
        """Push the tags of one repository one after the other; yield Docker's messages.

        Of several platforms under a tag all go, or only the image for ``platform``.
        """
        places = self._puller.repositories(session, repository_name, credentials, mirrors=False)
        repository: Repository | None = None
        for tag in tags:
            name = repository_name._replace(tag=tag)
            cargo = await asyncio.to_thread(self._outgoing.select, name, platform)
            for image in cargo.images:
                for row in reversed(image.layers):
                    yield {"status": "Preparing", "progressDetail": {}, "id": _short(row.diff_id)}
            if repository is None:
                repository, _ = await first(places, lambda place: place.ping(push=True))
            for image in cargo.images:
                async for message in reports(functools.partial(self._push_all, repository, image)):
                    yield message
                if image.manifest != cargo.top:
                    await put_manifest(repository, image.manifest.digest, image.manifest)
            await self._attestations(repository, cargo)
            await put_manifest(repository, tag, cargo.top)
            await asyncio.to_thread(self._remember, name, cargo)
            digest, size = cargo.top.digest, len(cargo.top.data)
            yield progress.status(f"{tag}: digest: {digest} size: {size}")
            yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}
            if cargo.note is not None:
                yield {"progressDetail": {}, "aux": cargo.note}

    @staticmethod
    async def _attestations(repository: Repository, cargo: Cargo) -> None:
        for attestation in cargo.attestations:
            for blob in attestation.blobs:
                await BlobPusher(repository, blob.digest, Memory(blob.data)).run()
            await put_manifest(repository, attestation.manifest.digest, attestation.manifest)

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

    def _remember(self, name: Reference, cargo: Cargo) -> None:
        """Give the image the digest as a name, and keep the manifest; an index is kept already."""
        selected = cargo.images[0]
        named = f"{name.name}@{cargo.top.digest}"
        if cargo.top != selected.manifest:
            self._layers.store.write_now(lambda t: _name_index(t, str(name), named, selected.id))
            return
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


def _name_index(transaction: Transaction, name: str, by_digest: str, id: str) -> None:
    """Let ``by_digest`` mean what ``name`` does, if that still is the image with ``id``."""
    digest = transaction.lookup(indexes.INDEX, name)
    if digest is None or transaction.lookup(IMAGE, name) != id:
        return
    if transaction.lookup(IMAGE, by_digest) != id:
        transaction.release(IMAGE, by_digest)
        transaction.claim(IMAGE, by_digest, id)
    if transaction.lookup(indexes.INDEX, by_digest) != digest:
        indexes.forget(transaction, by_digest)
        transaction.claim(indexes.INDEX, by_digest, digest)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
