"""Tables of the database and the way from each older format to the newest one.

``PRAGMA user_version`` holds the format: the number of migrations that ran. A released migration is never edited; a
change of the tables is a new one at the end.
"""

import sqlite3
from collections.abc import Sequence

from boxship.base.errors import SystemFailure

APPLICATION_ID = 0x426F7853  # "BoxS", what file(1) and we recognise the database by

_FIRST = (
    # One row. `compacted` is the newest revision whose deletions may be forgotten.
    "CREATE TABLE state (revision INTEGER NOT NULL, compacted INTEGER NOT NULL)",
    "INSERT INTO state VALUES (0, 0)",
    """CREATE TABLE objects (
        kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, crc INTEGER NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (kind, id))""",
    "CREATE INDEX objects_by_revision ON objects (revision)",
    """CREATE TABLE deletions (
        kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID""",
    "CREATE INDEX deletions_by_revision ON deletions (revision)",
    """CREATE TABLE names (
        kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID""",
    "CREATE INDEX names_by_id ON names (kind, id)",
    "CREATE TABLE owners (path TEXT PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, document BLOB NOT NULL)",
    "CREATE INDEX events_by_time ON events (time_ns)",
    "CREATE TABLE leases (name TEXT PRIMARY KEY, expires_ns INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE leased (
        lease TEXT NOT NULL REFERENCES leases (name) ON DELETE CASCADE, digest TEXT NOT NULL,
        PRIMARY KEY (lease, digest)) WITHOUT ROWID""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the database to the newest format, each step in one transaction.

    A step that fails is rolled back whole. Raises SystemFailure for that, for a file that is another program's database
    and for a format newer than ours.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application not in (0, APPLICATION_ID):
        raise SystemFailure(f"{path} is not a Boxship database (application id {application:#x})")
    if version > len(migrations):
        raise SystemFailure(
            f"{path} was written by a newer Boxship (format {version}, this one knows up to {len(migrations)}): "
            "install that version again, or give another --data-root"
        )
    for number, statements in enumerate(migrations[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise SystemFailure(f"{path}: migration to format {number} failed, nothing was changed: {exc}") from exc
