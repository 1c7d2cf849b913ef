"""Upload sessions: files that grow until their digest is known.

A session is a directory of two files, ``data`` and ``session.json``; how much has arrived is the length of ``data``, so that
a client goes on where it was after any crash of either side. Nothing here is synced before the end: what a power cut damages,
the digest refuses. A session belongs to one repository and one user.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from boxship.content.digest import parse
from boxship.registry.server.blobs import Blobs
from boxship.registry.server.errors import RegistryError, storage_full

PIECE = 1024 * 1024  # bytes hashed and written at once
_READ = 4 * 1024 * 1024
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class _Record(msgspec.Struct, frozen=True):
    """``session.json``."""

    repository: str
    owner: str
    algorithm: str


class Limits(NamedTuple):
    """What uploads may cost."""

    blob: int = sys.maxsize  # bytes
    uploads: int = sys.maxsize  # under way at a time
    user: int = sys.maxsize  # of these, of one user


class Listed(NamedTuple):
    """A session as the collector sees it."""

    id: str
    repository: str
    owner: str
    idle: float  # seconds since anything happened


class Session:
    """One upload; ``offset`` bytes have arrived. Use it while holding ``lock``."""

    def __init__(self, id: str, path: str, record: _Record, offset: int, limit: int) -> None:
        self.id = id
        self.repository = record.repository
        self.owner = record.owner
        self.offset = offset
        self.lock = asyncio.Lock()
        self.ended = False
        self.path = path
        self.data = os.path.join(path, "data")
        self.algorithm = record.algorithm
        self._limit = limit  # bytes
        self._hash = hashlib.new(record.algorithm) if offset == 0 else None  # None: read again at the end

    async def append(self, body: AsyncIterator[bytes], size: int | None) -> None:
        """Add what ``body`` brings; a client that breaks off leaves what has arrived.

        ``size`` is what was announced; RegistryError SIZE_INVALID when it is something else or too much, and then the
        session is back where it was. A full disk ends the session.
        """
        before = self.offset
        if size is not None and before + size > self._limit:
            raise self._too_large()
        pieces = aiter(body)
        broken: Exception | None = None
        fd = await asyncio.to_thread(os.open, self.data, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        buffer = bytearray()
        try:
            while True:
                try:
                    data = await anext(pieces, b"")
                except Exception as exc:  # however the connection ended
                    broken = exc
                    break
                if not data:
                    break
                buffer += data
                if size is not None and self.offset - before + len(buffer) > size:
                    break
                if self.offset + len(buffer) > self._limit:
                    await asyncio.to_thread(self._back_to, fd, before)
                    raise self._too_large()
                if len(buffer) >= PIECE:
                    await asyncio.to_thread(self._write, fd, buffer)
                    buffer = bytearray()
            if broken is None and size is not None and self.offset - before + len(buffer) != size:
                await asyncio.to_thread(self._back_to, fd, before)
                raise RegistryError("SIZE_INVALID", {"announced": size})
            await asyncio.to_thread(self._write, fd, buffer)
        except OSError as exc:
            if exc.errno not in FULL:
                raise
            await asyncio.to_thread(self.discard)
            raise storage_full() from exc
        finally:
            os.close(fd)
        if broken is not None:
            raise broken

    def finish(self, digest: str) -> None:
        """Check the bytes and put them on disk for good. Raises RegistryError DIGEST_INVALID, OSError."""
        algorithm, encoded = parse(digest)
        if self._hash is None or algorithm != self.algorithm:
            self._hash = _hash_file(self.data, algorithm)
            self.algorithm = algorithm
        if self._hash.hexdigest() != encoded:
            raise RegistryError("DIGEST_INVALID", {"digest": digest, "uploaded": self._hash.hexdigest()})
        fd = os.open(self.data, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o400)
            os.fsync(fd)
        finally:
            os.close(fd)

    def discard(self) -> None:
        """Remove the session and what it holds."""
        self.ended = True
        shutil.rmtree(self.path, ignore_errors=True)

    def _too_large(self) -> RegistryError:
        return RegistryError("SIZE_INVALID", message=f"blob is larger than {self._limit} bytes", status=413)

    def _write(self, fd: int, data: bytearray) -> None:
        if self._hash is not None:
            self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                written = os.write(fd, view)
                self.offset += written
                view = view[written:]
        except OSError:
            self._hash = None
            raise

    def _back_to(self, fd: int, offset: int) -> None:
        if offset != self.offset:
            os.ftruncate(fd, offset)
            self.offset, self._hash = offset, None


class Uploads:
    """All sessions below ``root``."""

    def __init__(self, root: str, blobs: Blobs, limits: Limits) -> None:
        self._root = root
        self._blobs = blobs
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        os.makedirs(root, 0o700, exist_ok=True)
        self._owners = {listed.id: listed.owner for listed in self.listing()}  # of all that are under way
        self._counting = threading.Lock()

    def start(self, repository: str, owner: str, algorithm: str = "sha256") -> Session:
        """Begin an upload. Raises RegistryError when the disk is full, TOOMANYREQUESTS when many are under way."""
        id = os.urandom(16).hex()
        with self._counting:
            owners = list(self._owners.values())
            if len(owners) >= self._limits.uploads or owners.count(owner) >= self._limits.user:
                raise RegistryError("TOOMANYREQUESTS", message="too many uploads are under way")
            self._owners[id] = owner
        path = os.path.join(self._root, id)
        record = _Record(repository, owner, algorithm)
        try:
            os.mkdir(path, 0o700)
            with open(os.path.join(path, "data"), "xb"):
                pass
            with open(os.path.join(path, "session.json"), "xb") as file:
                file.write(msgspec.json.encode(record))
        except OSError as exc:
            shutil.rmtree(path, ignore_errors=True)
            del self._owners[id]
            if exc.errno in FULL:
                raise storage_full() from exc
            raise
        session = self._sessions[id] = Session(id, path, record, 0, self._limits.blob)
        return session

    def find(self, id: str, repository: str, owner: str) -> Session:
        """Return a session of this repository and user. Raises RegistryError BLOB_UPLOAD_UNKNOWN."""
        session = self._sessions.get(id) or self._load(id)
        if session is None or session.ended or session.repository != repository or session.owner != owner:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN")
        return session

    async def append(self, session: Session, body: AsyncIterator[bytes], size: int | None) -> None:
        """Add what ``body`` brings; see :meth:`Session.append`."""
        try:
            await session.append(body, size)
        finally:
            if session.ended:
                self.cancel(session)

    def commit(self, session: Session, digest: str) -> None:
        """Make the session's bytes a blob of its repository; it ends, also when the digest is wrong."""
        try:
            session.finish(digest)
            self._blobs.keep(session.repository, digest, session.data, session.offset)
        except OSError as exc:
            if exc.errno in FULL:
                raise storage_full() from exc
            raise
        finally:
            self.cancel(session)

    def cancel(self, session: Session) -> None:
        """End a session and remove what it holds."""
        session.discard()
        self._sessions.pop(session.id, None)
        self._owners.pop(session.id, None)

    def listing(self) -> list[Listed]:
        """Return all sessions, also those of earlier runs."""
        found = []
        for id in os.listdir(self._root):
            path = os.path.join(self._root, id)
            idle = _idle(path)
            if idle is not None:
                record = _read_record(path)
                found.append(Listed(id, record.repository if record else "", record.owner if record else "", idle))
        return found

    async def expire(self, age: float) -> int:
        """Remove sessions that nothing happened to for ``age`` seconds; return how many."""
        count = 0
        for listed in await asyncio.to_thread(self.listing):
            session = self._sessions.get(listed.id)
            if listed.idle < age or (session is not None and session.lock.locked()):
                continue
            if session is not None:
                self.cancel(session)
            else:
                shutil.rmtree(os.path.join(self._root, listed.id), ignore_errors=True)
                self._owners.pop(listed.id, None)
            count += 1
        return count

    def _load(self, id: str) -> Session | None:
        """Take up a session of an earlier run."""
        path = os.path.join(self._root, id)
        record = _read_record(path)
        if record is None:
            return None
        try:
            offset = os.stat(os.path.join(path, "data")).st_size
        except OSError:
            return None
        return self._sessions.setdefault(id, Session(id, path, record, offset, self._limits.blob))


def _idle(path: str) -> float | None:
    """Return the seconds since anything happened to a session, None when it has gone."""
    for name in ("data", ""):  # a session that is just beginning has no data yet
        try:
            return time.time() - os.stat(os.path.join(path, name)).st_mtime
        except OSError:
            continue
    return None


def _read_record(path: str) -> _Record | None:
    try:
        with open(os.path.join(path, "session.json"), "rb") as file:
            return msgspec.json.decode(file.read(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _hash_file(path: str, algorithm: str) -> hashlib._Hash:
    found = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while data := file.read(_READ):
            found.update(data)
    return found
