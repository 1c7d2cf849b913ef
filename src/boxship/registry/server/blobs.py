"""Blobs: files named by digest, and the rows that make them exist.

Theory of operation. A blob comes into being by renaming a whole, synced file to its place and committing its row, and goes
by deleting its row and then the file; both happen under one lock, so that a file taken away is never one that was just put
there. A crash between the two leaves a file without a row, which the next start removes. A row without its file (somebody
deleted it, the disk lost it) is removed at the start too, so that clients upload the blob again.

Between the upload of a blob and the manifest that refers to it, nothing refers to it. Each link is *touched* when a client
was told that the blob is there (commit, mount, HEAD), and garbage collection spares links touched within the grace. Touches
live in memory: a collection after a start waits for the grace, as if all had been touched then.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from boxship.base import atomicfile, clock, failpoints
from boxship.content.digest import parse
from boxship.registry.server.database import Database

_ALGORITHMS = ("sha256", "sha512")


class Repaired(NamedTuple):
    """What the start found after a crash or a loss."""

    files: int  # removed, no row named them
    missing: list[str]  # digests of blobs whose file is gone


class Blobs:
    """Blobs below ``root``; methods block on the disk, any thread may call them."""

    def __init__(self, root: str, database: Database) -> None:
        self._root = root
        self._database = database
        self._lock = threading.Lock()  # rows, files and touches change together
        self._touched: dict[tuple[str, str], float] = {}  # (repository, digest): monotonic
        self._started = time.monotonic()
        for algorithm in _ALGORITHMS:
            os.makedirs(os.path.join(root, algorithm), 0o700, exist_ok=True)
        self.repaired = self._repair()

    def path(self, digest: str) -> str:
        """Return where a blob's file is or would be; ``digest`` is checked by its parser. Raises InvalidDigest."""
        algorithm, encoded = parse(digest)
        return os.path.join(self._root, algorithm, encoded[:2], encoded)

    def offered(self, repository: str, digest: str) -> int | None:
        """Do as :meth:`size` does for a client that may now not upload it: the link is protected for the grace."""
        with self._lock:
            self._touched[repository, digest] = time.monotonic()
        size = self.size(repository, digest)
        if size is None:
            with self._lock:
                self._touched.pop((repository, digest), None)
        return size

    def size(self, repository: str, digest: str) -> int | None:
        """Return a linked blob's bytes, None if the repository does not have it."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT b.size FROM links l JOIN blobs b USING (digest) WHERE l.repository = ? AND l.digest = ?",
                (repository, digest),
            ).fetchone()
        return int(row[0]) if row is not None else None

    def keep(self, repository: str, digest: str, path: str, size: int) -> None:
        """Make the finished file at ``path`` the blob of that digest and link it. The file is on disk already.

        A blob that exists gets the new file, which repairs a damaged one. Raises OSError, sqlite3.Error; then the file at
        ``path`` is gone and nothing has changed.
        """
        target = self.path(digest)
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        with self._lock:
            known = os.path.exists(target)
            os.rename(path, target)
            try:
                atomicfile.fsync_directory(os.path.dirname(target))
                failpoints.hit("registry.blob.before-row")
                with self._database.write() as connection:
                    now_ns = clock.now_ns()
                    connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (digest, size, now_ns))
                    connection.execute("INSERT OR IGNORE INTO links VALUES (?, ?, ?)", (repository, digest, now_ns))
            except BaseException:
                if not known:
                    os.unlink(target)
                raise
            failpoints.hit("registry.blob.after-row")
            self._touched[repository, digest] = time.monotonic()

    def mount(self, repository: str, digest: str) -> bool:
        """Link a blob that another repository has; return whether it was there."""
        with self._lock:
            with self._database.write() as connection:
                if connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone() is None:
                    return False
                now_ns = clock.now_ns()
                connection.execute("INSERT OR IGNORE INTO links VALUES (?, ?, ?)", (repository, digest, now_ns))
            self._touched[repository, digest] = time.monotonic()
        return True

    def sources(self, digest: str) -> list[str]:
        """Return the repositories that have a blob."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT repository FROM links WHERE digest = ? LIMIT 10000", (digest,))
            return [row[0] for row in rows]

    def unlink(self, repository: str, digest: str) -> bool:
        """Take a blob out of a repository; return whether it was there. The collector removes the file."""
        with self._lock:
            self._touched.pop((repository, digest), None)
            with self._database.write(removing=True) as connection:
                done = connection.execute(
                    "DELETE FROM links WHERE repository = ? AND digest = ?", (repository, digest)
                ).rowcount
        return done > 0

    @contextmanager
    def removing(self) -> Iterator[tuple[sqlite3.Connection, list[str]]]:
        """Give a transaction and a list for digests whose rows it deletes; their files go when it is committed."""
        gone: list[str] = []
        with self._lock:
            with self._database.write(removing=True) as connection:
                yield connection, gone
            if gone:
                failpoints.hit("registry.collect.before-files")
            for digest in gone:
                atomicfile.remove(self.path(digest))

    def is_touched(self, repository: str, digest: str, grace: float) -> bool:
        """Return whether a link is still protected; asked inside :meth:`removing`."""
        now = time.monotonic()
        return now - self._touched.get((repository, digest), self._started) < grace

    def assume_untouched(self) -> None:
        """Say that nobody was told anything before this process started: no registry was running."""
        self._started = -math.inf

    def forget_touches(self, grace: float) -> None:
        """Drop the touches that protect nothing any more."""
        with self._lock:
            limit = time.monotonic() - grace
            self._touched = {key: moment for key, moment in self._touched.items() if moment > limit}

    def damaged(self) -> Iterator[str]:
        """Read all blobs and yield the digests of those whose file is no longer what its name says."""
        with self._database.read() as connection:
            digests = [row[0] for row in connection.execute("SELECT digest FROM blobs ORDER BY digest")]
        for digest in digests:
            algorithm, encoded = parse(digest)
            try:
                with open(self.path(digest), "rb") as file:
                    found = hashlib.file_digest(file, algorithm).hexdigest()
            except FileNotFoundError:
                continue  # collected meanwhile
            except OSError:
                found = ""  # the disk can't read it any more
            if found != encoded:
                yield digest

    def forget(self, digests: Sequence[str]) -> None:
        """Remove blobs, whoever refers to them, so that clients upload them again."""
        with self.removing() as (connection, gone):
            for digest in digests:
                connection.execute("DELETE FROM links WHERE digest = ?", (digest,))
                connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
                gone.append(digest)

    def totals(self) -> tuple[int, int]:
        """Return how many blobs there are, and their bytes."""
        with self._database.read() as connection:
            count, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM blobs").fetchone()
        return count, size

    def _repair(self) -> Repaired:
        with self._database.read() as connection:
            rows = {row[0] for row in connection.execute("SELECT digest FROM blobs")}
        removed, found = 0, set()
        for digest, path in self._files():
            if digest in rows:
                found.add(digest)
            else:
                atomicfile.remove(path)
                removed += 1
        missing = sorted(rows - found)
        if missing:
            self.forget(missing)
        return Repaired(removed, missing)

    def _files(self) -> Iterator[tuple[str, str]]:
        for algorithm in _ALGORITHMS:
            top = os.path.join(self._root, algorithm)
            for prefix in sorted(os.listdir(top)):
                folder = os.path.join(top, prefix)
                for name in os.listdir(folder):
                    yield f"{algorithm}:{name}", os.path.join(folder, name)
