"""The standard streams of one process, the container's or an exec's: outputs to log and clients, clients to input.

Outputs are read in batches. While one client is congested none is read, which holds the process up once its pipe is full,
as Docker does. Clients end with :meth:`Streams.finish`, which comes after the process's end.
"""

from __future__ import annotations

import binascii
import errno
import os

from boxship.linux import tty
from boxship.shim.clients import Client
from boxship.shim.loop import READ
from boxship.shim.process_input import Input
from boxship.wire import detachkeys, frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.shim.logfile import LogFile
    from boxship.shim.loop import Loop, Timer

BATCH = 256 * 1024  # bytes of one read
QUIET = 0.25  # seconds without output after which the rest of a process that ended is taken to have come
LIMIT = 2.0  # seconds after which it is taken to have come even if processes it left behind go on writing
GONE_LIMIT = 16  # clients that left while the process was not reading its input


class Streams:
    """Owns the descriptors given to it and the clients attached to it."""

    def __init__(
        self,
        loop: Loop,
        *,
        console: int = -1,
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        takes_input: bool = True,
        log: LogFile | None = None,
    ) -> None:
        """``console`` is a terminal's master, in place of the three pipes; -1 means there is none.

        ``takes_input`` False: clients' input is not for this process, although its terminal could take it.
        """
        self._loop = loop
        self._console = console
        self._log = log
        self._outputs: dict[int, int] = {}  # descriptor to stream
        self._paused = False
        self._clients: list[Client] = []
        self._on_drained: Callable[[], None] | None = None
        self._quiet: Timer | None = None
        self._limit: Timer | None = None
        if console >= 0:
            stdout, stdin = console, os.dup(console)  # epoll knows a descriptor only once
        self._input = Input(loop, stdin) if stdin >= 0 else None
        self._takes_input = takes_input
        for fd, stream in ((stdout, frames.STDOUT), (stderr, frames.STDERR)):
            if fd >= 0:
                os.set_blocking(fd, False)
                self._outputs[fd] = stream
        self._watch()

    @property
    def has_console(self) -> bool:
        """Whether the process runs on a terminal."""
        return self._console >= 0

    @property
    def reading(self) -> bool:
        """Whether the process's output is read at the moment: no client holds it up."""
        return not self._paused

    @property
    def clients(self) -> int:
        """How many clients are attached, those that still have to read the last output among them."""
        return len(self._clients)

    @property
    def pipes(self) -> dict[int, int]:
        """The inodes of the pipes to the process that are open here, by the number it was given each as."""
        if self.has_console:
            return {}
        found = {stream: os.fstat(fd).st_ino for fd, stream in self._outputs.items()}
        if self._input is not None and not self._input.closed:
            found[frames.STDIN] = self._input.inode
        return found

    def attach(
        self,
        fd: int,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        closes_input: bool,
        keys: bytes,
        leftover: bytes,
        on_end: Callable[[bool], None],
    ) -> None:
        """Attach the client whose socket is ``fd``; ``on_end(detached)`` is called when it has left."""
        wanted = frozenset(
            stream for stream, on in ((frames.STDOUT, stdout), (frames.STDERR, stderr and not self.has_console)) if on
        )
        if self.has_console and stderr:
            wanted |= {frames.STDOUT}  # a terminal has one output

        def ended(client: Client, detached: bool) -> None:
            self._clients.remove(client)
            self._resume()
            on_end(detached)

        for left in [other for other in self._clients if other.gone][:-GONE_LIMIT]:
            left.close()  # a process that never reads must not fill the table of descriptors
        client = Client(self._loop, fd, streams=wanted, framed=not self.has_console, on_room=self._resume, on_end=ended)
        self._clients.append(client)
        if stdin and self._takes_input and self._input is not None:
            matcher = detachkeys.Matcher(keys) if self.has_console and keys else None
            closes = closes_input and not self.has_console
            client.take_input(self._input, closes=closes, keys=matcher, leftover=leftover)
        if not self._outputs and client in self._clients:
            client.end()

    def attach_requested(
        self, request: dict[str, Any], fd: int, *, closes_input: bool, on_end: Callable[[bool], None]
    ) -> None:
        """Attach as the fields of an ``attach`` or ``exec`` request say."""
        self.attach(
            fd,
            stdin=bool(request.get("stdin")),
            stdout=bool(request.get("stdout")),
            stderr=bool(request.get("stderr")),
            closes_input=closes_input,
            keys=bytes(request.get("detach_keys") or ()),
            leftover=binascii.a2b_base64(request.get("leftover") or ""),
            on_end=on_end,
        )

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size; nothing happens without a terminal or after its end."""
        if self._console in self._outputs:
            tty.set_window_size(self._console, height, width)

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Read what the process, which has ended, left in its outputs, then finish and call ``on_drained`` once.

        Congested clients do not hold this up. Processes that it left behind may: for a moment of quiet, or the limit.
        """
        self._on_drained = on_drained
        self._paused = False
        for fd in list(self._outputs):
            while self._read(fd):
                pass
        if not self._outputs:
            self.finish()
            return
        self._watch()
        self._quiet = self._loop.after(QUIET, self.finish)
        self._limit = self._loop.after(LIMIT, self.finish)

    def finish(self) -> None:
        """Close all descriptors, write the log's last record, and end the clients once they have read everything.

        The caller of :meth:`drain` hears first: whoever sees a client's end finds the process's end reported.
        """
        for timer in (self._quiet, self._limit):
            if timer is not None:
                timer.cancel()
        for fd in list(self._outputs):
            self._end_output(fd)
        if self._input is not None:
            self._input.close()
        if self._log is not None:
            self._log.finish()
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            callback()
        for client in list(self._clients):
            client.end()

    def read_now(self) -> None:
        """Read what is in the outputs at this moment, as far as clients allow."""
        for fd in list(self._outputs):
            if not self._paused:
                self._read(fd)

    def close(self) -> None:
        """Drop everything at once, clients with unread output too."""
        for client in list(self._clients):
            client.close()
        self.finish()

    def _watch(self) -> None:
        for fd in self._outputs:
            self._loop.watch(fd, READ, lambda _events, fd=fd: self._ready(fd))  # type: ignore[misc]  # early binding

    def _ready(self, fd: int) -> None:
        if fd not in self._outputs or self._paused:
            return
        if self._read(fd) and self._quiet is not None:
            self._quiet.cancel()
            self._quiet = self._loop.after(QUIET, self.finish)
        if self._on_drained is not None:
            if not self._outputs:
                self.finish()
        elif any(client.congested for client in self._clients):
            self._paused = True
            for output in self._outputs:
                self._loop.forget(output)

    def _resume(self) -> None:
        if self._paused and not any(client.congested for client in self._clients):
            self._paused = False
            self._watch()

    def _read(self, fd: int) -> bool:
        """Read one batch of ``fd`` and pass it on; False when there was none."""
        try:
            data = os.read(fd, BATCH)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno != errno.EIO:  # a terminal whose last user closed it
                raise
            data = b""
        if not data:
            self._end_output(fd)
            return False
        stream = self._outputs[fd]
        if self._log is not None:
            self._log.write(stream, data)
        for client in list(self._clients):
            client.send(stream, data)
        return True

    def _end_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._loop.forget(fd)
        os.close(fd)
