"""Pull-through cache: what is not here is fetched from another registry, kept, and served from then on.

A tag is asked for at the other registry each time, by a HEAD that costs no quota; its manifest is fetched only when it
changed. When the other registry does not answer, the last known one is served. Digests never change and are never asked for
twice. One download of a blob serves everybody who wants it meanwhile: it belongs to no client, and clients read along in
the growing file at their own pace.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from prometheus_client import Counter

from boxship.registry.server.documents import read_manifest
from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import is_digest
from boxship.registry.server.repositories import Manifest, Repositories
from boxship.registry.server.uploads import Session, Uploads
from boxship.spec.oci.document import DOCUMENT_LIMIT
from boxship.spec.oci.manifest import INDEXES, MANIFESTS

log = logging.getLogger("boxship.registry")

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
_TOKEN_LIMIT = 64 * 1024  # bytes of a token endpoint's answer
_PIECE = 1024 * 1024
_TOKENS = 1000  # kept for repositories


class Download:
    """A blob that is coming in; ``size`` is what the other registry announced, -1 if nothing."""

    def __init__(self, session: Session, size: int) -> None:
        self.session = session
        self.size = size
        self._fd = os.open(session.data, os.O_RDONLY | os.O_CLOEXEC)
        self._progress = asyncio.Condition()
        self._done = False
        self._failed: Exception | None = None

    def open(self) -> int | None:
        """Return a descriptor for :meth:`read`, None when the download has ended."""
        return os.dup(self._fd) if not self._done else None

    async def read(self, fd: int) -> AsyncGenerator[bytes, None]:
        """Yield the blob as it comes and close ``fd``. Raises what the download failed with."""
        position = 0
        try:
            while True:
                async with self._progress:
                    while not self._done and self.session.offset <= position:
                        await self._progress.wait()
                done = self._done
                while data := await asyncio.to_thread(os.pread, fd, _PIECE, position):
                    position += len(data)
                    yield data
                if done:
                    break
            if self._failed is not None:
                raise self._failed
        finally:
            os.close(fd)

    async def moved(self) -> None:
        """Tell the readers that there is more."""
        async with self._progress:
            self._progress.notify_all()

    async def end(self, failed: Exception | None) -> None:
        """Tell the readers that this was all."""
        self._failed, self._done = failed, True
        os.close(self._fd)
        await self.moved()


class _Token(NamedTuple):
    header: str
    expires: float  # monotonic


class _TokenAnswer(msgspec.Struct):
    """A token endpoint's answer."""

    token: str = ""
    access_token: str = ""
    expires_in: int = 60


