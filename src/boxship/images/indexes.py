"""Images of several platforms under one name: what of an index is here, and which image a name means for a platform.

Theory of operation. A name of kind ``image`` means one image, as ever. When a platform was asked for by name (``pull`` or
``load`` with ``--platform``), the name also gets the kind ``index``: it means the *index* row of that digest, whose
*members* are the index's manifests that are here, each with its image. So it is, too, with an index of one image and what
is attested about it, whatever was asked for. All members stay as long as the row has a name; a
member without a name of its own is no untagged image. The name itself means the member for this host, else the one that
was asked for last. A build with attestations makes an index too; one that gives no name makes one without a name, which
goes with its image. Index, manifests and attestations are kept as blobs, byte for byte, so that they leave with the digests
that they came with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from boxship.images import platform as platforms
from boxship.images.model import IMAGE, decode_image
from boxship.spec.oci import Descriptor, Index, Platform
from boxship.store import ReadTransaction, Transaction

INDEX = "index"  # kind of rows, by the index's digest, and of names: normalised references
ATTESTED = "vnd.docker.reference.digest"  # annotation of an attestation: the manifest that it is about
REFERENCE_TYPE = "vnd.docker.reference.type"
ATTESTATION = "attestation-manifest"  # the one reference type that there is
IN_TOTO = "application/vnd.in-toto+json"  # media type of a statement
PREDICATE_TYPE = "in-toto.io/predicate-type"  # annotation of a statement


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest of an index that is here."""

    manifest: str  # digest of its blob
    image: str = ""  # id; "" for an attestation
    platform: Platform = Platform()  # as the index says
    blobs: tuple[str, ...] = ()  # what an attestation needs beside its manifest


class IndexRow(msgspec.Struct, frozen=True, kw_only=True):
    """The ``index`` row."""

    version: int = 1
    members: tuple[Member, ...]

    @property
    def images(self) -> list[Member]:
        """The members that are images."""
        return [member for member in self.members if member.image]


class Origin(NamedTuple):
    """The index that an image came out of."""

    digest: str
    manifests: Sequence[Descriptor] = ()  # the index's
    members: Sequence[Member] = ()  # what is kept of it; none when no platform was asked for


decode_index = msgspec.json.Decoder(IndexRow).decode
encode = msgspec.json.encode


def get(transaction: ReadTransaction, digest: str) -> IndexRow | None:
    """Return what of the index is here, None when nothing is kept of it."""
    document = transaction.get(INDEX, digest)
    return None if document is None else decode_index(document)


def named(transaction: ReadTransaction, name: str) -> tuple[str, IndexRow] | None:
    """Return the index that a normalised reference means, with its digest."""
    digest = transaction.lookup(INDEX, name)
    row = None if digest is None else get(transaction, digest)
    return None if digest is None or row is None else (digest, row)


def choose(members: Sequence[Member], wanted: Platform) -> Member | None:
    """Return the image among the members that fits the platform best."""
    found = platforms.choose(
        [Descriptor(digest=member.image, size=0, platform=member.platform) for member in members if member.image],
        wanted,
    )
    return next((member for member in members if found is not None and member.image == found.digest), None)


def alone(index: Index) -> Descriptor | None:
    """Return the one image of an index that has nothing else but what is attested about it; None for another index."""
    attested = [one for one in index.manifests if ATTESTED in (one.annotations or {})]
    images = [one for one in index.manifests if one not in attested]
    return images[0] if attested and len(images) == 1 else None


def name_image(transaction: Transaction, name: str, id: str, origin: Origin | None) -> str:
    """Tell which image the name shall mean now that ``id`` came under it, and let it mean the right index.

    ``origin`` is None for an image that came out of no index: then one that it belongs to stays.
    """
    known = named(transaction, name)
    if origin is None:
        if not has(transaction, name, id):
            forget(transaction, name)
        return id
    if known is not None and known[0] != origin.digest:
        forget(transaction, name)
    if not origin.members:
        if not has(transaction, name, id):
            forget(transaction, name)
        return id
    row = get(transaction, origin.digest) or IndexRow(members=())
    added = {member.manifest: member for member in (*row.members, *_beside(transaction, name, origin))}
    added |= {member.manifest: member for member in origin.members}
    members = tuple(added.values())
    transaction.put(INDEX, origin.digest, encode(IndexRow(members=members)))
    transaction.claim(INDEX, name, origin.digest)
    preferred = choose(members, platforms.host())
    return preferred.image if preferred is not None else id


