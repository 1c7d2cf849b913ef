"""One repository at one endpoint: manifests, tags and blobs (distribution-spec, "Pull", "Content Discovery")."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urljoin

from boxship.registry.client.auth import Authenticator
from boxship.registry.client.errors import (
    TRANSIENT,
    Misbehaved,
    Mismatch,
    NotConnected,
    Unreachable,
    of_answer,
)
from boxship.registry.client.hosts import Credentials, Endpoint
from boxship.registry.client.session import Answer, Session, Timeouts, origin, shown
from boxship.spec.oci import Descriptor, Index, check_digest, parse_manifest
from boxship.spec.oci.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

ACCEPTED = ", ".join((DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX))
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_PAGES = 1000
_NAMES = 100_000  # tags or repositories that a registry may list
_NEXT = re.compile(r'<([^>]{1,4096})>\s*;\s*rel="?next"?')
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")

T = TypeVar("T")


class Document(NamedTuple):
    """A manifest or index as it came."""

    digest: str
    media_type: str
    data: bytes


class Repository:
    """Talks to one endpoint about one repository, with one user's credentials."""

    def __init__(self, session: Session, endpoint: Endpoint, credentials: Credentials) -> None:
        self.session = session
        self.endpoint = endpoint
        self.auth = Authenticator(session, endpoint, credentials)
        self._base = f"{endpoint.url}/v2/{endpoint.path}"
        self._resolved: dict[str, str] = {}  # digest -> where its blob was redirected to

    def scopes(self, *, push: bool = False, mount_from: str = "") -> frozenset[str]:
        """Return the token scopes of what is to be done here."""
        found = {f"repository:{self.endpoint.path}:{'pull,push' if push else 'pull'}"}
        if mount_from:
            found.add(f"repository:{mount_from}:pull")
        return frozenset(found)

    async def manifest(self, reference: str) -> Document:
        """Return the manifest or index of a tag or digest. Raises ManifestUnknown and its kin, Mismatch, Misbehaved."""
        by_digest = ":" in reference
        if by_digest:
            check_digest(reference)

        async def ask() -> Document:
            async with self.call("GET", f"/manifests/{reference}", headers={"Accept": ACCEPTED}) as answer:
                data = await answer.document()
                media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
                stated = answer.headers.get("Docker-Content-Digest", "")
            expected = reference if by_digest else stated
            found = digest_like(expected, data) if expected else f"sha256:{hashlib.sha256(data).hexdigest()}"
            if expected and found != expected:
                raise Mismatch(f"manifest verification failed for digest {expected[:200]}")
            return Document(found, media_type, data)

        return await retry(ask, self.session.settings.attempts, self.session.timeouts)

    async def ping(self, *, push: bool = False) -> None:
        """See that a registry answers here and takes our credentials. Raises what it refuses with."""
        async with self.call("GET", f"{self.endpoint.url}/v2/", push=push) as answer:
            await answer.document()

    async def tags(self) -> Sequence[str]:
        """Return all tags of the repository. Raises NameUnknown, Misbehaved for what is no list or has no end."""
        return [tag for tag in await self._list("/tags/list", "tags") if _TAG.fullmatch(tag)]

    async def referrers(self, digest: str) -> Sequence[Descriptor] | None:
        """Return what the registry lists as referring to a manifest, None when it keeps no such list.

        Raises Misbehaved for what is no list or has no end, InvalidDocument.
        """
        found: list[Descriptor] = []
        url = f"{self._base}/referrers/{check_digest(digest)}"
        for _ in range(_PAGES):
            async with self.call("GET", url, headers={"Accept": OCI_INDEX}, missing=True) as answer:
                if answer.status == 404:
                    return None
                index = parse_manifest(await answer.document())
                following = self._following(url, answer)
            if not isinstance(index, Index):
                raise Misbehaved(f"{shown(url)}: not a list of referrers")
            found += index.manifests
            if len(found) > _NAMES:
                break
            if not following:
                return found
            url = following
        raise Misbehaved(f"{shown(self.endpoint.url)}: the list of referrers has no end")

    async def blob_exists(self, digest: str, *, push: bool = True) -> bool:
        """Return whether the repository has that blob."""
        async with self.call("HEAD", f"/blobs/{check_digest(digest)}", push=push, missing=True) as answer:
            return answer.status < 400

    @asynccontextmanager
    async def blob(self, digest: str, start: int = 0, end: int | None = None) -> AsyncIterator[tuple[Answer, int]]:
        """Give the blob's bytes from ``start`` to before ``end``, and the offset at which they really begin.

        A registry that knows no ranges sends the whole blob: the offset is 0 then, and the bytes go on after ``end``.
        Raises Misbehaved for another range than the one asked for.
        """
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{end - 1 if end is not None else ''}"
        path = f"/blobs/{check_digest(digest)}"
        async with self.call("GET", path, headers=headers, url=self._resolved.get(digest, "")) as answer:
            if origin(answer.url) != origin(self.endpoint.url):
                self._resolved[digest] = answer.url  # the next range goes there directly
            offset = 0
            if answer.status == 206:
                match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
                if match is None or int(match[1]) != start or (end is not None and int(match[2]) >= end):
                    raise Misbehaved(
                        f"{shown(answer.url)}: answers with the range {answer.headers.get('Content-Range', '')[:80]!r}"
                    )
                offset = start
            yield answer, offset

    def forget_redirect(self, digest: str) -> bool:
        """Ask the registry anew where the blob is; return whether it was asked somewhere else."""
        return self._resolved.pop(digest, None) is not None

    async def catalogue(self) -> Sequence[str]:
        """Return the names of all repositories of the registry."""
        return await self._list(
            f"{self.endpoint.url}/v2/_catalog", "repositories", scopes=frozenset(("registry:catalog:*",))
        )

    @asynccontextmanager
    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        push: bool = False,
        scopes: frozenset[str] | None = None,
        missing: bool = False,
        url: str = "",
    ) -> AsyncIterator[Answer]:
        """Give the answer to an authenticated request about ``path`` below the repository, or about ``url``.

        ``missing`` lets 404 through as an answer. Raises what ``errors.of_answer`` makes of other statuses from 400 on.
        """
        wanted = self.scopes(push=push) if scopes is None else scopes
        target = url or (path if path.startswith("http") else self._base + path)
        own = origin(target) == origin(self.endpoint.url)
        for last in (False, True):
            authorization = await self.auth.header(wanted) if own else ""
            async with self.session.request(
                method, target, self.endpoint, headers=headers, authorization=authorization, body=body
            ) as answer:
                again = answer.status == 401 and own and self.auth.answer(answer, wanted, sent=authorization)
                if again and not last and not isinstance(body, AsyncIterator):
                    continue
                if answer.status < 400 or (missing and answer.status == 404):
                    yield answer
                    return
                raise of_answer(
                    answer.status,
                    answer.reason,
                    await answer.error_text(),
                    retry_after=answer.headers.get("Retry-After", ""),
                )

    async def _list(self, path: str, key: str, *, scopes: frozenset[str] | None = None) -> Sequence[str]:
        found: list[str] = []
        url = f"{path if path.startswith('http') else self._base + path}"
        for _ in range(_PAGES):
            async with self.call("GET", url, scopes=scopes) as answer:
                data = await answer.document()
                following = self._following(url, answer)
            try:
                names = json.loads(data)[key] or []
            except (ValueError, KeyError, TypeError, RecursionError) as exc:
                raise Misbehaved(f"{shown(url)}: not a list of {key}") from exc
            if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= 255 for name in names):
                raise Misbehaved(f"{shown(url)}: not a list of {key}")
            found += names
            if len(found) > _NAMES:
                break
            if not following:
                return found
            url = following
        raise Misbehaved(f"{shown(self.endpoint.url)}: the list of {key} has no end")

    def _following(self, url: str, answer: Answer) -> str:
        """Return the address of a list's next page, "" after the last. Raises Misbehaved when it is elsewhere."""
        following = _NEXT.search(answer.headers.get("Link", "")[:8192])
        if following is None:
            return ""
        target: str = urljoin(url, following[1])
        if origin(target) != origin(self.endpoint.url) or target == url:
            raise Misbehaved(f"{shown(url)}: its next page is elsewhere")
        return target


