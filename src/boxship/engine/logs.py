"""A container's log as a client asks for it: records of its driver, rendered for the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from boxship.engine.container import Container
from boxship.logs.jsonfile import JsonFileReader, Query, render


class LogQuery(Query, Protocol):
    """What a log request reads of its query (``api.backend.LogQuery``)."""

    @property
    def timestamps(self) -> bool: ...

    @property
    def details(self) -> bool: ...


class LogStream:
    """An accepted log request; iterating yields bytes ready for the wire."""

    def __init__(self, container: Container, path: str, query: LogQuery) -> None:
        self._container = container
        self._query = query
        options = container.spec.host_config.log_config.config or {}
        self._reader = JsonFileReader(path, max_file=int(options.get("max-file", "1")))

    @property
    def multiplexed(self) -> bool:
        """Whether the stream is framed: always but for terminals."""
        return not self._container.spec.config.tty

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def aclose(self) -> None:
        """Nothing is held between chunks."""

    async def _chunks(self) -> AsyncIterator[bytes]:
        query = self._query
        async for records in self._reader.read(query, ended=self._container.ended):
            yield render(records, timestamps=query.timestamps, details=query.details, multiplexed=self.multiplexed)