def keep_nameless(transaction: Transaction, id: str, origin: Origin) -> None:
    """Keep the index of an image that came without a name, in place of an earlier one."""
    for digest in nameless(transaction, id):
        if digest != origin.digest:
            transaction.delete(INDEX, digest)
    row = get(transaction, origin.digest) or IndexRow(members=())
    members = {member.manifest: member for member in (*row.members, *origin.members)}
    transaction.put(INDEX, origin.digest, encode(IndexRow(members=tuple(members.values()))))


def nameless(transaction: ReadTransaction, id: str) -> list[str]:
    """Return the digests of the indexes without a name that the image is a member of."""
    return [digest for digest in holders(transaction, id) if not transaction.names_of(INDEX, digest)]


def holders(transaction: ReadTransaction, id: str) -> list[str]:
    """Return the digests of all indexes that the image is a member of."""
    rows = ((digest, decode_index(document)) for digest, document in transaction.list(INDEX))
    return sorted(digest for digest, row in rows if any(member.image == id for member in row.images))


def _beside(transaction: ReadTransaction, name: str, origin: Origin) -> Iterator[Member]:
    """Yield the image that the name means already, if it came out of the same index without a platform being asked for."""
    holder = transaction.lookup(IMAGE, name)
    document = None if holder is None else transaction.get(IMAGE, holder)
    if holder is None or document is None:
        return
    manifest = decode_image(document).manifest
    for descriptor in origin.manifests:
        if manifest and descriptor.digest == manifest:
            yield Member(manifest=manifest, image=holder, platform=descriptor.platform or Platform())


def forget(transaction: Transaction, name: str) -> Sequence[str]:
    """Let the name mean no index; return the images of one that has no name left, which is forgotten."""
    digest = transaction.lookup(INDEX, name)
    if digest is None:
        return ()
    transaction.release(INDEX, name)
    row = get(transaction, digest)
    if row is None or transaction.names_of(INDEX, digest):
        return ()
    transaction.delete(INDEX, digest)
    return [member.image for member in row.images]


def names_of_variants(transaction: ReadTransaction) -> dict[str, list[str]]:
    """Return, for each image that is kept as a member of an index, the names of those indexes."""
    names: dict[str, list[str]] = {}
    for name, digest in transaction.names(INDEX).items():
        names.setdefault(digest, []).append(name)
    found: dict[str, list[str]] = {}
    for digest, document in transaction.list(INDEX):
        for member in decode_index(document).images if digest in names else ():
            found.setdefault(member.image, []).extend(names[digest])
    return found


def drop_image(transaction: Transaction, id: str) -> None:
    """Take an image that is deleted out of all indexes."""
    for digest, document in transaction.list(INDEX):
        row = decode_index(document)
        left = tuple(member for member in row.members if member.image != id)
        if len(left) == len(row.members):
            continue
        transaction.put(INDEX, digest, encode(IndexRow(members=left)))
        if not any(member.image for member in left):
            for name in transaction.names_of(INDEX, digest):
                transaction.release(INDEX, name)
            transaction.delete(INDEX, digest)


def blobs(transaction: ReadTransaction) -> set[str]:
    """Return the digests of the blobs that are kept for indexes."""
    found = set()
    for digest, document in transaction.list(INDEX):
        found.add(digest)
        for member in decode_index(document).members:
            found |= {member.manifest, *member.blobs}
    return found


def has(transaction: ReadTransaction, name: str, id: str) -> bool:
    """Return whether the image is a member of the index that the name means."""
    known = named(transaction, name)
    return known is not None and any(member.image == id for member in known[1].members)


def heir(transaction: ReadTransaction, name: str, id: str) -> str | None:
    """Return the image that the name means when the one with ``id`` goes, None when its index has no other."""
    known = named(transaction, name)
    left = [member for member in known[1].images if member.image != id] if known is not None else []
    if not left:
        return None
    return (choose(left, platforms.host()) or left[0]).image
