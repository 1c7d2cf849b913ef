"""The content store: files named by digest, and the rows that make them count."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec

from boxship.base import atomicfile, clock
from boxship.base.errors import NotFound, SystemFailure
from boxship.base.ids import new_id
from boxship.content.digest import of_bytes, parse
from boxship.content.ingest import Descriptor, Ingest, SizeMismatch
from boxship.content.partial import MAP, PREFIX, Partial
from boxship.linux import fs
from boxship.store import ReadTransaction, Store, Transaction

KIND = "blob"
LEASE_NS = 24 * 3600 * 1_000_000_000  # how long a blob without a user is kept for an operation that never ended
PARTIAL_NS = 7 * LEASE_NS  # how long an interrupted download may be continued
BLOB_LIMIT = 1 << 40  # bytes of one blob that arrives in pieces
DOCUMENT_LIMIT = 4 * 1024 * 1024  # manifests and configs: what registries accept
_CHUNK = 1024 * 1024
_ALGORITHMS = ("sha256", "sha512")


class BlobNotFound(NotFound):
    """There is no blob of that digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"content digest {digest}: not found")


class BlobCorrupted(SystemFailure):
    """The file's bytes are no longer those that the digest names."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"content digest {digest} is damaged on disk: {reason}; pull or load the image again")


class Swept(NamedTuple):
    """What the start found and removed after a crash."""

    ingests: int  # unfinished ones
    files: list[str]  # digests of files that no row named
    rows: list[str]  # digests of rows whose file was missing


class _Row(msgspec.Struct, frozen=True):
    """The store's document of a blob."""

    size: int  # bytes
    media_type: str
    created_ns: int
    version: int = 1


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(_Row).decode


