"""Garbage collection while clients push and pull.

One round takes four steps, each in small transactions, so that nobody waits long:

1. retention: tags go that their repository's rules do not keep;
2. manifests go that nobody can want: without a tag, in no index that stays, referrer to nothing that stays, older than the
   grace, and (by policy) untagged by somebody's deletion or all of them;
3. links go that no manifest of their repository refers to, unless somebody touched them within the grace or an upload to
   the repository is under way;
4. blobs go that no repository links, first the row, then the file.

A pull of a tagged image can't fail by this: what its manifest refers to is a row in the same database, checked in the
transaction that deletes. A push can't either: its blobs are touched links until its manifest is there, or its manifest is
refused with the missing blobs' names because the client took longer than the grace between two requests.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from boxship.base import clock, failpoints
from boxship.registry.server.blobs import Blobs
from boxship.registry.server.database import Database
from boxship.registry.server.repositories import Repositories, Tag, remove_manifest
from boxship.registry.server.retention import Rule, expired, rule_for
from boxship.registry.server.uploads import Uploads

log = logging.getLogger("boxship.registry")

BATCH = 200  # rows per transaction
PAGE = 1000
UNTAGGED = ("keep", "deleted", "all")  # which manifests without a tag may go


class Policy(NamedTuple):
    """What the collector may take. Times are seconds."""

    grace: float = 3600.0
    upload_age: float = 7 * 24 * 3600.0
    untagged: str = "deleted"
    rules: Sequence[Rule] = ()
    tag_age: float = math.inf  # of a cache: tags older than that are asked for again

    def before_ns(self) -> int:
        """Return the moment whose older things have had their grace."""
        return clock.now_ns() - int(self.grace * 1e9) if math.isfinite(self.grace) else 0


class Collected(NamedTuple):
    """What one round removed."""

    tags: int = 0
    manifests: int = 0
    links: int = 0
    blobs: int = 0
    bytes: int = 0
    uploads: int = 0


class Collector:
    """Takes away what nobody can reach."""

    def __init__(
        self, database: Database, repositories: Repositories, blobs: Blobs, uploads: Uploads, policy: Policy
    ) -> None:
        self._database = database
        self._repositories = repositories
        self._blobs = blobs
        self._uploads = uploads
        self._policy = policy
        self._lock = asyncio.Lock()
        self.total = Collected()
        self.rounds = 0

    async def run(self, interval: float, *, garbage: bool = True) -> None:
        """Collect every ``interval`` seconds until cancelled; without ``garbage`` only abandoned uploads."""
        while True:
            await asyncio.sleep(interval)
            try:
                done = await self.collect(garbage=garbage)
            except Exception:  # serving goes on whatever happens here
                log.exception("garbage collection failed; the next round tries again")
                continue
            if any(done):
                log.info(
                    "garbage collection: %s", ", ".join(f"{value} {name}" for name, value in done._asdict().items())
                )

    async def collect(self, *, garbage: bool = True) -> Collected:
        """Do one round."""
        async with self._lock:
            uploads = await self._uploads.expire(self._policy.upload_age)
            done = await asyncio.to_thread(self._collect) if garbage else Collected()
            done = done._replace(uploads=uploads)
            self.total = Collected(*(a + b for a, b in zip(self.total, done, strict=True)))
            self.rounds += 1
            return done

    def _collect(self) -> Collected:
        tags = self._retain()
        manifests = self._remove_manifests()
        links = self._remove_links()
        if links:
            failpoints.hit("registry.collect.after-links")
        blobs, size = self._remove_blobs()
        self._blobs.forget_touches(self._policy.grace)
        return Collected(tags, manifests, links, blobs, size)

    def _retain(self) -> int:
        count, after = 0, ""
        if not self._policy.rules and math.isinf(self._policy.tag_age):
            return 0
        while names := self._repositories.names(after=after, limit=PAGE):
            for name in names:
                tags = self._repositories.tags(name, limit=1_000_000) or []
                gone = self._unwanted(name, tags)
                # What moved since it was listed is somebody's new push.
                count += self._drop_tags(name, [tag for tag in tags if tag.name in gone])
            after = names[-1]
        return count

    def _unwanted(self, repository: str, tags: Sequence[Tag]) -> set[str]:
        now_ns = clock.now_ns()
        gone = {tag.name for tag in tags if now_ns - tag.updated_ns > self._policy.tag_age * 1e9}
        rule = rule_for(self._policy.rules, repository)
        return gone if rule is None else gone | set(expired(tags, rule, now_ns))

    def _drop_tags(self, repository: str, tags: Sequence[Tag]) -> int:
        count = 0
        if not tags:
            return 0
        with self._database.write(removing=True) as connection:
            for name, digest, updated_ns in tags:
                count += connection.execute(
                    "DELETE FROM tags WHERE repository = ? AND tag = ? AND digest = ? AND updated_ns = ?",
                    (repository, name, digest, updated_ns),
                ).rowcount
                connection.execute(
                    "UPDATE manifests SET untagged = 1 WHERE repository = ? AND digest = ?", (repository, digest)
                )
        return count

    def _remove_manifests(self) -> int:
        if self._policy.untagged == "keep":
            return 0
        removed = 0
        while True:  # an index's manifests become free when it has gone
            with self._database.write(removing=True) as connection:
                before_ns = self._policy.before_ns()
                rows = connection.execute(
                    _LOOSE_MANIFESTS, (before_ns, self._policy.untagged == "all", BATCH)
                ).fetchall()
                for repository, digest in rows:
                    remove_manifest(connection, repository, digest)
            removed += len(rows)
            if not rows:
                return removed

    def _remove_links(self) -> int:
        busy = {upload.repository for upload in self._uploads.listing() if upload.idle < self._policy.grace}
        before_ns = self._policy.before_ns()
        removed, after = 0, ("", "")
        while True:
            with self._database.read() as connection:
                rows = connection.execute(_LOOSE_LINKS, (*after, BATCH)).fetchall()
            if not rows:
                return removed
            after = rows[-1][:2]
            with self._blobs.removing() as (connection, _):
                for repository, digest, created_ns in rows:
                    if (
                        repository in busy
                        or created_ns > before_ns
                        or self._blobs.is_touched(repository, digest, self._policy.grace)
                    ):
                        continue
                    removed += connection.execute(_DROP_LINK, (repository, digest)).rowcount

    def _remove_blobs(self) -> tuple[int, int]:
        count, size, after = 0, 0, ""
        while True:
            with self._database.read() as connection:
                rows = connection.execute(_LOOSE_BLOBS, (after, BATCH)).fetchall()
            if not rows:
                return count, size
            after = rows[-1][0]
            with self._blobs.removing() as (connection, gone):
                for digest, length in rows:
                    if connection.execute(_DROP_BLOB, (digest,)).rowcount:
                        gone.append(digest)
                        size += length
            count += len(gone)
            time.sleep(0)  # lets the threads of requests have the locks


_LOOSE_MANIFESTS = """
SELECT m.repository, m.digest FROM manifests m WHERE m.created_ns < ?1 AND (m.untagged OR ?2)
  AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = m.repository AND t.digest = m.digest)
  AND NOT EXISTS (SELECT 1 FROM manifest_references r WHERE r.repository = m.repository AND r.digest = m.digest)
  AND NOT EXISTS (SELECT 1 FROM manifests s WHERE m.subject != '' AND s.repository = m.repository AND s.digest = m.subject)
  LIMIT ?3
"""
_UNREFERENCED = (
    "NOT EXISTS (SELECT 1 FROM manifest_references r WHERE r.repository = links.repository AND r.digest = links.digest)"
)
_LOOSE_LINKS = f"""
SELECT repository, digest, created_ns FROM links WHERE (repository, digest) > (?, ?) AND {_UNREFERENCED}
  ORDER BY repository, digest LIMIT ?
"""
_DROP_LINK = f"DELETE FROM links WHERE repository = ? AND digest = ? AND {_UNREFERENCED}"
_LOOSE_BLOBS = """
SELECT digest, size FROM blobs b WHERE digest > ? AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest)
  ORDER BY digest LIMIT ?
"""
_DROP_BLOB = "DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM links WHERE digest = ?1)"
