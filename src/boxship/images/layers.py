"""Layers: from a tar stream to a snapshot and a blob, shared by all images that stack them the same way, and away again.

Theory of operation. An :class:`Addition` is one import, load, pull or commit. It *holds* the chain IDs it works with, puts
blobs under a lease, unpacks layers into snapshots, and at its end syncs the disk once and writes all rows in one
transaction. A layer is in use while an image's row names it or an addition holds it; what is not in use is dropped: its row
first, then its snapshot (which stays as long as a container stands on it), then its blob. So an addition that fails or is
killed shows nothing, and what it left is recognised by having no row. A layer that one addition has unpacked can be used by
others before either has ended.

All of this blocks on the disk: call it from threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import msgspec

from boxship import content
from boxship.base import clock
from boxship.base.errors import BoxshipError, InvalidInput, SystemFailure
from boxship.base.ids import new_id
from boxship.content import BlobCorrupted, ContentStore, DigestMismatch
from boxship.images import indexes
from boxship.images.indexes import Origin
from boxship.images.model import (
    IMAGE,
    LAYER,
    LAYER_USE,
    ImageRow,
    LayerRow,
    decode_image,
    decode_layer,
    decode_use,
    encode,
)
from boxship.images.sampling import LARGE, SAMPLE, resists_compression
from boxship.images.streams import PIECE, Aside, Peekable, Tee, WritingOut
from boxship.snapshots.compression import CompressionBomb, Decompressed, GzipWriter, InvalidCompression, detect
from boxship.snapshots.snapshotter import (
    EXTRACTION,
    Applied,
    HasChildren,
    NoSuchSnapshot,
    SnapshotExists,
    Snapshotter,
    WrongState,
)
from boxship.snapshots.tar_reader import InvalidTar, Readable
from boxship.spec.oci import Descriptor, digest_of, parse_config
from boxship.spec.oci.manifest import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from boxship.store import ReadTransaction, Store, Transaction, quarantine

DAMAGED = "damaged-layer"  # kind of rows: by chain ID, empty
LEASE = "images"  # one for all additions: it ends with the last of them
_MAGIC = 6  # bytes that tell the compression
MEDIA_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


class InvalidLayer(InvalidInput):
    """A layer's bytes are no tar archive, or not the one that the configuration names."""


class Arrival(NamedTuple):
    """A layer that was stored and unpacked before anybody knew on which other one it stands."""

    key: str = ""  # of its active snapshot
    applied: Applied = Applied("", 0)
    tar_size: int = 0  # bytes
    came_as: str = ""  # compression
    stored_as: str = ""
    blob: content.Descriptor = content.Descriptor("", 0)
    failure: BoxshipError | None = None  # why it can't be a layer; the rest means nothing then


class NewImage(NamedTuple):
    """An image that an addition will make visible."""

    document: bytes  # the configuration; checked UTF-8
    layers: Sequence[str]  # chain IDs, bottom first
    names: Sequence[str]  # normalised references that shall mean it
    parent: str = ""
    manifest: str = ""  # digest of the blob with the manifest it came with
    origin: Origin | None = None  # the index it came out of


