"""Blobs by digest: ingest, verify, commit, leases, garbage collection.

Owns the files below ``<data-root>/content`` and the store's ``blob`` rows. A row exists only for a blob whose file was
written whole, hashed and fsynced before; a file without a row is a leftover that the next start removes, but for the
parts of interrupted downloads, which are kept for a week. Knows nothing of
images: who uses a blob is told to ``ContentStore.collect``.
"""

from boxship.content.blobs import BlobCorrupted, BlobNotFound, ContentStore
from boxship.content.digest import InvalidDigest, of_bytes, parse
from boxship.content.ingest import Descriptor, DigestMismatch, Ingest, SizeMismatch
from boxship.content.partial import Partial, PartialReader, ReadStopped

__all__ = [
    "BlobCorrupted",
    "BlobNotFound",
    "ContentStore",
    "Descriptor",
    "DigestMismatch",
    "Ingest",
    "InvalidDigest",
    "Partial",
    "PartialReader",
    "ReadStopped",
    "SizeMismatch",
    "of_bytes",
    "parse",
]
