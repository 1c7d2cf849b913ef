"""Routes about the data root, which Docker does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Disk
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route


class DiskRoutes:
    """Handlers over a ``Disk`` backend."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        return [
            Route("GET", "/boxship/disk", self.usage, Level.READ, Kind.SYSTEM),
            Route("POST", "/boxship/fsck", self.check, Level.ADMIN, Kind.SYSTEM),
        ]

    async def usage(self, call: Call) -> web.StreamResponse:  # noqa: ARG002
        """GET /boxship/disk: every byte of the data root with what it is for."""
        return answers.document(await self._disk.usage())

    async def check(self, call: Call) -> web.StreamResponse:
        """POST /boxship/fsck: what is wrong, an object a line as it is found, and at the end ``{"Checked": true}``."""
        findings = self._disk.check(repair=call.flag("repair"), quick=call.flag("quick"))
        return await answers.progress(call, _ended(findings))


async def _ended(findings: AsyncIterator[dict[str, object]]) -> AsyncIterator[dict[str, object]]:
    """Say that the stream is whole: a client must not take a cut one for a sound data root."""
    async for finding in findings:
        yield finding
    yield {"Checked": True}
