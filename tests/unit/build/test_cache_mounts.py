"""Cache directories while they are used, archived and removed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from boxship.build.steps.cache_mounts import CacheMounts
from boxship.store import Store


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[CacheMounts]:
    store = Store(str(tmp_path / "db"))
    yield CacheMounts(str(tmp_path), store)
    store.close()


def _use(mounts: CacheMounts, name: str = "k", sharing: str = "shared") -> AbstractAsyncContextManager[str]:
    return mounts.use(name, sharing, mode=0o755, owner=(os.getuid(), os.getgid()), seed=lambda _: None)


def _ids(mounts: CacheMounts) -> list[str]:
    return [id for id, _, _, _ in mounts.all()]


def test_a_directory_in_use_is_not_removed_and_goes_whole_later(mounts: CacheMounts, tmp_path: Path) -> None:
    async def run() -> None:
        async with _use(mounts) as path:
            (Path(path) / "file").write_text("x")
            (id,) = _ids(mounts)
            assert not mounts.remove(id)
            assert (Path(path) / "file").exists()
        assert mounts.remove(id)

    asyncio.run(run())

    assert not mounts.has("k") and _ids(mounts) == []
    assert list((tmp_path / "caches").iterdir()) == []


def test_a_step_after_the_removal_gets_a_new_directory(mounts: CacheMounts) -> None:
    async def run() -> list[str]:
        async with _use(mounts) as path:
            (Path(path) / "old").touch()
        mounts.remove(_ids(mounts)[0])
        async with _use(mounts) as path:
            return os.listdir(path)

    assert asyncio.run(run()) == []


def test_a_directory_is_still_only_when_no_step_uses_it(mounts: CacheMounts) -> None:
    async def run() -> None:
        async with mounts.still("k") as path:
            assert path is None  # there is none
        async with _use(mounts) as used, mounts.still("k") as path:
            assert path is None
        async with mounts.still("k") as path:
            assert path == used

    asyncio.run(run())
    assert mounts.uses("k") == 1 and mounts.uses("other") == 0


def test_steps_that_take_turns_wait_for_an_archive(mounts: CacheMounts) -> None:
    async def run() -> list[str]:
        said: list[str] = []

        async def step() -> None:
            async with _use(mounts, sharing="locked"):
                said.append("step")

        async with _use(mounts):
            pass
        async with mounts.still("k"):
            waiting = asyncio.create_task(step())
            for _ in range(10):
                await asyncio.sleep(0)
            said.append("archived")
        await waiting
        return said

    assert asyncio.run(run()) == ["archived", "step"]