class Proxy:
    """The other registry at ``url``."""

    def __init__(
        self,
        url: str,
        *,
        username: str,
        password: str,
        repositories: Repositories,
        uploads: Uploads,
        outcomes: Counter,
    ) -> None:
        self._url = url.rstrip("/")
        self._host = urlsplit(url).netloc
        self._basic = aiohttp.BasicAuth(username, password).encode() if username else ""
        self._repositories = repositories
        self._uploads = uploads
        self._outcomes = outcomes
        self._tokens: dict[str, _Token] = {}
        self._downloads: dict[tuple[str, str], asyncio.Task[Download | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all downloads."""
        for task in [*self._tasks, *self._downloads.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._downloads.values(), return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def manifest(self, repository: str, reference: str) -> Manifest | None:
        """Return the manifest of a digest or tag, from here or there."""
        here = await asyncio.to_thread(self._repositories.find, repository, reference)
        if here is not None and is_digest(reference):
            self._outcomes.labels("manifest", "hit").inc()
            return here
        try:
            if here is not None and await self._digest_of(repository, reference) in (here.digest, None):
                self._outcomes.labels("manifest", "hit").inc()
                return here
            fetched = await self._fetch_manifest(repository, reference)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            log.warning("proxy: %s %s:%s: %s", self._host, repository, reference, exc)
            if here is None:
                raise RegistryError("UNAVAILABLE", message=f"{self._host} can't be reached") from exc
            self._outcomes.labels("manifest", "stale").inc()
            return here
        self._outcomes.labels("manifest", "miss").inc()
        if fetched is not None:
            document = await asyncio.to_thread(read_manifest, fetched.body, fetched.media_type)
            tags = [] if is_digest(reference) else [reference]
            await asyncio.to_thread(
                self._repositories.put, repository, fetched.digest, fetched.body, document, tags, complete=False
            )
        return fetched

    async def blob(self, repository: str, digest: str) -> Download | None:
        """Return the download of a blob, joined or begun; None if the other registry does not have it."""
        self._outcomes.labels("blob", "miss").inc()
        key = (repository, digest)
        task = self._downloads.get(key)
        if task is None:
            task = self._downloads[key] = asyncio.create_task(self._begin(repository, digest))
        try:
            return await asyncio.shield(task)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise RegistryError("UNAVAILABLE", message=f"{self._host} can't be reached") from exc

    async def _begin(self, repository: str, digest: str) -> Download | None:
        """Ask for a blob and leave its body to a task of its own."""
        key = (repository, digest)
        try:
            answer = await self._get("GET", repository, f"blobs/{digest}")
            if answer.status != 200:
                answer.release()
                self._downloads.pop(key, None)
                return None
            session = await asyncio.to_thread(self._uploads.start, repository, "proxy", digest.partition(":")[0])
        except BaseException:
            self._downloads.pop(key, None)
            raise
        download = Download(session, answer.content_length if answer.content_length is not None else -1)
        task = asyncio.create_task(self._receive(answer, download, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return download

    async def _receive(self, answer: aiohttp.ClientResponse, download: Download, key: tuple[str, str]) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            async for data in answer.content.iter_chunked(_PIECE):
                await download.moved()
                yield data

        session = download.session
        failed: Exception | None = None
        try:
            async with session.lock, answer:
                await session.append(pieces(), download.size if download.size >= 0 else None)
                await asyncio.to_thread(self._uploads.commit, session, key[1])
        except Exception as exc:
            log.warning("proxy: %s %s@%s: %s", self._host, *key, exc)
            failed = exc
        finally:
            self._downloads.pop(key, None)
            self._uploads.cancel(session)
            await download.end(failed)

    async def _digest_of(self, repository: str, tag: str) -> str | None:
        """Return the digest that a tag has there now, "" for none, None when it can't be told."""
        answer = await self._get("HEAD", repository, f"manifests/{tag}")
        answer.release()
        if answer.status == 404:
            return ""
        return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None

    async def _fetch_manifest(self, repository: str, reference: str) -> Manifest | None:
        answer = await self._get("GET", repository, f"manifests/{reference}")
        async with answer:
            if answer.status != 200:
                return None
            body = bytearray()
            async for data in answer.content.iter_any():
                body += data
                if len(body) > DOCUMENT_LIMIT:
                    raise RegistryError("MANIFEST_INVALID", f"more than {DOCUMENT_LIMIT} bytes")
        algorithm = reference.partition(":")[0] if is_digest(reference) else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
        if is_digest(reference) and digest != reference:
            raise RegistryError("DIGEST_INVALID", {"digest": reference, "received": digest})
        return Manifest(digest, answer.headers.get("Content-Type", "").partition(";")[0], bytes(body))

    async def _get(self, method: str, repository: str, rest: str) -> aiohttp.ClientResponse:
        """Send a request, signing in once if asked to. Raises aiohttp.ClientError, TimeoutError."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        url = f"{self._url}/v2/{repository}/{rest}"
        headers = {"Accept": ", ".join(sorted(MANIFESTS | INDEXES))}
        token = self._tokens.get(repository)
        if token is not None and token.expires > time.monotonic():
            headers["Authorization"] = token.header
        # aiohttp drops Authorization when a redirect leaves the host.
        answer = await self._http.request(method, url, headers=headers)
        if answer.status != 401:
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        answer.release()
        header = await self._sign_in(challenge, repository)
        if not header:
            return answer
        return await self._http.request(method, url, headers={**headers, "Authorization": header})

    async def _sign_in(self, challenge: str, repository: str) -> str:
        """Return an ``Authorization`` for a challenge, "" if there is none."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            self._keep(repository, self._basic, 3600)
            return self._basic
        values = dict(_CHALLENGE.findall(rest))
        realm = urlsplit(values.get("realm", ""))
        plain = self._url.startswith("http:")
        if scheme.lower() != "bearer" or realm.scheme not in (("http", "https") if plain else ("https",)):
            return ""
        assert self._http is not None
        # A password goes to this registry or over TLS, nowhere else.
        trusted = realm.scheme == "https" or realm.netloc == self._host
        query = {"service": values.get("service", ""), "scope": f"repository:{repository}:pull"}
        headers = {"Authorization": self._basic} if self._basic and trusted else {}
        async with self._http.get(values["realm"], params=query, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                return ""
            data = await answer.content.read(_TOKEN_LIMIT)
        try:
            document = msgspec.json.decode(data, type=_TokenAnswer)
        except msgspec.MsgspecError:
            return ""
        text = document.token or document.access_token
        header = f"Bearer {text}" if text else ""
        self._keep(repository, header, document.expires_in - 10)
        return header

    def _keep(self, repository: str, header: str, seconds: float) -> None:
        if len(self._tokens) >= _TOKENS:
            self._tokens.clear()
        self._tokens[repository] = _Token(header, time.monotonic() + max(seconds, 0))
