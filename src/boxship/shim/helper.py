"""Work done in a child of its own, since it could block the shim: entering a frozen container, external runtimes,
compression.

The child runs a function and sends what it returned, a message and descriptors, back over a socket. Should it die without
that, the shim gets an error in its place.
"""

from __future__ import annotations

import os
import signal
import socket

from boxship.linux import fs
from boxship.shim.loop import READ
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from boxship.shim.loop import Loop


def start(
    loop: Loop,
    work: Callable[[], tuple[dict[str, Any], list[int]]],
    done: Callable[[dict[str, Any], list[int]], None],
    *,
    keep: Iterable[int] = (),
) -> int:
    """Run ``work`` in a child that holds no descriptor but ``keep`` and 0 to 2; return its pid.

    ``done`` gets what ``work`` returned, or ``{"error": text}`` with no descriptors. The caller reaps the child.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _run(work, theirs, keep)
    theirs.close()

    def ready(_events: int) -> None:
        loop.forget(ours.fileno())
        fds: list[int] = []
        try:
            answer, fds = messages.receive(ours)
        except (OSError, EOFError, messages.MessageError) as exc:
            answer = {"error": f"helper process ended without an answer: {exc}"}
        ours.close()
        done(answer, fds)

    loop.watch(ours.fileno(), READ, ready)
    return pid


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not in ``keep``."""
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            fs.close_range(first, fd - 1)
        first = max(first, fd + 1)
    fs.close_range(first)


def _run(work: Callable[[], tuple[dict[str, Any], list[int]]], sock: socket.socket, keep: Iterable[int]) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but([sock.fileno(), *(fd for fd in keep if fd >= 0)])
        try:
            answer, fds = work()
        except Exception as exc:
            answer, fds = {"error": str(exc) or type(exc).__name__}, []
        messages.send(sock, answer, fds)
        os._exit(0)
    finally:
        os._exit(1)
