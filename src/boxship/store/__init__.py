"""Durable metadata: one SQLite database, transactions with a global revision, names, leases, migrations, change feed.

Owns no meaning: documents are bytes to it. What a kind's document says belongs to the package that writes it.

Words, which a store for several managers keeps too:

object
    ``(kind, id)`` with one document (bytes). ``kind`` is the writer's word ("container", "blob"), ``id`` unique in it.
revision
    One counter for the whole store. Each change set that writes objects or names takes the next number; an object
    carries the revision of its last ``put``. A revision never returns, also not after a restart.
change set
    What one function given to ``write`` did. It is there whole or not at all, and readers see it whole or not at all.
snapshot
    What a read transaction sees: the state at one revision, whatever is written meanwhile.
name
    ``(kind, name)`` held by one id at a time. Claiming a held name fails with the holder's id.
owner
    The object that a directory on disk belongs to. Each directory that Boxship makes has one, so that every byte can be
    explained and a leftover be recognised.
lease
    A promise with an end that some digests are in use although no object names them yet; garbage collection spares them.
quarantine
    Where damaged objects go whose bytes can't be put right; see ``store.quarantine``.
durable
    On disk before the call returns, so that it survives a power cut. A change that is not durable survives the death of
    the process and is never half there, but a power cut may take it (and nothing older) back.
"""

from boxship.store.database import Store
from boxship.store.transaction import Change, CompareFailed, NameTaken, Owner, ReadTransaction, Transaction

__all__ = ["Change", "CompareFailed", "NameTaken", "Owner", "ReadTransaction", "Store", "Transaction"]
