"""A short directory for sockets, whose paths may have 107 bytes only, and plugins that look there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.plugins import PluginOptions, Plugins


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="plug-"))
    yield path
    shutil.rmtree(path)


class Pauses:
    """What is waited for, without waiting; after each pause something may happen."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.then: dict[int, object] = {}

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        act = self.then.get(len(self.seconds))
        if callable(act):
            act()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def plugins(place: Path, pauses: Pauses) -> Plugins:
    return Plugins(PluginOptions(directories=(str(place / "none"), str(place))), sleep=pauses.sleep)
