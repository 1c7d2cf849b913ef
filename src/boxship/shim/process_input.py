"""The input of a process: a pipe or a terminal that is written without waiting, fed by any number of clients."""

from __future__ import annotations

import os

from boxship.shim.loop import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxship.shim.loop import Loop

ROOM = 128 * 1024  # bytes that wait for the process; clients are not read from while there are more


class Input:
    """Owns the writing end. Clients call :meth:`join` to be told when there is room again or the process stopped reading."""

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._waiting = bytearray()
        self._closing = False
        self._clients: list[Callable[[], None]] = []

    @property
    def full(self) -> bool:
        """Whether clients should hold back."""
        return len(self._waiting) > ROOM

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken: closed on purpose or by the process."""
        return self._fd < 0 or self._closing

    @property
    def inode(self) -> int:
        """The inode of the pipe, which must not be closed."""
        return os.fstat(self._fd).st_ino

    def join(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever :attr:`full` or :attr:`closed` turned."""
        self._clients.append(changed)

    def leave(self, changed: Callable[[], None]) -> None:
        """Take back a :meth:`join`."""
        if changed in self._clients:
            self._clients.remove(changed)

    def write(self, data: bytes) -> None:
        """Pass ``data`` on, now or when the process reads; dropped when it reads no more."""
        if self.closed:
            return
        self._waiting += data
        self._flush(0)

    def close_when_written(self) -> None:
        """Let the process see the end of its input once it has read what waits."""
        self._closing = True
        if self._fd >= 0 and not self._waiting:
            self.close()

    def close(self) -> None:
        """Close now."""
        if self._fd < 0:
            return
        self._loop.forget(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._waiting.clear()
        self._tell()

    def _flush(self, _events: int) -> None:
        was_full = self.full
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            self._loop.watch(self._fd, WRITE, self._flush)
        except OSError:  # the process closed its end
            self.close()
            return
        else:
            if self._closing:
                self.close()
                return
            self._loop.forget(self._fd)
        if was_full and not self.full:
            self._tell()

    def _tell(self) -> None:
        for changed in list(self._clients):
            changed()