async def retry(work: Callable[[], Awaitable[T]], attempts: int, timeouts: Timeouts) -> T:
    """Return what ``work`` returns, after as many attempts as it takes; what was reached and then failed is tried again."""
    patience = Patience(attempts, timeouts)
    while True:
        try:
            return await work()
        except Unreachable as exc:
            if isinstance(exc, NotConnected) or (exc.status and exc.status not in TRANSIENT):
                raise
            await patience.again(exc)


class Patience:
    """How often a registry is asked again, and how long it may make us wait, before it has to bring something.

    Pauses grow, and never end for all clients at the same moment.
    """

    def __init__(self, attempts: int, timeouts: Timeouts) -> None:
        self._attempts = attempts
        self._timeouts = timeouts
        self.failures = 0
        self._waited = 0.0

    def renew(self) -> None:
        """Count from the beginning: something has come."""
        self.failures, self._waited = 0, 0.0

    async def again(self, exc: Unreachable) -> None:
        """Wait until the next attempt, at least as long as the registry asked for. Raises ``exc`` when there is none."""
        self.failures += 1
        if self.failures >= self._attempts:
            raise exc
        if self._waited + exc.wait > self._timeouts.longest_wanted:
            raise Unreachable(
                f"{exc} (it may be asked again in {exc.wait:.0f} seconds)", status=exc.status, code=exc.code
            )
        self._waited += exc.wait
        longest = min(self._timeouts.pause * 2 ** (self.failures - 1), self._timeouts.longest_pause)
        await asyncio.sleep(exc.wait + longest * random.uniform(0.5, 1))  # noqa: S311  # nobody gains by guessing it


def digest_like(expected: str, data: bytes) -> str:
    """Return the digest of ``data`` by the algorithm of ``expected``. Raises Mismatch when that is none we know."""
    try:
        check_digest(expected)
    except ValueError as exc:
        raise Mismatch(f"{exc}: {expected[:200]!r}") from exc
    algorithm = expected.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def escape(text: str) -> str:
    """Return ``text`` for a query."""
    return quote(text, safe="")
