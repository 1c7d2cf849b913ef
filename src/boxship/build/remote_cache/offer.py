"""What a cache from elsewhere has, by key (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boxship.build.caching import keys
from boxship.spec.boxship.build_cache import ARCHIVE, CacheDocument, shown
from boxship.spec.oci import Descriptor, InvalidDocument
from boxship.spec.oci.manifest import LAYERS


class Offered(NamedTuple):
    """One result; without ``diff_id`` it is what lies below."""

    diff_id: str
    blob: Descriptor | None  # None: the layer is in an image that is here
    created_ns: int  # nanoseconds since 1970
    description: str


class Offer(NamedTuple):
    """Results by the digests of their keys, archives of cache mounts by name."""

    results: Mapping[str, Offered]
    mounts: Mapping[str, Descriptor]


NOTHING = Offer({}, {})


def of_document(document: CacheDocument, blobs: Sequence[Descriptor] | None, diff_ids: Sequence[str]) -> Offer:
    """Return what a checked document offers; ``blobs`` are the layers as they can be fetched, None if they are here.

    Raises InvalidDocument for layers that there are not, or that are of another type.
    """
    if blobs is not None and len(blobs) != len(diff_ids):
        raise InvalidDocument(f"invalid build cache: {len(blobs)} layers, {len(diff_ids)} diff IDs")
    results: dict[str, Offered] = {}
    for entry in document.entries:
        diff_id, blob = "", None
        if entry.layer >= 0:
            if entry.layer >= len(diff_ids) or not diff_ids[entry.layer]:
                raise InvalidDocument("invalid build cache: a result names a layer that there is not")
            diff_id = diff_ids[entry.layer]
            if blobs is not None:
                blob = _of_type(blobs[entry.layer], LAYERS)
        digest = keys.digest(entry.kind, entry.platform, entry.inputs)
        results.setdefault(digest, Offered(diff_id, blob, entry.created_ns, shown(entry.description)))
    mounts: dict[str, Descriptor] = {}
    for mount in document.mounts:
        if blobs is None or mount.layer >= len(blobs):
            raise InvalidDocument("invalid build cache: a mount names an archive that there is not")
        mounts.setdefault(mount.name, _of_type(blobs[mount.layer], (ARCHIVE,)))
    return Offer(results, mounts)


def _of_type(blob: Descriptor, types: Sequence[str] | frozenset[str]) -> Descriptor:
    if blob.media_type not in types:
        raise InvalidDocument(f"invalid build cache: unexpected media type {blob.media_type[:200]!r}")
    return blob
