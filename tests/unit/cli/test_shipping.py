"""Blobs between two engines: several at once, and all of them end when one fails."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from boxship.cli import shipping

SIZE = shipping.PAYS


class Pieces:
    """The bytes of a blob, which come in two pieces."""

    def __init__(self) -> None:
        self._left = [b"two", b"one"]

    def read_some(self) -> bytes:
        return self._left.pop() if self._left else b""

    def read(self) -> bytes:
        return b""


class FakeEngine:
    """Notes what goes through it; ``meet`` is waited at for each blob that is read, ``fail`` is one that can't be."""

    def __init__(self, meet: threading.Barrier | None = None, fail: str = "") -> None:
        self.taken: dict[str, bytes] = {}
        self.connections = 1
        self._meet = meet
        self._fail = fail

    def another(self) -> FakeEngine:
        self.connections += 1
        return self

    def close(self) -> None:
        self.connections -= 1

    def stream(self, method: str, path: str, query: dict[str, int], *, body: Iterable[bytes] = ()) -> Pieces:
        digest = path.rpartition("/")[2]
        if digest == self._fail:
            raise OSError("the disk failed")
        if method == "GET" and self._meet is not None:
            self._meet.wait(30)
        if method == "PUT":
            self.taken[digest] = b"".join(body)
        return Pieces()


def move(source: FakeEngine, target: FakeEngine, count: int, size: int = SIZE) -> None:
    blobs: list[dict[str, Any]] = [{"Digest": f"sha256:{n}", "Size": size, "Here": 0} for n in range(count)]
    shown = shipping._Shown(quiet=True)
    shipping._Transfer(blobs, "Push", shown).run(source, target)  # type: ignore[arg-type]


def test_blobs_travel_side_by_side() -> None:
    source, target = FakeEngine(threading.Barrier(shipping.WAYS)), FakeEngine()
    move(source, target, 2 * shipping.WAYS)
    assert target.taken == {f"sha256:{n}": b"onetwo" for n in range(2 * shipping.WAYS)}
    assert (source.connections, target.connections) == (1, 1)


def test_small_blobs_share_one_way() -> None:
    source, target = FakeEngine(threading.Barrier(1)), FakeEngine()
    move(source, target, 5, size=1000)
    assert len(target.taken) == 5


def test_a_failure_ends_all_ways_and_is_told() -> None:
    source, target = FakeEngine(), FakeEngine(fail="sha256:1")
    with pytest.raises(OSError, match="the disk failed"):
        move(source, target, 50)
    assert (source.connections, target.connections) == (1, 1)
