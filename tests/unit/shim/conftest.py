"""A shim's loop driven step by step, without root."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from boxship.shim.loop import Loop


class Stepper:
    """A loop, and pairs of sockets and pipes that are closed after the test."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(on_error=self._note)
        self._sockets: list[socket.socket] = []

    def _note(self) -> None:
        exception = sys.exc_info()[1]
        assert exception is not None
        self.errors.append(exception)

    def pair(self) -> tuple[socket.socket, int]:
        """A client's end and the descriptor of the shim's end, which the shim's objects own."""
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        self._sockets.append(ours)
        return ours, theirs.detach()

    def run_until(self, condition: Callable[[], bool]) -> None:
        def look() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.after(0.001, look)

        overdue = self.loop.after(20.0, self.loop.stop)
        self.loop.after(0, look)
        self.loop.run()
        overdue.cancel()
        assert condition()
        if self.errors:
            raise self.errors[0]

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def stepper() -> Iterator[Stepper]:
    stepper = Stepper()
    yield stepper
    stepper.close()


@pytest.fixture
def descriptors() -> Callable[[], int]:
    return lambda: len(os.listdir("/proc/self/fd"))
