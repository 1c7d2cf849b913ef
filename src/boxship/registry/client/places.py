"""Asking the places of a repository in turn: its mirrors, then the registry itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from boxship.registry.client.errors import Mismatch, RegistryError, of_answer
from boxship.registry.client.hosts import Credentials, Endpoint
from boxship.registry.client.repository import Repository
from boxship.registry.client.session import Answer, Session

T = TypeVar("T")


async def first(repositories: Sequence[Repository], ask: Callable[[Repository], Awaitable[T]]) -> tuple[Repository, T]:
    """Return the first place that answers, and its answer.

    A mirror that fails in any way is passed over. A registry is asked over plain http only when nothing answered over
    https. Raises the error that says most: one of a place that answered, else the last.
    """
    failed: RegistryError | Mismatch | None = None
    for repository in repositories:
        try:
            return repository, await ask(repository)
        except (RegistryError, Mismatch) as exc:
            answered = isinstance(exc, Mismatch) or exc.status or exc.code
            if failed is None or answered or not getattr(failed, "status", 1):
                failed = exc
            if answered and not repository.endpoint.mirror:
                break
    assert failed is not None
    raise failed


class BlobPlace(Protocol):
    """Where a blob can be fetched: what ``fetching`` needs of a :class:`Repository`."""

    session: Session
    endpoint: Endpoint

    def blob(
        self, digest: str, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[tuple[Answer, int]]: ...

    def forget_redirect(self, digest: str) -> bool: ...


class Foreign:
    """A URL that a manifest names for a layer which no registry distributes (image-spec, descriptor.md, ``urls``).

    It gets no credentials, and no part of the blob is asked for: what it leads to is not a registry.
    """

    def __init__(self, session: Session, url: str, registry: Endpoint) -> None:
        session.check(url, registry)
        parts = urlsplit(url)
        self.session = session
        self.endpoint = Endpoint(f"{parts.scheme}://{parts.netloc}", "", credentials=Credentials())
        self._url = url

    @asynccontextmanager
    async def blob(self, digest: str, start: int = 0, end: int | None = None) -> AsyncIterator[tuple[Answer, int]]:  # noqa: ARG002
        """Give the whole blob."""
        headers: Mapping[str, str] = {}
        async with self.session.request("GET", self._url, self.endpoint, headers=headers) as answer:
            if answer.status != 200:
                raise of_answer(answer.status, answer.reason, await answer.error_text())
            yield answer, 0

    def forget_redirect(self, digest: str) -> bool:  # noqa: ARG002
        """Return False: there is one address only."""
        return False
