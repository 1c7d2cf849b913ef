"""Blobs and manifests into a repository (distribution-spec, "Push").

A blob is looked for, then mounted from a repository of the same registry that is known to have it, then uploaded in one
request. An upload that breaks off is asked how far it came and continued in chunks from there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from enum import Enum
from typing import Protocol
from urllib.parse import urljoin

from boxship.registry.client.errors import Denied, Misbehaved, Mismatch, RegistryError, Unreachable
from boxship.registry.client.repository import Document, Patience, Repository, escape, retry
from boxship.registry.client.session import Answer, origin, shown
from boxship.spec.oci import check_digest

_PIECE = 1024 * 1024
CHUNK = 32 * 1024 * 1024  # bytes of one request when an upload is continued
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_TOO_LARGE = 413


class Pushed(Enum):
    """How a blob came to be there."""

    EXISTS = "exists"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class Source(Protocol):
    """The bytes of a blob; ``read`` blocks."""

    @property
    def size(self) -> int:
        """Bytes of all."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``, none at the end."""


class BlobPusher:
    """Brings one blob to a repository."""

    def __init__(
        self, repository: Repository, digest: str, source: Source, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        self._repository = repository
        self._digest = check_digest(digest)
        self._source = source
        self._observe = observe

    async def run(self, mount_from: Sequence[str] = ()) -> tuple[Pushed, str]:
        """Return how the blob got there, and from which of the repositories ``mount_from`` if it was mounted.

        Raises Denied, Unreachable after as many attempts as the settings allow, and other RegistryErrors.
        """
        repository = self._repository
        timeouts, attempts = repository.session.timeouts, repository.session.settings.attempts
        if await retry(lambda: repository.blob_exists(self._digest), attempts, timeouts):
            return Pushed.EXISTS, ""
        location = ""
        for other in mount_from:
            location = await self._mount(other)
            if not location:
                return Pushed.MOUNTED, other
            break  # a session was opened: one is enough
        await self._upload(location)
        return Pushed.UPLOADED, ""

    async def _mount(self, other: str) -> str:
        """Return "" when the blob was mounted, else where it can be uploaded."""
        path = f"/blobs/uploads/?mount={escape(self._digest)}&from={escape(other)}"
        scopes = self._repository.scopes(push=True, mount_from=other)
        try:
            async with self._repository.call("POST", path, body=b"", scopes=scopes) as answer:
                return "" if answer.status == 201 else _location(answer)
        except Denied:
            return await self._begin()  # of the other repository: this one is asked without it

    async def _begin(self) -> str:
        async with self._repository.call("POST", "/blobs/uploads/", body=b"", push=True) as answer:
            return _location(answer)

    async def _upload(self, location: str) -> None:
        session = self._repository.session
        patience = Patience(session.settings.attempts, session.timeouts)
        offset, refused, chunked = 0, False, False
        while True:
            location = location or await self._begin()
            try:
                if not offset and not chunked:
                    await self._finish(location, 0)
                    return
                while self._source.size - offset > 0 and chunked:
                    end = min(offset + CHUNK, self._source.size)
                    location = await self._chunk(location, offset, end)
                    offset = end
                await self._finish(location, offset)
                return
            except Unreachable as exc:
                await patience.again(exc)
            except RegistryError as exc:
                expired = isinstance(exc, Denied) and exc.status == 401
                if refused or not (expired or exc.status in (404, 416, _TOO_LARGE)):
                    raise
                refused = True
            chunked = True
            location, offset = await self._progress(location)

    async def _finish(self, location: str, offset: int) -> None:
        """Send what is left and close the upload."""
        url = f"{location}{'&' if '?' in location else '?'}digest={escape(self._digest)}"
        left = self._source.size - offset
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(left)}
        body = self._pieces(offset, self._source.size) if left else b""
        async with self._repository.call("PUT", url, headers=headers, body=body, push=True) as answer:
            stated = answer.headers.get("Docker-Content-Digest", self._digest)
        if stated != self._digest:
            raise Mismatch(f"the registry stored {stated[:200]} in place of {self._digest}")

    async def _chunk(self, location: str, start: int, end: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
        }
        body = self._pieces(start, end)
        async with self._repository.call("PATCH", location, headers=headers, body=body, push=True) as answer:
            return _location(answer)

    async def _progress(self, location: str) -> tuple[str, int]:
        """Return where a broken upload goes on, and from which offset; ("", 0) when it has to begin anew."""
        try:
            async with self._repository.call("GET", location, push=True) as answer:
                match = _RANGE.fullmatch(answer.headers.get("Range", ""))
                here = int(match[1]) + 1 if match is not None else 0
                if 1 < here <= self._source.size:
                    return _location(answer), here
        except RegistryError:
            pass
        return "", 0

    async def _pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            piece = await asyncio.to_thread(self._source.read, start, min(_PIECE, end - start))
            if not piece:
                raise Mismatch(f"{self._digest} is shorter than {self._source.size} bytes")
            yield piece
            start += len(piece)
            self._observe(start)


class Memory:
    """A small blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``."""
        return self._data[offset : offset + size]


async def put_manifest(repository: Repository, reference: str, document: Document) -> None:
    """Store a manifest or index under a tag or digest. Raises Mismatch when the registry names it otherwise."""
    headers = {"Content-Type": document.media_type}
    path = f"/manifests/{reference}"

    async def put() -> str:
        async with repository.call("PUT", path, headers=headers, body=document.data, push=True) as answer:
            return answer.headers.get("Docker-Content-Digest", document.digest)

    stated = await retry(put, repository.session.settings.attempts, repository.session.timeouts)
    if stated != document.digest:
        raise Mismatch(f"the registry stored {stated[:200]} in place of {document.digest}")


def _location(answer: Answer) -> str:
    stated = answer.headers.get("Location", "")
    target = urljoin(answer.url, stated)
    if not stated or not target.startswith("http"):
        raise Misbehaved(f"{shown(answer.url)}: no place to upload to")
    if origin(target)[1] == origin(answer.url)[1] and answer.url.startswith("https") and target.startswith("http:"):
        target = "https" + target[4:]  # registries behind a proxy that ends TLS name themselves by http
    return target
