"""Damaged objects: put right where the checksum says how, else set aside, so that all others can be used.

A document whose checksum does not fit may have one flipped bit: CRC-32 names it, and up to LONGEST bytes no two or three
flipped bits look like another single one (Koopman, "32-Bit Cyclic Redundancy Codes for Internet Applications", 2002:
Hamming distance 4 up to 91,606 bits). Anything else moves to an object of kind ``quarantine`` that keeps its bytes and
names. Its names are free again, its directories belong to the quarantine and are nobody's leftovers, and what it mentions
stays (:func:`mentioned`) until somebody decides.
"""

import base64
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from boxship.base import clock
from boxship.store.database import Store
from boxship.store.transaction import ReadTransaction, Transaction, checksum

KIND = "quarantine"
LONGEST = 11_000  # bytes of a document in which one bit can be put right
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_TABLE = tuple(zlib.crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256))

Check = Callable[[str, bytes], object]
"""Raise msgspec.ValidationError, ValueError or a BoxshipError when this id can't have this document."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One object that was set aside."""

    kind: str
    id: str
    reason: str
    time_ns: int
    names: Sequence[str]  # what it held
    content: str  # its bytes, base64

    @property
    def document(self) -> bytes:
        """The bytes as they were found."""
        return base64.b64decode(self.content)


class Inspected(NamedTuple):
    """What an inspection did."""

    corrected: Sequence[tuple[str, str]]  # kind and id of those with one wrong bit
    aside: Sequence[Quarantined]


class Damaged(NamedTuple):
    """One object whose document is not as it was put."""

    kind: str
    id: str
    document: bytes  # put right, where that could be
    reason: str  # "" if it could


def inspect(store: Store, checks: Mapping[str, Check]) -> Inspected:
    """Look at every object; correct or set aside the damaged ones. Blocks; raises SystemFailure when it can't write.

    ``checks`` has for some kinds what a document with a right checksum must still fulfil.
    """
    found = damaged(store, checks)
    if not found:
        return Inspected((), ())

    def change(transaction: Transaction) -> Inspected:
        corrected, aside = [], []
        for kind, id, document, reason in found:
            if not reason:
                transaction.put(kind, id, document)
                corrected.append((kind, id))
                continue
            names = transaction.names_of(kind, id)
            for name in names:
                transaction.release(kind, name)
            content = base64.b64encode(document).decode()
            row = Quarantined(kind=kind, id=id, reason=reason, time_ns=clock.now_ns(), names=names, content=content)
            transaction.delete(kind, id)
            transaction.put(KIND, f"{kind}/{id}", msgspec.json.encode(row))
            for owner in transaction.owners():
                if (owner.kind, owner.id) == (kind, id):
                    transaction.own(owner.path, KIND, f"{kind}/{id}")
            aside.append(row)
        return Inspected(corrected, aside)

    return store.write_now(change)


def damaged(store: Store, checks: Mapping[str, Check]) -> list[Damaged]:
    """Return what :func:`inspect` would change."""
    with store.read() as transaction:
        judged = (_judge(*row, checks) for row in transaction.documents())
        return [row for row in judged if row is not None]


def quarantined(transaction: ReadTransaction, kind: str | None = None) -> list[Quarantined]:
    """Return what was set aside, of one kind or of all."""
    rows = [msgspec.json.decode(document, type=Quarantined) for _, document in transaction.list(KIND)]
    return [row for row in rows if kind in (None, row.kind)]


def mentioned(transaction: ReadTransaction) -> set[str]:
    """Return the digests that documents in quarantine name, as far as they can be read."""
    return {
        found.decode()
        for row in quarantined(transaction)
        for found in (*_DIGEST.findall(row.document), row.id.encode())
    }


def discard(transaction: Transaction, row: Quarantined) -> None:
    """Give up an object in quarantine: its directories become leftovers of their kind again."""
    key = f"{row.kind}/{row.id}"
    transaction.delete(KIND, key)
    for owner in transaction.owners():
        if (owner.kind, owner.id) == (KIND, key):
            transaction.own(owner.path, row.kind, row.id)


def corrected(kind: str, id: str, document: bytes, crc: int) -> bytes | None:
    """Return the document with the one bit put right that explains its checksum, or None."""
    syndrome = checksum(kind, id, document) ^ crc
    if syndrome.bit_count() == 1:  # the stored checksum itself
        return document
    if len(document) > LONGEST:
        return None
    effects = [_TABLE[1 << bit] for bit in range(8)]  # of flipping each bit of the byte that is looked at
    for position in range(len(document) - 1, -1, -1):
        if syndrome in effects:
            right = bytearray(document)
            right[position] ^= 1 << effects.index(syndrome)
            return bytes(right)
        effects = [_TABLE[effect & 0xFF] ^ (effect >> 8) for effect in effects]
    return None


def _judge(kind: str, id: str, document: bytes, crc: int, checks: Mapping[str, Check]) -> Damaged | None:
    sound = checksum(kind, id, document) == crc
    right = document if sound else corrected(kind, id, document, crc)
    if right is None:
        return Damaged(kind, id, document, "it does not have its checksum")
    if kind in checks:
        try:
            checks[kind](id, right)
        except Exception as exc:  # whatever a parser raises: it is reported
            return Damaged(kind, id, document, str(exc) or type(exc).__name__)
    return None if sound else Damaged(kind, id, right, "")
