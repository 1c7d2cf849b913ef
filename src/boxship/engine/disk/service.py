"""Disk usage and checks as the API asks for them (``api.backend.Disk``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from boxship.base.errors import Conflict
from boxship.content import ContentStore
from boxship.engine.container import ContainerIndex
from boxship.engine.disk import usage
from boxship.engine.disk.fsck import Checker
from boxship.engine.model import State
from boxship.snapshots import Snapshotter
from boxship.store import Store, quarantine


class DiskService:
    """Looks after one engine's data root."""

    def __init__(
        self,
        data_root: str,
        *,
        store: Store,
        content: ContentStore,
        snapshotter: Snapshotter,
        index: ContainerIndex,
        checks: Mapping[str, quarantine.Check],
    ) -> None:
        self._data_root = data_root
        self._store = store
        self._content = content
        self._snapshotter = snapshotter
        self._index = index
        self._checks = checks
        self._checking = asyncio.Lock()

    async def usage(self) -> dict[str, Any]:
        """Return what all files below the data root are for: ``Total`` and ``Parts`` with kind, object, path and bytes."""
        uses = await asyncio.to_thread(
            usage.measure, self._data_root, self._store, self._snapshotter, {container.id for container in self._index}
        )
        parts = [{"Kind": use.kind, "ID": use.id, "Path": use.path, "Size": use.size} for use in uses]
        return {"Root": self._data_root, "Total": sum(use.size for use in uses), "Parts": parts}

    async def check(self, *, repair: bool, quick: bool) -> AsyncIterator[dict[str, Any]]:
        """Yield what is wrong as it is found: ``Object``, ``Problem``, ``Outcome``. Raises Conflict during another check.

        Cut off, it ends at the next finding, and what it had unpacked to compare goes with the next start.
        """
        if self._checking.locked():
            raise Conflict("a check of the data root is running already")
        async with self._checking:
            checker = Checker(
                self._data_root,
                self._store,
                self._content,
                self._snapshotter,
                checks=self._checks,
                known=self._known,
                alive=self._alive,
            )
            findings = checker.run(repair=repair, quick=quick)
            while (finding := await asyncio.to_thread(next, findings, None)) is not None:
                yield {"Object": finding.object, "Problem": finding.problem, "Outcome": finding.outcome}

    def _known(self) -> Collection[str]:
        return {container.id for container in list(self._index)}

    def _alive(self) -> Collection[str]:
        # A start holds the container's lock before its state says so.
        return {
            c.id for c in list(self._index) if c.status.alive or c.lock.locked() or c.status.state is State.RESTARTING
        }
