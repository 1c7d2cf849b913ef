"""The build cache: what was built before, by what it was made of.

A record names the layers of a result; they are kept as long as the record is (rows of kind ``layer-use``, see
``images.layers``). Records are all in memory; the store has them too. A record whose layers are gone is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from boxship.base import clock
from boxship.build.caching.keys import BASE, FILES, Key
from boxship.images.model import LAYER, LAYER_USE, decode_layer
from boxship.store import ReadTransaction, Store, Transaction

RECORD = "build-cache"  # kinds of rows
DETAILS = "build-cache-files"

_NAMED = 3  # files that an explanation names


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One result; its id is the key's digest."""

    version: int = 1
    subject: str
    kind: str = ""  # as the key's, "" in records of old keys
    platform: str = ""
    inputs: dict[str, str]
    layers: tuple[str, ...]  # chain IDs, bottom first
    added: bool
    created_ns: int
    size: int = 0  # bytes of the layer that was added
    summary: str = ""
    description: str = ""  # the instruction, for people
    used_ns: int = 0
    uses: int = 0


decode_record = msgspec.json.Decoder(Record).decode
_decode_files = msgspec.json.Decoder(dict[str, str]).decode


class Cache:
    """All records of one engine. Methods that take no transaction do not block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.read() as transaction:
            self._records = {id: decode_record(document) for id, document in transaction.list(RECORD)}

    def find(self, key: Key) -> Record | None:
        """Return the record of a key."""
        return self._records.get(key.digest)

    def record(self, id: str) -> Record | None:
        """Return a record by its id."""
        return self._records.get(id)

    def records(self) -> Mapping[str, Record]:
        """Return all records by id."""
        return dict(self._records)

    def explain(self, key: Key) -> str:
        """Say which input keeps an earlier result from being used; blocks."""
        known = self.records()
        alike = [(id, record) for id, record in known.items() if record.subject == key.subject]
        if not alike:
            beside = [record for record in known.values() if record.inputs.get(BASE) == key.inputs.get(BASE)]
            if not beside:
                return "nothing was built on this base before"
            return f"the instruction is new here; before there was: {max(beside, key=_age).description}"
        id, record = min(alike, key=lambda row: (_distance(row[1], key), -row[1].used_ns))
        changed = [name for name in {**key.inputs, **record.inputs} if record.inputs.get(name) != key.inputs.get(name)]
        said = []
        if BASE in changed:
            said.append("what is below changed")
        if FILES in changed:
            said.append(self._explain_files(id, key))
        said += [f"{name} changed" for name in changed if name not in (BASE, FILES)]
        return "; ".join(said) or "its layers are gone"

    def announce(self, key: Key, record: Record) -> None:
        """Let other builds find a result at once; it is gone with the process unless :meth:`keep` follows."""
        self._records[key.digest] = record

    def withdraw(self, found: Sequence[tuple[Key, Record]]) -> None:
        """Forget what was announced and could not be kept."""
        for key, record in found:
            if self._records.get(key.digest) is record:
                del self._records[key.digest]

    def keep(self, found: Sequence[tuple[Key, Record]], used: Iterable[str]) -> None:
        """Write new records, and that others were used; durable, blocks. Their layers must be held by the caller."""
        now_ns = clock.now_ns()
        new = {key.digest: msgspec.structs.replace(record, used_ns=now_ns, uses=1) for key, record in found}
        for id in set(used) - new.keys():
            if id in self._records:
                before = self._records[id]
                new[id] = msgspec.structs.replace(before, used_ns=now_ns, uses=before.uses + 1)
        details = {key.digest: msgspec.json.encode(key.files) for key, _ in found if key.files}

        def change(transaction: Transaction) -> None:
            for id, record in new.items():
                transaction.put(RECORD, id, msgspec.json.encode(record))
                transaction.put(LAYER_USE, id, msgspec.json.encode(record.layers))
            for id, document in details.items():
                transaction.put(DETAILS, id, document)

        if new:
            self._store.write_now(change, durable=bool(found))
            self._records.update(new)

    def forget(self, ids: Iterable[str]) -> set[str]:
        """Delete records; return the layers that they named, which the caller drops. Blocks."""
        gone = [id for id in ids if id in self._records]

        def change(transaction: Transaction) -> None:
            for id in gone:
                for kind in (RECORD, LAYER_USE, DETAILS):
                    transaction.delete(kind, id)

        if gone:
            self._store.write_now(change)
        return {layer for id in gone for layer in self._records.pop(id).layers}

    def _explain_files(self, id: str, key: Key) -> str:
        with self._store.read() as transaction:
            document = transaction.get(DETAILS, id)
        before = _decode_files(document) if document is not None else {}
        if not before or not key.files:
            return "the files changed"
        said = [f"{name} is new" for name in sorted(key.files.keys() - before.keys())]
        said += [f"{name} is gone" for name in sorted(before.keys() - key.files.keys())]
        said += [f"{name} changed" for name in sorted(key.files) if name in before and before[name] != key.files[name]]
        more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        return ", ".join(said[:_NAMED]) + more or "the files changed"


def missing_layers(transaction: ReadTransaction, record: Record) -> bool:
    """Return whether a layer of the record is not in the store any more."""
    return any(transaction.get(LAYER, chain_id) is None for chain_id in record.layers)


def layer_sizes(transaction: ReadTransaction, chain_ids: Iterable[str]) -> dict[str, int]:
    """Return the bytes of each of the layers."""
    rows = ((chain_id, transaction.get(LAYER, chain_id)) for chain_id in chain_ids)
    return {chain_id: decode_layer(row).size for chain_id, row in rows if row is not None}


def _distance(record: Record, key: Key) -> int:
    return sum(record.inputs.get(name) != key.inputs.get(name) for name in key.inputs.keys() | record.inputs.keys())


def _age(record: Record) -> int:
    return record.used_ns