class LayerStore:
    """The layers of one engine."""

    def __init__(self, store: Store, content: ContentStore, snapshotter: Snapshotter) -> None:
        self.store = store
        self.content = content
        self.snapshotter = snapshotter
        self._lock = threading.Lock()  # guards what is held, and every decision that depends on it
        self._held: Counter[str] = Counter()
        self._unpacked: dict[str, LayerRow] = {}  # held ones that no row names yet
        self._additions = 0  # running

    def get(self, chain_id: str) -> LayerRow | None:
        """Return the layer's row, or None."""
        with self.store.read() as transaction:
            document = transaction.get(LAYER, chain_id)
        return None if document is None else decode_layer(document)

    def disk_usage(self) -> int:
        """Return the bytes that the files of all layers hold."""
        with self.store.read() as transaction:
            return sum(decode_layer(document).size for _, document in transaction.list(LAYER))

    def tar(self, row: LayerRow) -> Iterator[bytes]:
        """Yield the layer's uncompressed tar; raises BlobCorrupted at the end if it is not what the diff ID names."""
        hash = hashlib.sha256()
        with self.content.open(row.blob) as file, Aside(hash.update) as hashing:
            reader = Decompressed(file)
            try:
                while data := reader.read(PIECE):
                    hashing.write(data)
                    yield data
            except InvalidCompression as exc:
                raise BlobCorrupted(row.blob, str(exc)) from exc
            hashing.finish()
        if f"sha256:{hash.hexdigest()}" != row.diff_id:
            raise BlobCorrupted(row.blob, f"its content hashes to {hash.hexdigest()}")

    @contextmanager
    def addition(self) -> Iterator[Addition]:
        """Give an addition; leaving the ``with`` ends it and removes what no image uses."""
        addition = Addition(self)
        with self._lock:
            self._additions += 1
        try:
            self.content.lease(LEASE)
            yield addition
        finally:
            with self._lock:
                self._additions -= 1
                self._held.subtract(addition.held)
                self._held += Counter()  # forget the zeros
                for chain_id in addition.held:
                    if not self._held[chain_id]:
                        self._unpacked.pop(chain_id, None)
                self._end_lease()
            addition.close()
            self.drop(addition.held)

    def sizes(self) -> set[int]:
        """Return the bytes of all layers, as tar and as blob: what has another size is not here yet."""
        with self.store.read() as transaction:
            rows = [decode_layer(document) for _, document in transaction.list(LAYER)]
        return {row.tar_size for row in rows} | {row.blob_size for row in rows}

    def hold(self, chain_id: str) -> None:
        """Keep the layer from being dropped until the addition that asked for it ends."""
        with self._lock:
            self._held[chain_id] += 1

    def unpacked(self, chain_id: str) -> LayerRow | None:
        """Return what the row of a layer will be that a running addition has unpacked."""
        with self._lock:
            return self._unpacked.get(chain_id)

    def announce(self, chain_id: str, row: LayerRow) -> None:
        """Let other additions use a layer that is held and unpacked."""
        with self._lock:
            self._unpacked[chain_id] = row

    def condemn(self, chain_id: str) -> None:
        """Note that nothing vouches for the layer's files, its blob being lost: an addition that brings it replaces them."""
        self.store.write_now(lambda t: t.put(DAMAGED, chain_id, b""))

    def replace_damaged(self, chain_id: str, key: str) -> None:
        """Give a layer that was condemned the files of the active snapshot ``key``, unless a container runs on it."""
        with self.store.read() as transaction:
            condemned = transaction.get(DAMAGED, chain_id) is not None
        if condemned:
            try:
                self.snapshotter.replace(chain_id, key)
            except WrongState:
                return
            self.store.write_now(lambda t: t.delete(DAMAGED, chain_id))

    def rebuild(self, row: LayerRow) -> str:
        """Unpack the layer's blob once more into a new active snapshot; return its key, which the caller removes.

        Raises BlobNotFound, BlobCorrupted, InvalidLayer, SystemFailure.
        """
        key = f"{EXTRACTION}{new_id()}"
        self.snapshotter.prepare(key, row.parent or None)
        try:
            with failures(), self.content.open(row.blob) as file:
                applied = self.snapshotter.apply(key, Decompressed(file))
            if applied.diff_id != row.diff_id:
                raise BlobCorrupted(row.blob, f"its content hashes to {applied.diff_id}, not to {row.diff_id}")
        except BaseException:
            _remove_if_there(self.snapshotter, key)
            raise
        return key

    def sync(self) -> None:
        """Make durable what additions have stored. Raises OSError, SystemFailure."""
        self.content.sync()
        self.snapshotter.sync()

    def drop(self, chain_ids: Iterable[str]) -> list[str]:
        """Remove those of the layers that are not in use; return their chain IDs, upper ones first.

        Snapshots on which containers stand stay on disk until :meth:`sweep` finds them free.
        """
        asked = set(chain_ids)
        with self._lock:
            held = set(self._held)

            def change(transaction: Transaction) -> tuple[list[str], list[str]]:
                unused = asked - held - layers_in_use(transaction)
                rows = dict(transaction.list(LAYER))
                order = sorted(unused, key=lambda chain_id: -_depth(chain_id, rows))
                return order, [chain_id for chain_id in order if transaction.delete(LAYER, chain_id)]

            order, dropped = self.store.write_now(change)
            # Those that have no row stand in no order: a lower one goes when the upper ones are gone. One that stayed
            # after a power cut, with half its files, would be taken for the layer by the next addition.
            while order and len(left := [chain_id for chain_id in order if not self._remove_snapshot(chain_id)]) < len(
                order
            ):
                order = left
        self.content.collect(_referenced_blobs)
        return dropped

    def sweep(self) -> None:
        """Remove the layers, snapshots and blobs that no image uses: leftovers of a crash and of removed containers."""
        with self._lock:
            self._end_lease()
        with self.store.read() as transaction:
            rows = {chain_id for chain_id, _ in transaction.list(LAYER)}
        snapshots = self.snapshotter.list()
        self.drop(rows | {info.key for info in snapshots if info.committed and info.key.startswith("sha256:")})

    def _end_lease(self) -> None:
        """End the lease when nobody needs it: a dead process's too, since it has the same name."""
        if not self._additions:
            self.store.write_now(lambda t: t.end_lease(LEASE))

    def _remove_snapshot(self, chain_id: str) -> bool:
        """Return whether it is gone; one on which a container stands stays, and sweep comes back."""
        try:
            self.snapshotter.remove(chain_id)
        except NoSuchSnapshot:
            return True
        except HasChildren:
            return False
        return True


