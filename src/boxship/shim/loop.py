"""The one thread of a shim: an epoll loop over descriptors, timers, and the signal that a child ended."""

from __future__ import annotations

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR  # reported whether asked for or not


class Timer:
    """A call at a time; ``cancel`` it when it is not wanted any more."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call; harmless when it was made already."""
        self.callback = None


class Loop:
    """Calls a handler with the ready events of its descriptor.

    Handlers must bear a call without cause: a descriptor closed and opened anew during one round may inherit an event.
    """

    def __init__(self, on_error: Callable[[], None]) -> None:
        """``on_error`` is called while an exception that a handler let through is handled; that handler is forgotten."""
        self._on_error = on_error
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        self._timers: list[Timer] = []
        self._running = True

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` while ``fd`` shows one of ``events`` or is gone; replaces an earlier watch."""
        if fd not in self._events:
            self._epoll.register(fd, events)
        elif self._events[fd] != events:
            self._epoll.modify(fd, events)
        self._events[fd] = events
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """End the watch of ``fd``, before it is closed; harmless when there is none."""
        if self._events.pop(fd, None) is not None:
            del self._handlers[fd]
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, ``seconds`` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def watch_children(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` after children ended; one call may stand for several of them."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def woken(_: int) -> None:
            try:
                os.read(reader, 4096)
            except BlockingIOError:
                pass
            handler()

        signal.signal(signal.SIGCHLD, _noted)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.watch(reader, READ, woken)

    def run(self) -> None:
        """Serve until :meth:`stop`; returns at once if that was called before."""
        while self._running:
            for fd, events in self._epoll.poll(self._until_next_timer()):
                handler = self._handlers.get(fd)
                if handler is None:
                    continue
                try:
                    handler(events)
                except Exception:  # one descriptor is lost, the container is not
                    self.forget(fd)
                    self._on_error()
            if self._timers:
                self._call_timers()
        self._running = True

    def stop(self) -> None:
        """Let :meth:`run` return after the current round."""
        self._running = False

    def _until_next_timer(self) -> float | None:
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        if not self._timers:
            return None
        return max(0.0, min(timer.when for timer in self._timers) - time.monotonic())

    def _call_timers(self) -> None:
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.when <= now]:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                try:
                    callback()
                except Exception:
                    self._on_error()


def _noted(_signal: int, _frame: object) -> None:
    """Exist, so that the signal wakes the loop; the pipe carries the news."""
