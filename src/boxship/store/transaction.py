"""Read and write transactions over one SQLite connection."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from boxship.base.errors import Conflict, NotFound, SystemFailure

EVENTS_KEPT = 10_000
DELETIONS_KEPT = 10_000


class Owner(NamedTuple):
    """The object a directory on disk belongs to."""

    path: str
    kind: str
    id: str


class Change(NamedTuple):
    """One object's newest change: it was put or deleted at ``revision``."""

    revision: int
    kind: str
    id: str
    deleted: bool


class NameTaken(Conflict):
    """Another object holds the name."""

    def __init__(self, kind: str, name: str, holder_id: str) -> None:
        super().__init__(f"The {kind} name {name!r} is already in use by {holder_id}")
        self.kind = kind
        self.name = name
        self.holder_id = holder_id


class CompareFailed(Conflict):
    """The object is not at the revision that the writer had read."""

    def __init__(self, kind: str, id: str, expected: int, found: int) -> None:
        super().__init__(f"{kind} {id} changed meanwhile: revision {found}, expected {expected}")
        self.expected = expected
        self.found = found


class ReadTransaction:
    """The state at one revision; see ``Store.read``. Use it in one thread at a time and only inside its ``with``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.revision: int = connection.execute("SELECT revision FROM state").fetchone()[0]

    def get(self, kind: str, id: str) -> bytes | None:
        """Return the object's document, or None. Raises SystemFailure when its bytes are not those that were put."""
        row = self._connection.execute(
            "SELECT document, crc FROM objects WHERE kind = ? AND id = ?", (kind, id)
        ).fetchone()
        return None if row is None else _checked(kind, id, *row)

    def list(self, kind: str) -> list[tuple[str, bytes]]:
        """Return ``(id, document)`` of all objects of the kind, sorted by id."""
        rows = self._connection.execute("SELECT id, document, crc FROM objects WHERE kind = ? ORDER BY id", (kind,))
        return [(id, _checked(kind, id, document, crc)) for id, document, crc in rows]

    def documents(self) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield kind, id, document and stored checksum of all objects, whether they fit or not."""
        yield from self._connection.execute("SELECT kind, id, document, crc FROM objects ORDER BY kind, id")

    def revision_of(self, kind: str, id: str) -> int:
        """Return the revision of the object's last ``put``, 0 if there is no such object."""
        row = self._connection.execute("SELECT revision FROM objects WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return 0 if row is None else int(row[0])

    def lookup(self, kind: str, name: str) -> str | None:
        """Return the id that holds the name, or None."""
        row = self._connection.execute("SELECT id FROM names WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if row is None else str(row[0])

    def names(self, kind: str) -> dict[str, str]:
        """Return all names of the kind with their holders' ids."""
        return dict(self._connection.execute("SELECT name, id FROM names WHERE kind = ? ORDER BY name", (kind,)))

    def names_of(self, kind: str, id: str) -> Sequence[str]:
        """Return the names that one id holds, sorted."""
        rows = self._connection.execute("SELECT name FROM names WHERE kind = ? AND id = ? ORDER BY name", (kind, id))
        return [name for (name,) in rows]

    def owner(self, path: str) -> Owner | None:
        """Return who owns the directory, or None."""
        row = self._connection.execute("SELECT path, kind, id FROM owners WHERE path = ?", (path,)).fetchone()
        return None if row is None else Owner(*row)

    def owners(self) -> Sequence[Owner]:
        """Return all directories with their owners, sorted by path."""
        return [Owner(*row) for row in self._connection.execute("SELECT path, kind, id FROM owners ORDER BY path")]

    def events(
        self, *, after: int = 0, since_ns: int = 0, until_ns: int = 0, limit: int = 0
    ) -> Sequence[tuple[int, bytes]]:
        """Return ``(number, document)`` of past events in the order they were appended.

        Only those numbered above ``after``. ``since_ns`` and ``until_ns`` are inclusive bounds (0: none); ``limit`` ends
        the list after so many (0: all).
        """
        return self._connection.execute(
            "SELECT number, document FROM events WHERE number > ? AND time_ns >= ? AND time_ns <= ? ORDER BY number LIMIT ?",
            (after, since_ns, until_ns or 2**63 - 1, limit or -1),
        ).fetchall()

    def last_event(self) -> int:
        """Return the highest number that an event ever had, 0 before the first."""
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return 0 if row is None else int(row[0])

    def leased(self, now_ns: int) -> set[str]:
        """Return the digests that leases protect which have not expired at ``now_ns``."""
        rows = self._connection.execute(
            "SELECT digest FROM leased JOIN leases ON lease = name WHERE expires_ns > ?", (now_ns,)
        )
        return {digest for (digest,) in rows}

    def changes(self, since_revision: int) -> Sequence[Change]:
        """Return each object changed after ``since_revision`` once, at its newest change, in the order of revisions.

        Raises Conflict when deletions of that time are forgotten: the caller lists anew and goes on from ``revision``.
        """
        (compacted,) = self._connection.execute("SELECT compacted FROM state").fetchone()
        if since_revision < compacted:
            raise Conflict(f"changes since revision {since_revision} are no longer known (oldest: {compacted})")
        rows = self._connection.execute(
            "SELECT revision, kind, id, 0 FROM objects WHERE revision > ?1"
            " UNION ALL SELECT revision, kind, id, 1 FROM deletions WHERE revision > ?1 ORDER BY 1, 2, 3",
            (since_revision,),
        )
        return [Change(revision, kind, id, bool(deleted)) for revision, kind, id, deleted in rows]


class Transaction(ReadTransaction):
    """One change set; see ``Store.write``. Its reads see its own writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._counted = False

    def put(self, kind: str, id: str, document: bytes, *, expected: int | None = None) -> None:
        """Create or replace the object.

        ``expected`` is the revision it must have now (0: it must not exist), else CompareFailed is raised.
        """
        if expected is not None:
            found = self.revision_of(kind, id)
            if found != expected:
                raise CompareFailed(kind, id, expected, found)
        self._count()
        self._connection.execute(
            "INSERT INTO objects (kind, id, revision, crc, document) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE"
            " SET revision = excluded.revision, crc = excluded.crc, document = excluded.document",
            (kind, id, self.revision, checksum(kind, id, document), document),
        )
        self._connection.execute("DELETE FROM deletions WHERE kind = ? AND id = ?", (kind, id))

    def delete(self, kind: str, id: str) -> bool:
        """Delete the object and return whether there was one. Its names and owner rows stay."""
        deleted = self._connection.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, id)).rowcount > 0
        if deleted:
            self._count()
            self._connection.execute("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?)", (kind, id, self.revision))
            self._forget_old_deletions()
        return deleted

    def claim(self, kind: str, name: str, id: str) -> None:
        """Give the name to ``id``; it may hold it already. Raises NameTaken when another id does."""
        holder = self.lookup(kind, name)
        if holder == id:
            return
        if holder is not None:
            raise NameTaken(kind, name, holder)
        self._count()
        self._connection.execute("INSERT INTO names VALUES (?, ?, ?)", (kind, name, id))

    def release(self, kind: str, name: str) -> bool:
        """Free the name and return whether anyone held it."""
        released = self._connection.execute("DELETE FROM names WHERE kind = ? AND name = ?", (kind, name)).rowcount > 0
        if released:
            self._count()
        return released

    def move(self, kind: str, name: str, new_name: str) -> None:
        """Let the holder of ``name`` hold ``new_name`` instead. Raises NotFound, NameTaken."""
        holder = self.lookup(kind, name)
        if holder is None:
            raise NotFound(f"No such {kind}: {name}")
        self.claim(kind, new_name, holder)
        if new_name != name:
            self.release(kind, name)

    def own(self, path: str, kind: str, id: str) -> None:
        """Record who the directory belongs to; a second call replaces the first."""
        self._connection.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?)", (path, kind, id))

    def disown(self, path: str) -> None:
        """Forget the directory, after it is gone."""
        self._connection.execute("DELETE FROM owners WHERE path = ?", (path,))

    def append_event(self, number: int, time_ns: int, document: bytes) -> None:
        """Append to the history, of which the newest 10,000 events are kept. ``number`` is above all earlier ones."""
        self._connection.execute(
            "INSERT INTO events (number, time_ns, document) VALUES (?, ?, ?)", (number, time_ns, document)
        )
        self._connection.execute(
            "DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (EVENTS_KEPT,),
        )

    def forget_events(self, before_ns: int) -> None:
        """Delete the events of before a moment from the history."""
        self._connection.execute("DELETE FROM events WHERE time_ns < ?", (before_ns,))

    def lease(self, name: str, expires_ns: int) -> None:
        """Open a lease, or move the end of an open one."""
        self._connection.execute(
            "INSERT INTO leases VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET expires_ns = excluded.expires_ns",
            (name, expires_ns),
        )

    def protect(self, lease: str, digest: str) -> None:
        """Put a digest under an open lease. Raises NotFound when the lease is not open."""
        if self._connection.execute("SELECT 1 FROM leases WHERE name = ?", (lease,)).fetchone() is None:
            raise NotFound(f"No such lease: {lease}")
        self._connection.execute("INSERT OR IGNORE INTO leased VALUES (?, ?)", (lease, digest))

    def end_lease(self, name: str) -> None:
        """Close a lease; a lease that is not open is no error."""
        self._connection.execute("DELETE FROM leases WHERE name = ?", (name,))

    def end_expired_leases(self, now_ns: int) -> None:
        """Close the leases that expired at ``now_ns``."""
        self._connection.execute("DELETE FROM leases WHERE expires_ns <= ?", (now_ns,))

    def _count(self) -> None:
        """Take the next revision, once per change set."""
        if not self._counted:
            self._counted = True
            self.revision += 1
            self._connection.execute("UPDATE state SET revision = ?", (self.revision,))

    def _forget_old_deletions(self) -> None:
        row = self._connection.execute(
            "SELECT revision FROM deletions ORDER BY revision DESC LIMIT 1 OFFSET ?", (DELETIONS_KEPT,)
        ).fetchone()
        if row is not None:
            self._connection.execute("DELETE FROM deletions WHERE revision <= ?", row)
            self._connection.execute("UPDATE state SET compacted = ?", row)


def checksum(kind: str, id: str, document: bytes) -> int:
    """Return what the row of an object has as its ``crc``."""
    return zlib.crc32(document, zlib.crc32(f"{kind}\0{id}\0".encode()))


def _checked(kind: str, id: str, document: bytes, crc: int) -> bytes:
    """Return the document if it is what was put: SQLite itself does not notice flipped bits inside a page."""
    if checksum(kind, id, document) != crc:
        raise SystemFailure(f"the database is damaged: {kind} {id} does not have its checksum")
    return document