class ContentStore:
    """Blobs below ``root``. Methods block on the disk; call them from threads, any number at once.

    Opening it removes what a crash left unfinished: see ``swept``. One content store per root at a time.
    """

    def __init__(self, root: str, store: Store, *, sweep: bool = True) -> None:
        """``sweep`` False leaves everything as it was found, for who only wants to look."""
        self._store = store
        self._ingests = os.path.join(root, "ingest")
        self._blobs = os.path.join(root, "blobs")
        self._names = threading.Lock()  # a file and its row appear and go together
        for path in (root, self._ingests, self._blobs, *(os.path.join(self._blobs, name) for name in _ALGORITHMS)):
            os.makedirs(path, 0o700, exist_ok=True)
        store.write_now(lambda t: t.own(root, "content", ""))
        self.swept = self._sweep() if sweep else Swept(0, [], [])

    def ingest(
        self,
        expected_digest: str | None = None,
        expected_size: int | None = None,
        *,
        lease: str | None = None,
        hashed: bool = True,
    ) -> Ingest:
        """Start to write a blob; see :class:`Ingest`. It is hashed by the algorithm of ``expected_digest`` or sha256.

        ``lease`` is an open lease of the store that protects the blob from the moment it is committed. Committing a blob
        that exists replaces its file, which repairs a damaged one. ``hashed`` False is for who hashes the same bytes for
        another reason and tells their digest at the end. Raises InvalidDigest, OSError.
        """

        def keep(path: str, descriptor: Descriptor, durable: bool) -> None:
            self._keep(path, descriptor, lease, durable=durable)

        path = os.path.join(self._ingests, new_id())
        return Ingest(path, keep, expected_digest=expected_digest, expected_size=expected_size, hashed=hashed)

    def partial(self, digest: str, size: int, *, lease: str | None = None) -> Partial:
        """Open a blob that arrives in pieces, with what an earlier attempt left of it; see :class:`Partial`.

        One at a time per digest. Raises InvalidDigest, SizeMismatch beyond BLOB_LIMIT, OSError.
        """
        algorithm, encoded = parse(digest)
        if size > BLOB_LIMIT:
            raise SizeMismatch(BLOB_LIMIT, size)

        def keep(path: str, descriptor: Descriptor, durable: bool) -> None:
            self._keep(path, descriptor, lease, durable=durable)

        return Partial(os.path.join(self._ingests, f"{PREFIX}{algorithm}-{encoded}"), digest, size, keep)

    def partials(self) -> list[tuple[str, int]]:
        """Return the digest and the bytes on disk of each blob that has arrived in part, or is just arriving."""
        found = []
        with os.scandir(self._ingests) as entries:
            for entry in entries:
                if entry.name.startswith(PREFIX) and not entry.name.endswith(MAP):
                    algorithm, _, encoded = entry.name.removeprefix(PREFIX).partition("-")
                    with contextlib.suppress(FileNotFoundError):
                        found.append((f"{algorithm}:{encoded}", entry.stat(follow_symlinks=False).st_blocks * 512))
        return found

    def drop_partials(self, *, keep: Collection[str] = (), older_ns: int = 0) -> int:
        """Remove what interrupted downloads left, but of digests in ``keep`` and what was written after ``older_ns`` ago.

        Returns the bytes freed.
        """
        freed = 0
        before = clock.now_ns() - older_ns
        for digest, size in self.partials():
            algorithm, _, encoded = digest.partition(":")
            path = os.path.join(self._ingests, f"{PREFIX}{algorithm}-{encoded}")
            if digest in keep:
                continue
            try:
                if os.stat(path, follow_symlinks=False).st_mtime_ns > before:
                    continue
            except FileNotFoundError:
                continue
            atomicfile.remove(path)
            atomicfile.remove(path + MAP)
            freed += size
        return freed

    def add(self, data: bytes, media_type: str = "", *, lease: str | None = None) -> str:
        """Store ``data`` and return its digest. Raises SystemFailure when the disk fails."""
        try:
            with self.ingest(of_bytes(data), len(data), lease=lease) as ingest:
                ingest.write(data)
                return ingest.commit(media_type).digest
        except OSError as exc:
            reason = (exc.strerror or str(exc)).lower()
            raise SystemFailure(f"write {exc.filename or self._ingests}: {reason}") from exc

    def protect(self, digest: str, lease: str) -> bool:
        """Put a blob that is here under an open lease; return whether it is here. Raises InvalidDigest."""
        parse(digest)

        def change(transaction: Transaction) -> bool:
            if transaction.get(KIND, digest) is None:
                return False
            transaction.protect(lease, digest)
            return True

        return self._store.write_now(change, durable=False) and os.path.exists(self.path(digest))

    def sync(self) -> None:
        """Make everything durable that was committed with ``durable=False``. Raises OSError."""
        fd = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fs.syncfs(fd)
        finally:
            os.close(fd)

    def lease(self, name: str, *, now_ns: int | None = None) -> None:
        """Open or prolong a lease for an operation whose blobs have no user yet."""
        expires_ns = (clock.now_ns() if now_ns is None else now_ns) + LEASE_NS
        self._store.write_now(lambda t: t.lease(name, expires_ns))

    def path(self, digest: str) -> str:
        """Return where the blob's file is or would be. Raises InvalidDigest."""
        return os.path.join(self._blobs, *parse(digest))

    def descriptor(self, digest: str) -> Descriptor:
        """Return size and media type of the blob. Raises InvalidDigest, BlobNotFound."""
        parse(digest)
        with self._store.read() as transaction:
            document = transaction.get(KIND, digest)
        if document is None:
            raise BlobNotFound(digest)
        row = _decode(document)
        return Descriptor(digest, row.size, row.media_type)

    def size(self, digest: str) -> int:
        """Return the blob's length in bytes. Raises InvalidDigest, BlobNotFound."""
        return self.descriptor(digest).size

    def exists(self, digest: str) -> bool:
        """Return whether the blob is here whole. Raises InvalidDigest."""
        parse(digest)
        with self._store.read() as transaction:
            return transaction.get(KIND, digest) is not None

    def list(self) -> Sequence[Descriptor]:
        """Return all blobs, sorted by digest."""
        with self._store.read() as transaction:
            rows = transaction.list(KIND)
        decoded = ((digest, _decode(document)) for digest, document in rows)
        return [Descriptor(digest, row.size, row.media_type) for digest, row in decoded]

    def open(self, digest: str) -> BinaryIO:
        """Open the blob for reading, unverified; see :meth:`chunks`. Raises InvalidDigest, BlobNotFound."""
        if not self.exists(digest):
            raise BlobNotFound(digest)
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise BlobCorrupted(digest, "its file is missing") from None

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield the blob's bytes in pieces and raise BlobCorrupted at the end if they were not the right ones."""
        hash = hashlib.new(parse(digest)[0])
        with self.open(digest) as file:
            while data := file.read(_CHUNK):
                hash.update(data)
                yield data
        if f"{hash.name}:{hash.hexdigest()}" != digest:
            raise BlobCorrupted(digest, f"it hashes to {hash.hexdigest()}")

    def read_verified(self, digest: str, *, limit: int = DOCUMENT_LIMIT) -> bytes:
        """Return a small blob whole. Raises BlobNotFound, BlobCorrupted, SystemFailure above ``limit`` bytes."""
        size = self.size(digest)
        if size > limit:
            raise SystemFailure(f"content digest {digest} has {size} bytes, more than the {limit} of a document")
        return b"".join(self.chunks(digest))

    def verify(self, digest: str) -> None:
        """Read the whole blob. Raises BlobNotFound, BlobCorrupted."""
        for _ in self.chunks(digest):
            pass

    def delete(self, digest: str) -> None:
        """Remove the blob, whoever uses it; one that is not here is no error. Raises InvalidDigest."""
        path = self.path(digest)
        with self._names:
            self._store.write_now(lambda t: t.delete(KIND, digest))
            atomicfile.remove(path)

    def collect(self, referenced: Collection[str] | Callable[[ReadTransaction], Collection[str]]) -> int:
        """Remove blobs that are neither referenced nor under a lease; return the bytes freed.

        A function is asked inside the transaction that deletes the rows, so that no writer can take up a blob between
        question and deletion; a collection must be known to stay complete meanwhile.
        """

        def change(transaction: Transaction) -> list[tuple[str, int]]:
            now_ns = clock.now_ns()
            transaction.end_expired_leases(now_ns)
            kept = set(referenced(transaction) if callable(referenced) else referenced) | transaction.leased(now_ns)
            gone = [
                (digest, _decode(document).size) for digest, document in transaction.list(KIND) if digest not in kept
            ]
            for digest, _ in gone:
                transaction.delete(KIND, digest)
            return gone

        with self._names:
            gone = self._store.write_now(change)
            for digest, _ in gone:
                atomicfile.remove(self.path(digest))
        return sum(size for _, size in gone)

    def unnamed(self, *, remove: bool = False) -> Sequence[str]:
        """Return the digests of files that no row names, and remove them if asked to."""
        with self._names:
            files = {
                f"{algorithm}:{name}"
                for algorithm in _ALGORITHMS
                for name in _names_in(os.path.join(self._blobs, algorithm))
            }
            with self._store.read() as transaction:
                found = sorted(files - {digest for digest, _ in transaction.list(KIND)})
            for digest in found if remove else ():
                atomicfile.remove(os.path.join(self._blobs, *digest.split(":", 1)))
        return found

    def _keep(self, path: str, descriptor: Descriptor, lease: str | None, *, durable: bool) -> None:
        """Move a finished ingest to its place and write its row."""
        target = self.path(descriptor.digest)
        document = _encode(_Row(descriptor.size, descriptor.media_type, clock.now_ns()))

        def change(transaction: Transaction) -> None:
            transaction.put(KIND, descriptor.digest, document)
            if lease is not None:
                transaction.protect(lease, descriptor.digest)

        with self._names:
            known = self.exists(descriptor.digest)
            os.rename(path, target)
            try:
                if durable:
                    atomicfile.fsync_directory(os.path.dirname(target))
                self._store.write_now(change, durable=durable)
            except BaseException:
                if not known:
                    atomicfile.remove(target)
                raise

    def _sweep(self) -> Swept:
        ingests = [name for name in _names_in(self._ingests) if not name.startswith(PREFIX)]
        for name in ingests:
            atomicfile.remove(os.path.join(self._ingests, name))
        self.drop_partials(older_ns=PARTIAL_NS)
        unnamed = self.unnamed(remove=True)
        with self._store.read() as transaction:
            missing = [digest for digest, _ in transaction.list(KIND) if not os.path.exists(self.path(digest))]
        if missing:
            self._store.write_now(lambda t: [t.delete(KIND, digest) for digest in missing])
        return Swept(len(ingests), list(unnamed), missing)


def _names_in(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries]
