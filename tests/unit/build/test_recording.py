"""Results are written while their build goes on; what can't be is left to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import cast

import pytest

from boxship.base.errors import SystemFailure
from boxship.build.caching.cache import Cache, Record
from boxship.build.caching.keys import Key
from boxship.build.caching.recording import Recorder
from boxship.images.layers import Addition


class Disk:
    """Stands in for an addition and a cache; fails when it is full."""

    def __init__(self, *, full: bool = False) -> None:
        self.said: list[str] = []
        self.tried = asyncio.Event()
        self._full = full
        self._loop = asyncio.get_running_loop()

    def announce(self, key: Key, record: Record) -> None:
        self.said.append(f"announced {key.digest}")

    def settle(self) -> None:
        if self._full:
            self._loop.call_soon_threadsafe(self.tried.set)
            raise SystemFailure("no space left on device")
        self.said.append("layers")

    def keep(self, found: Sequence[tuple[Key, Record]], used: Iterable[str]) -> None:
        self.said.append("kept " + " ".join(key.digest for key, _ in found))
        self._loop.call_soon_threadsafe(self.tried.set)


def _result(name: str) -> tuple[Key, Record]:
    key = Key(digest=name, subject="", kind="Run", platform="", inputs={})
    return key, Record(subject="", inputs={}, layers=(), added=True, created_ns=1)


def _recorder(disk: Disk) -> Recorder:
    return Recorder(cast(Addition, disk), cast(Cache, disk))


@pytest.mark.timeout(60)
def test_results_are_written_together_layers_first() -> None:
    async def run() -> tuple[list[str], int]:
        disk = Disk()
        recorder = _recorder(disk)
        recorder.start()
        recorder.add(*_result("a"))
        recorder.add(*_result("b"))
        await disk.tried.wait()
        await recorder.stop()
        return disk.said, len(recorder.waiting)

    said, waiting = asyncio.run(run())
    assert said == ["announced a", "announced b", "layers", "kept a b"] and waiting == 0


@pytest.mark.timeout(60)
def test_what_cannot_be_written_waits_for_the_end() -> None:
    async def run() -> list[str]:
        disk = Disk(full=True)
        recorder = _recorder(disk)
        recorder.start()
        recorder.add(*_result("a"))
        await disk.tried.wait()
        recorder.add(*_result("b"))
        await recorder.stop()
        return [key.digest for key, _ in recorder.waiting]

    assert asyncio.run(run()) == ["a", "b"]


def test_a_recorder_that_stops_before_it_wrote_leaves_all() -> None:
    async def run() -> int:
        recorder = _recorder(Disk())
        recorder.start()
        recorder.add(*_result("a"))
        await recorder.stop()
        return len(recorder.waiting)

    assert asyncio.run(run()) == 1