class Addition:
    """One operation that brings layers and images in; made by ``LayerStore.addition``."""

    def __init__(self, layers: LayerStore) -> None:
        self.held: list[str] = []
        self._layers = layers
        self._new: dict[str, LayerRow] = {}
        self._waiting: set[str] = set()  # keys of arrivals' snapshots
        self._writing_out = WritingOut(layers.sync)

    def reuse(self, chain_id: str) -> bool:
        """Return whether the layer is here already, whole; it will stay until this addition has ended."""
        if chain_id in self._new:
            return True
        self._hold(chain_id)
        row = self._layers.unpacked(chain_id)
        if row is not None:
            self._new[chain_id] = row
            return True
        row = self._layers.get(chain_id)
        return row is not None and self._layers.snapshotter.exists(chain_id) and self._layers.content.exists(row.blob)

    def layer(
        self,
        source: Readable,
        parent: str,
        *,
        position: int = 0,
        diff_id: str = "",
        blob: Descriptor | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> str:
        """Unpack a layer's tar, compressed or not, on top of the chain ID ``parent`` ("": none); return its chain ID.

        ``diff_id`` and ``blob`` are what it must turn out to be; ``position`` counts from 0 for error texts; ``observe``
        is told how many bytes of ``source`` were read. Raises InvalidLayer, DigestMismatch, SizeMismatch, SystemFailure.
        """
        raw = Peekable(Tee(source, observe=observe))
        with failures(), ExitStack() as undo:
            compression = detect(raw.peek(_MAGIC))
            _check_compression(compression, position, blob)
            kept = _Kept(self._layers.content, raw, compression, undo, blob)

            def take(applied: Applied) -> content.Descriptor:
                _check_blob(blob, compression, applied, None)
                return kept.take(applied)

            return self._unpack(kept.tar, parent, position, diff_id, kept.stored_as, take)

    def arrive(self, source: Readable, size: int, *, observe: Callable[[int], None] | None = None) -> Arrival:
        """Store and unpack a layer's tar, compressed or not, of which only the ``size`` is known; then :meth:`place` it.

        Only for snapshotters that adopt. Raises SystemFailure and what ``source`` raises; what is wrong with the layer
        stands in the result, since it may turn out that nobody needs it.
        """
        raw = Peekable(Tee(source, observe=observe))
        key = f"{EXTRACTION}{new_id()}"
        try:
            with failures(), ExitStack() as undo:
                compression = detect(raw.peek(_MAGIC))
                kept = _Kept(self._layers.content, raw, compression, undo, size=size)
                self._layers.snapshotter.prepare(key, None)
                self._waiting.add(key)
                applied = self._layers.snapshotter.apply(key, kept.tar)
                stored = kept.take(applied)
                self._writing_out.wrote(applied.size + stored.size)
                return Arrival(key, applied, kept.tar.count, compression, kept.stored_as, stored)
        except InvalidLayer as exc:
            self._forget(key)
            return Arrival(failure=exc)

    def place(
        self, arrival: Arrival, parent: str, *, position: int = 0, diff_id: str = "", blob: Descriptor | None = None
    ) -> str:
        """Make an arrival the layer on top of the chain ID ``parent``; return its chain ID. Otherwise as :meth:`layer`."""
        if arrival.failure is not None:
            raise arrival.failure
        _check_compression(arrival.came_as, position, blob)
        _check_blob(blob, arrival.came_as, arrival.applied, arrival.blob)
        _check_diff_id(diff_id, arrival.applied, position)
        if arrival.key in self._waiting and self._fits(arrival, parent):
            self._waiting.discard(arrival.key)
            try:
                return self._place(
                    arrival.key, parent, arrival.applied, arrival.tar_size, arrival.stored_as, arrival.blob
                )
            finally:
                _remove_if_there(self._layers.snapshotter, arrival.key)
        with failures(), self._layers.content.open(arrival.blob.digest) as file:
            tar = Tee(Decompressed(file))
            return self._unpack(tar, parent, position, diff_id, arrival.stored_as, lambda _: arrival.blob)

    def _fits(self, arrival: Arrival, parent: str) -> bool:
        """Put what was unpacked on its parent; return False when it would have been unpacked in another way there."""
        if not parent:
            return True
        assumed = arrival.applied.assumed
        return assumed is not None and self._layers.snapshotter.adopt(arrival.key, parent, assumed)

    def close(self) -> None:
        """Remove what no image turned out to need."""
        self._writing_out.close()
        for key in list(self._waiting):
            self._forget(key)

    def received_layer(
        self,
        source: Readable,
        parent: str,
        take: Callable[[str], content.Descriptor],
        *,
        position: int,
        diff_id: str,
        observe: Callable[[int], None],
    ) -> str:
        """Unpack a layer whose blob somebody else stores just now; ``source`` ends only when the blob is whole and right.

        ``take`` gets the blob's media type and gives it its name, under the lease LEASE. Otherwise as :meth:`layer`.
        """
        raw = Peekable(Tee(source, observe=observe))
        with failures():
            compression = detect(raw.peek(_MAGIC))
            if compression and compression not in MEDIA_TYPES:
                raise InvalidLayer(f"layer {position} is compressed with {compression}, which no media type allows")
            media_type = MEDIA_TYPES.get(compression, OCI_LAYER)
            tar = Tee(Decompressed(raw))
            return self._unpack(tar, parent, position, diff_id, compression, lambda _: take(media_type))

    def _unpack(
        self,
        tar: Tee,
        parent: str,
        position: int,
        diff_id: str,
        compression: str,
        take: Callable[[Applied], content.Descriptor],
    ) -> str:
        """Make the layer's snapshot, then let ``take`` store its blob; return its chain ID."""
        snapshotter = self._layers.snapshotter
        key = f"{EXTRACTION}{new_id()}"
        snapshotter.prepare(key, parent or None)
        try:
            applied = snapshotter.apply(key, tar)
            _check_diff_id(diff_id, applied, position)
            stored = take(applied)
            self._writing_out.wrote(applied.size + stored.size)
            return self._place(key, parent, applied, tar.count, compression, stored)
        finally:
            _remove_if_there(snapshotter, key)

    def _place(
        self, key: str, parent: str, applied: Applied, tar_size: int, compression: str, stored: content.Descriptor
    ) -> str:
        """Make the active snapshot ``key`` the layer's, if there is none; note the layer and return its chain ID."""
        chain_id = next_chain_id(parent, applied.diff_id)
        self._hold(chain_id)
        try:
            self._layers.snapshotter.commit(chain_id, key, diff_id=applied.diff_id, size=applied.size, durable=False)
        except SnapshotExists:
            # Another addition brought the same layer meanwhile, and ours is removed; or it is known to be damaged.
            self._layers.replace_damaged(chain_id, key)
        row = self._new[chain_id] = LayerRow(
            diff_id=applied.diff_id,
            parent=parent,
            size=applied.size,
            tar_size=tar_size,
            blob=stored.digest,
            blob_size=stored.size,
            compression=compression,
        )
        self._layers.announce(chain_id, row)
        return chain_id

    def diff_id(self, chain_id: str) -> str:
        """Return the diff ID of a layer that this addition unpacked."""
        return self._new[chain_id].diff_id

    def commit(self, images: Sequence[NewImage]) -> dict[str, str]:
        """Make the images, their layers and names visible, all at once and durably.

        Returns the names that meant another image before, with that image's id: it lives on without the name. Raises
        InvalidDocument for a configuration that could not be read again.
        """
        for image in images:
            parse_config(image.document)
        new = dict(self._new)

        def change(transaction: Transaction) -> dict[str, str]:
            now_ns = clock.now_ns()
            _put_layers(transaction, new)
            moved: dict[str, str] = {}
            for image in images:
                moved |= _put_image(transaction, image, now_ns)
            return moved

        with failures():
            self._writing_out.finish()
            if new or any(image.manifest for image in images):
                self._layers.sync()
            return self._layers.store.write_now(change)

    def settle(self) -> None:
        """Make the layers that are here by now durable; they stay if they are in use when the addition ends.

        Others may go on to add layers meanwhile. Raises SystemFailure.
        """
        new = dict(self._new)
        with failures():
            self._writing_out.finish()
            self._layers.sync()
            self._layers.store.write_now(lambda t: _put_layers(t, new))

    def _hold(self, chain_id: str) -> None:
        self._layers.hold(chain_id)
        self.held.append(chain_id)

    def _forget(self, key: str) -> None:
        self._waiting.discard(key)
        _remove_if_there(self._layers.snapshotter, key)


class _Kept:
    """What makes a blob of a layer while :attr:`tar` is read; ``undo`` gives up what was not taken.

    The blob is what comes, when that is compressed as registries want it or hardly can be; else gzip. Compressing, and
    hashing and writing what comes of it, have a thread each beside the one that unpacks.
    """

    def __init__(
        self,
        content: ContentStore,
        raw: Peekable,
        compression: str,
        undo: ExitStack,
        blob: Descriptor | None = None,
        size: int = 0,  # bytes that come, 0 when that is not known
    ) -> None:
        as_it_comes = compression in MEDIA_TYPES
        plain = not compression and size >= LARGE and resists_compression(raw.peek(SAMPLE), size)
        self.stored_as = compression if as_it_comes or plain else "gzip"
        expected = blob if as_it_comes else None
        self._ingest = undo.enter_context(
            content.ingest(
                expected.digest if expected else None,
                expected.size if expected else None,
                lease=LEASE,
                hashed=bool(self.stored_as),  # else it is the tar, which is hashed where it is unpacked
            )
        )
        self._asides = [undo.enter_context(Aside(self._ingest.write))]
        self._compressor = None if self.stored_as == compression else GzipWriter(self._asides[0])
        if self._compressor is not None:
            self._asides.insert(0, undo.enter_context(Aside(self._compressor.write)))
        incoming = Tee(raw, write=self._asides[0].write) if as_it_comes else raw
        self.tar = Tee(Decompressed(incoming), write=None if as_it_comes else self._asides[0].write)

    def take(self, applied: Applied) -> content.Descriptor:
        """Give the blob its name, after all was read and unpacked. Raises DigestMismatch, SizeMismatch, OSError."""
        if self._compressor is not None:
            self._asides[0].finish()
            self._compressor.finish()
        self._asides[-1].finish()
        digest = "" if self.stored_as else applied.diff_id
        return self._ingest.commit(MEDIA_TYPES.get(self.stored_as, OCI_LAYER), durable=False, digest=digest)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what reading, unpacking and storing a layer raises into errors in Docker's words."""
    try:
        yield
    except (InvalidTar, InvalidCompression, CompressionBomb) as exc:
        raise InvalidLayer(f"Error processing tar file(exit status 1): {exc}") from exc
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise SystemFailure(f"write {exc.filename}: {reason}" if exc.filename else reason) from exc


def _check_compression(compression: str, position: int, blob: Descriptor | None) -> None:
    """Raise InvalidLayer for what a descriptor can't name; an archive of Docker's own may hold it."""
    if blob is not None and compression and compression not in MEDIA_TYPES:
        raise InvalidLayer(f"layer {position} is compressed with {compression}, which no media type allows")


def _check_blob(
    wanted: Descriptor | None, compression: str, applied: Applied, stored: content.Descriptor | None
) -> None:
    """Raise DigestMismatch when the bytes that came are not those that the descriptor names.

    ``stored`` is the blob that was made of them without looking; None if that knows what it has to be.
    """
    if wanted is None:
        return
    found = applied.diff_id if not compression else stored.digest if stored is not None else wanted.digest
    if found != wanted.digest:
        raise DigestMismatch(wanted.digest, found)


def _check_diff_id(wanted: str, applied: Applied, position: int) -> None:
    if wanted and applied.diff_id != wanted:
        raise InvalidLayer(f'invalid diffID for layer {position}: expected "{wanted}", got "{applied.diff_id}"')


def next_chain_id(parent: str, diff_id: str) -> str:
    """Return the chain ID of a layer on top of ``parent`` ("": of the lowest layer)."""
    return digest_of(f"{parent} {diff_id}".encode()) if parent else diff_id


def layers_in_use(transaction: ReadTransaction) -> set[str]:
    """Return the chain IDs that the rows of images and of other uses name, also of damaged ones."""
    named = {chain_id for _, document in transaction.list(IMAGE) for chain_id in decode_image(document).layers}
    named |= {chain_id for _, document in transaction.list(LAYER_USE) for chain_id in decode_use(document)}
    return named | quarantine.mentioned(transaction)


def _put_layers(transaction: Transaction, layers: Mapping[str, LayerRow]) -> None:
    for chain_id, row in layers.items():
        if transaction.get(LAYER, chain_id) != encode(row):  # the first one, or with another blob than the lost one
            transaction.put(LAYER, chain_id, encode(row))


def _put_image(transaction: Transaction, image: NewImage, now_ns: int) -> dict[str, str]:
    id = digest_of(image.document)
    known = transaction.get(IMAGE, id)
    row = (
        ImageRow(config=image.document.decode(), layers=tuple(image.layers), parent=image.parent, added_ns=now_ns)
        if known is None
        else decode_image(known)
    )
    if image.manifest:
        row = msgspec.structs.replace(row, manifest=image.manifest)
    if image.names:
        row = msgspec.structs.replace(row, tagged_ns=now_ns)
    transaction.put(IMAGE, id, encode(row))
    if image.origin is not None and image.origin.members and not image.names:
        indexes.keep_nameless(transaction, id, image.origin)
    moved = {}
    for name in image.names:
        meant = indexes.name_image(transaction, name, id, image.origin)
        holder = transaction.lookup(IMAGE, name)
        if holder is not None and holder != meant:
            transaction.release(IMAGE, name)
            if not indexes.has(transaction, name, holder):
                moved[name] = holder
        transaction.claim(IMAGE, name, meant)
    return moved


def _referenced_blobs(transaction: ReadTransaction) -> set[str]:
    images = (decode_image(document) for _, document in transaction.list(IMAGE))
    named = {decode_layer(document).blob for _, document in transaction.list(LAYER)} | {row.manifest for row in images}
    return named | indexes.blobs(transaction) | quarantine.mentioned(transaction)


def _depth(chain_id: str, rows: dict[str, bytes]) -> int:
    depth = 0
    while chain_id in rows:
        chain_id = decode_layer(rows[chain_id]).parent
        depth += 1
    return depth


def _remove_if_there(snapshotter: Snapshotter, key: str) -> None:
    try:
        snapshotter.remove(key)
    except NoSuchSnapshot:
        pass  # it was committed
