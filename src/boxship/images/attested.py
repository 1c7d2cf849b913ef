"""Statements about an image that its index holds: what a build or a registry attached to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from boxship.base.errors import SystemFailure
from boxship.content import BlobNotFound, ContentStore
from boxship.images import indexes
from boxship.images.catalog import find, find_variant, means_id, stored_name
from boxship.images.indexes import ATTESTATION, ATTESTED, IN_TOTO, PREDICATE_TYPE, REFERENCE_TYPE
from boxship.spec.oci import Descriptor, Index, InvalidDocument, Manifest, Platform, parse_manifest
from boxship.spec.oci.document import parse_json
from boxship.store import ReadTransaction, Store


class Statement(NamedTuple):
    """One in-toto statement, verbatim: a JSON object."""

    descriptor: Descriptor
    predicate_type: str
    data: bytes


def statements(
    store: Store, content: ContentStore, ref: str, platform: Platform | None, types: Collection[str] = ()
) -> list[Statement]:
    """Return what is attested about the image that ``ref`` means (for a platform), of the predicate ``types`` (none: all).

    What is damaged or no statement is left out. Blocks. Raises NoSuchImage, NotFound when the image is for other platforms.
    """
    with store.read() as transaction:
        id = find(transaction, ref) if platform is None else find_variant(transaction, ref, platform)
        places = _places(transaction, ref, id)
    for index, manifest in places:
        found = [
            statement
            for descriptor in _attestations(content, index, manifest)
            for statement in _read(content, descriptor, types)
        ]
        if found:
            return found
    return []


def _places(transaction: ReadTransaction, ref: str, id: str) -> list[tuple[str, str]]:
    """Return the indexes that may attest something, with the image's manifest there: the one that a name means, or all by id."""
    digests = indexes.holders(transaction, id)
    if not means_id(ref, id):
        named = indexes.named(transaction, str(stored_name(ref)))
        digests = [named[0]] if named is not None and named[0] in digests else []
    rows = ((digest, indexes.get(transaction, digest)) for digest in digests)
    return [
        (digest, member.manifest)
        for digest, row in rows
        if row is not None
        for member in row.images
        if member.image == id
    ]


def _attestations(content: ContentStore, index: str, manifest: str) -> Sequence[Descriptor]:
    parsed = _manifest(content, index)
    if not isinstance(parsed, Index):
        return ()
    wanted = {ATTESTED: manifest, REFERENCE_TYPE: ATTESTATION}
    return [one for one in parsed.manifests if wanted.items() <= (one.annotations or {}).items()]


def _read(content: ContentStore, descriptor: Descriptor, types: Collection[str]) -> list[Statement]:
    parsed = _manifest(content, descriptor.digest)
    found = []
    for layer in parsed.layers if isinstance(parsed, Manifest) else ():
        said = (layer.annotations or {}).get(PREDICATE_TYPE, "")
        if layer.media_type != IN_TOTO or (types and said and said not in types):
            continue
        try:
            data = content.read_verified(layer.digest)
            document = parse_json(data, "attestation")
        except (BlobNotFound, SystemFailure, InvalidDocument):
            continue
        type = document.get("predicateType") if isinstance(document, dict) else None
        if isinstance(type, str) and (not types or type in types):
            found.append(Statement(layer, type, data))
    return found


def _manifest(content: ContentStore, digest: str) -> Index | Manifest | None:
    try:
        return parse_manifest(content.read_verified(digest))
    except (BlobNotFound, SystemFailure, InvalidDocument):
        return None
