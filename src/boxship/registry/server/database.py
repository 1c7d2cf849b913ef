"""The registry's metadata: one SQLite database, one writer at a time, readers that never wait for it.

Everything that a name leads to is a row here: a manifest's bytes too, so that pushing one is a single transaction. Only
blobs are files, and a row is the only thing that makes a file a blob.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from boxship.base.errors import SystemFailure
from boxship.store.reserve import Reserve

VERSION = 1
IDLE_READERS = 8
TIGHT = 512 * 1024  # bytes free, below which removals get the reserve

_SCHEMA = """
CREATE TABLE repositories (name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE links (
  repository TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs (digest), created_ns INTEGER NOT NULL,
  PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX links_by_digest ON links (digest);
CREATE TABLE documents (digest TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE manifests (
  repository TEXT NOT NULL REFERENCES repositories (name), digest TEXT NOT NULL REFERENCES documents (digest),
  media_type TEXT NOT NULL, size INTEGER NOT NULL, subject TEXT NOT NULL, artifact_type TEXT NOT NULL,
  annotations TEXT NOT NULL, created_ns INTEGER NOT NULL, untagged INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject != '';
CREATE TABLE manifest_references (
  repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
  PRIMARY KEY (repository, manifest, digest),
  FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX references_by_digest ON manifest_references (repository, digest);
CREATE TABLE tags (
  repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, updated_ns INTEGER NOT NULL,
  PRIMARY KEY (repository, tag),
  FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
"""


class Database:
    """SQLite at ``path``; methods may be called from any thread and block. Raises SystemFailure for a foreign file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()  # one writer
        self._readers_lock = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._reserve = Reserve(f"{path}-reserve")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._writer = self._connect()
        try:
            self._prepare()
        except BaseException:
            self._writer.close()
            raise

    def close(self) -> None:
        """Close all files; nothing may be under way."""
        with self._lock, self._readers_lock:
            self._closed = True
            for connection in (self._writer, *self._readers):
                connection.close()
            self._readers.clear()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a consistent snapshot."""
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.rollback()
            with self._readers_lock:
                keep = not self._closed and len(self._readers) < IDLE_READERS
                if keep:
                    self._readers.append(connection)
            if not keep:
                connection.close()

    @contextmanager
    def write(self, *, removing: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the one transaction that may write; it is on disk when the block has ended, or nothing of it is.

        On a full disk the block fails with sqlite3.OperationalError; but one that only removes gets the space that was
        put aside for it.
        """
        with self._lock:
            if removing and self._is_tight():
                self._reserve.release()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            if removing:
                self._reserve.fill()

    def _is_tight(self) -> bool:
        """Return whether the disk has no room for a transaction's log."""
        info = os.statvfs(os.path.dirname(self._path))
        return info.f_bavail * info.f_frsize < TIGHT

    def _prepare(self) -> None:
        try:
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise SystemFailure(f"the database {self._path} has version {version}, this program knows {VERSION}")
            (verdict,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as exc:
            raise SystemFailure(f"the database {self._path} can't be used: {exc}") from exc
        if verdict != "ok":
            raise SystemFailure(f"the database {self._path} is damaged: {verdict}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as exc:
            connection.close()
            raise SystemFailure(f"the database {self._path} can't be used: {exc}") from exc
        return connection
