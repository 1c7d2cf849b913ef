"""Repositories, manifests and tags: the rows behind every name. Methods block on the database."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from boxship.base import clock, failpoints
from boxship.content.digest import parse
from boxship.registry.server.database import Database
from boxship.registry.server.documents import Document
from boxship.registry.server.errors import RegistryError


class Manifest(NamedTuple):
    """A manifest as it was pushed."""

    digest: str
    media_type: str
    body: bytes


class Entry(NamedTuple):
    """A manifest in a list: of referrers, of a repository."""

    digest: str
    media_type: str
    size: int  # bytes
    artifact_type: str
    annotations: dict[str, str]


class Tag(NamedTuple):
    """A tag and what it points at."""

    name: str
    digest: str
    updated_ns: int


class Repositories:
    """All names of the registry. A repository exists as long as it has a manifest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exists(self, repository: str) -> bool:
        """Return whether there is such a repository."""
        with self._database.read() as connection:
            return _exists(connection, repository)

    def names(self, *, after: str = "", limit: int, containing: str = "") -> list[str]:
        """Return names in order, after ``after``."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM repositories WHERE name > ? AND instr(name, ?) ORDER BY name LIMIT ?"
                if containing
                else "SELECT name FROM repositories WHERE name > ? AND ? = '' ORDER BY name LIMIT ?",
                (after, containing, limit),
            )
            return [row[0] for row in rows]

    def find(self, repository: str, reference: str) -> Manifest | None:
        """Return the manifest of a digest or tag, both checked."""
        with self._database.read() as connection:
            digest = reference
            if ":" not in reference:
                row = connection.execute(
                    "SELECT digest FROM tags WHERE repository = ? AND tag = ?", (repository, reference)
                ).fetchone()
                if row is None:
                    return None
                digest = row[0]
            row = connection.execute(
                "SELECT m.media_type, d.body FROM manifests m JOIN documents d USING (digest)"
                " WHERE m.repository = ? AND m.digest = ?",
                (repository, digest),
            ).fetchone()
        return Manifest(digest, row[0], row[1]) if row is not None else None

    def put(
        self,
        repository: str,
        digest: str,
        body: bytes,
        document: Document,
        tags: Sequence[str],
        *,
        complete: bool = True,
    ) -> bool:
        """Add a manifest and point tags at it, in one transaction; return whether it is new.

        ``complete`` asks for everything that it refers to. Raises RegistryError: DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN,
        MANIFEST_INVALID when a blob has another size than stated.
        """
        check_body(body, digest)
        now_ns = clock.now_ns()
        with self._database.write() as connection:
            if complete:
                _check_references(connection, repository, document)
            connection.execute("INSERT OR IGNORE INTO repositories VALUES (?, ?)", (repository, now_ns))
            connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (digest, body))
            new = connection.execute(
                "INSERT OR IGNORE INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    repository,
                    digest,
                    document.media_type,
                    len(body),
                    document.subject,
                    document.artifact_type,
                    json.dumps(document.annotations),
                    now_ns,
                ),
            ).rowcount
            connection.executemany(
                "INSERT OR IGNORE INTO manifest_references VALUES (?, ?, ?, ?)",
                [(repository, digest, item.digest, item.kind) for item in document.references],
            )
            connection.execute(
                "UPDATE manifests SET untagged = 0, created_ns = ? WHERE repository = ? AND digest = ?",
                (now_ns, repository, digest),
            )
            for tag in tags:
                connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?)", (repository, tag, digest, now_ns))
        failpoints.hit("registry.manifest.after-row")
        return bool(new)

    def delete(self, repository: str, digest: str) -> list[str] | None:
        """Remove a manifest with the tags that point at it; return those, None if there is no such manifest."""
        with self._database.write(removing=True) as connection:
            tags = [
                row[0]
                for row in connection.execute(
                    "SELECT tag FROM tags WHERE repository = ? AND digest = ?", (repository, digest)
                )
            ]
            return tags if remove_manifest(connection, repository, digest) else None

    def untag(self, repository: str, tags: Sequence[str]) -> list[str]:
        """Remove tags, not what they point at; return those that were there.

        A manifest that lost its last tag this way is marked: the collector may take it, other than one whose tag moved on.
        """
        gone = []
        with self._database.write(removing=True) as connection:
            for tag in tags:
                row = connection.execute(
                    "DELETE FROM tags WHERE repository = ? AND tag = ? RETURNING digest", (repository, tag)
                ).fetchone()
                if row is None:
                    continue
                gone.append(tag)
                connection.execute(
                    "UPDATE manifests SET untagged = 1 WHERE repository = ?1 AND digest = ?2"
                    " AND NOT EXISTS (SELECT 1 FROM tags WHERE repository = ?1 AND digest = ?2)",
                    (repository, row[0]),
                )
        return gone

    def tags(self, repository: str, *, after: str = "", limit: int) -> list[Tag] | None:
        """Return tags in order, after ``after``; None if there is no such repository."""
        with self._database.read() as connection:
            if not _exists(connection, repository):
                return None
            rows = connection.execute(
                "SELECT tag, digest, updated_ns FROM tags WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?",
                (repository, after, limit),
            )
            return [Tag(*row) for row in rows]

    def referrers(
        self, repository: str, subject: str, *, artifact_type: str = "", after: str = "", limit: int
    ) -> list[Entry]:
        """Return the manifests whose subject is this digest, in order of their own."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT digest, media_type, size, artifact_type, annotations FROM manifests"
                " WHERE repository = ? AND subject = ? AND subject != '' AND digest > ?"
                " AND (?4 = '' OR artifact_type = ?4) ORDER BY digest LIMIT ?",
                (repository, subject, after, artifact_type, limit),
            )
            return [Entry(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows]

    def counts(self) -> tuple[int, int, int]:
        """Return how many repositories, manifests and tags there are."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM repositories), (SELECT count(*) FROM manifests), (SELECT count(*) FROM tags)"
            ).fetchone()
        return row[0], row[1], row[2]


def check_body(body: bytes, digest: str) -> None:
    """Check a manifest against its digest. Raises RegistryError DIGEST_INVALID."""
    algorithm, encoded = parse(digest)
    if hashlib.new(algorithm, body).hexdigest() != encoded:
        raise RegistryError("DIGEST_INVALID", {"digest": digest})


def remove_manifest(connection: sqlite3.Connection, repository: str, digest: str) -> bool:
    """Remove a manifest, its tags, its document and its repository where it was the last; return whether it was there.

    What may have been there for this manifest only (platforms of an index, signatures) is marked for the collector.
    """
    connection.execute(
        "UPDATE manifests SET untagged = 1 WHERE repository = ?1 AND (subject = ?2 OR digest IN"
        " (SELECT digest FROM manifest_references WHERE repository = ?1 AND manifest = ?2))"
        " AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = ?1 AND t.digest = manifests.digest)",
        (repository, digest),
    )
    done = connection.execute(
        "DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, digest)
    ).rowcount
    if not done:
        return False
    connection.execute(
        "DELETE FROM documents WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)", (digest,)
    )
    connection.execute(
        "DELETE FROM repositories WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM manifests WHERE repository = ?1)",
        (repository,),
    )
    return True


def _exists(connection: sqlite3.Connection, repository: str) -> bool:
    return connection.execute("SELECT 1 FROM repositories WHERE name = ?", (repository,)).fetchone() is not None


def _check_references(connection: sqlite3.Connection, repository: str, document: Document) -> None:
    unknown = []
    for item in document.references:
        row = connection.execute(
            "SELECT b.size FROM links l JOIN blobs b USING (digest) WHERE l.repository = ?1 AND l.digest = ?2"
            " UNION ALL SELECT size FROM manifests WHERE repository = ?1 AND digest = ?2",
            (repository, item.digest),
        ).fetchone()
        if row is None:
            if item.required:
                unknown.append(item.digest)
        elif row[0] != item.size:
            raise RegistryError("MANIFEST_INVALID", f"{item.digest} has {row[0]} bytes, not {item.size}")
    if unknown:
        raise RegistryError("MANIFEST_BLOB_UNKNOWN", {"digests": unknown})
