"""Waiting for a directory to change: inotify(7) on an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os

_IN_MODIFY = 0x2  # sys/inotify.h
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_FALLBACK = 0.25  # seconds between looks when the host's inotify instances are used up

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class DirectoryWatch:
    """Tells when something in a directory was written, made or renamed. Use as a context manager on a running loop.

    Changes count from :meth:`__enter__` on: look at the directory after that, then :meth:`wait`, and look again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._changed = asyncio.Event()

    def __enter__(self) -> DirectoryWatch:
        try:
            self._fd = _open(self._path)
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENOSPC):
                raise
        else:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    async def wait(self, ended: asyncio.Event, timeout: float | None) -> None:
        """Return after a change, when ``ended`` is set, or after ``timeout`` seconds."""
        if self._fd < 0:
            timeout = _FALLBACK if timeout is None else min(timeout, _FALLBACK)
        waits = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(ended.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._changed.clear()

    def _read(self) -> None:
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._changed.set()


def _open(path: str) -> int:
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"inotify_init1: {os.strerror(error)}")
    if _libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE) < 0:
        error = ctypes.get_errno()
        os.close(fd)
        raise OSError(error, f"inotify_add_watch: {os.strerror(error)}", path)
    return fd
