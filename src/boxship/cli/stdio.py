"""The terminal's or the pipes' side of an attached container or exec: one poll loop, no threads.

From stdin to the connection with half-close at the end of input; from the connection to stdout and stderr, taken out of
Docker's frames unless the container has a terminal. Nothing is buffered beyond one piece in each direction.
"""

from __future__ import annotations

import os
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, poll

from boxship.cli.command import STDERR, STDIN, STDOUT, write
from boxship.cli.signals import WINCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from boxship.cli.signals import SignalEvents
    from boxship.http.client import Stream

PIECE = 1 << 18
SHUT_WR = 1


class StreamError(Exception):
    """The engine reported an error inside the stream, or the stream is not in Docker's format."""


class RawTerminal:
    """Stdin's terminal in raw mode while the block runs, restored however it ends."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted and os.isatty(STDIN)
        self._attributes: list[object] = []

    def __enter__(self) -> None:
        if self._wanted:
            from boxship.linux.tty import make_raw

            self._attributes = make_raw(STDIN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._attributes:
            from boxship.linux.tty import restore

            restore(STDIN, self._attributes)


class Pump:
    """Moves bytes between this process's stdio and a hijacked connection until the container's output ends.

    ``detach_keys`` are looked for in stdin unless empty. ``on_signal`` is called with each signal that ``signals`` caught.
    ``watch_stdout`` ends it as soon as nobody reads stdout, also while there is nothing to write.
    """

    def __init__(
        self,
        stream: Stream,
        leftover: bytes,
        *,
        multiplexed: bool,
        stdin: bool,
        detach_keys: bytes = b"",
        signals: SignalEvents | None = None,
        on_signal: Callable[[int], None] | None = None,
        watch_stdout: bool = False,
    ) -> None:
        self._stream = stream
        self._watch_stdout = watch_stdout
        self._leftover = leftover
        self._stdin = stdin
        self._signals = signals
        self._on_signal = on_signal
        self._decode = _frame_writer() if multiplexed else _write_stdout
        self._to_send = memoryview(b"")
        self._half_closed = not stdin
        self._filter = _detach_filter(detach_keys) if stdin and detach_keys else None

    def run(self) -> bool:
        """Move bytes until the output ends; return True when the detach keys were typed instead."""
        if self._leftover:
            self._decode(self._leftover)
        poller = poll()
        connection = self._stream.fileno()
        poller.register(connection, POLLIN)
        if self._stdin:
            poller.register(STDIN, POLLIN)
        if self._signals is not None:
            poller.register(self._signals.fileno(), POLLIN)
        if self._watch_stdout:
            poller.register(STDOUT, 0)
        self._stream.setblocking(False)
        while True:
            for descriptor, events in poller.poll():
                if descriptor == connection:
                    if events & POLLOUT:
                        self._flush(poller, connection)
                    if events & (POLLIN | POLLHUP | POLLERR) and not self._receive():
                        return False
                elif descriptor == STDIN:
                    if self._read_input(poller, connection):
                        return True
                elif descriptor == STDOUT:
                    return False
                elif self._signals is not None and self._on_signal is not None:
                    for number in self._signals.take():
                        self._on_signal(number)

    def _receive(self) -> bool:
        """Pass on what arrived; False at the end of the output."""
        try:
            data = self._stream.recv(PIECE)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if data:
            self._decode(data)
        return bool(data)

    def _read_input(self, poller: poll, connection: int) -> bool:
        """Take a piece of stdin; True when it completes the detach keys."""
        try:
            data = os.read(STDIN, PIECE)
        except OSError:  # a terminal that was hung up
            data = b""
        detached = False
        if data and self._filter is not None:
            data, detached = self._filter(data)
            if not data and not detached:
                return False
        poller.unregister(STDIN)
        if not data and not detached:
            self._stdin = False
        self._to_send = memoryview(data)
        self._flush(poller, connection)
        return detached

    def _flush(self, poller: poll, connection: int) -> None:
        """Send what waits; read stdin again when all is sent, or close the sending side after its end."""
        while self._to_send:
            try:
                sent = self._stream.send(self._to_send)
            except BlockingIOError:
                poller.modify(connection, POLLIN | POLLOUT)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._stdin = False
                self._half_closed = True
                break
            self._to_send = self._to_send[sent:]
        self._to_send = memoryview(b"")
        poller.modify(connection, POLLIN)
        if self._stdin:
            poller.register(STDIN, POLLIN)
        elif not self._half_closed:
            self._half_closed = True
            half_close(self._stream)


def half_close(stream: Stream) -> None:
    """Say that no more input comes; output goes on."""
    try:
        stream.shutdown(SHUT_WR)
    except OSError:
        pass  # the other side is gone already; reading will tell


def _write_stdout(data: bytes) -> None:
    write(STDOUT, data)


def _frame_writer() -> Callable[[bytes], None]:
    from boxship.wire import frames

    decoder = frames.Decoder()
    targets = {frames.STDIN: STDOUT, frames.STDOUT: STDOUT, frames.STDERR: STDERR}

    def pass_on(data: bytes) -> None:
        try:
            for stream, payload in decoder.feed(data):
                if stream == frames.SYSTEM_ERROR:
                    raise StreamError(f"error from daemon in stream: {payload.decode('utf-8', 'replace')}")
                write(targets[stream], payload)
        except frames.FrameError as exc:
            raise StreamError(str(exc)) from exc

    return pass_on


def _detach_filter(keys: bytes) -> Callable[[bytes], tuple[bytes, bool]]:
    from boxship.wire.detachkeys import Matcher

    return Matcher(keys).feed


def window_size() -> tuple[int, int]:
    """Return (height, width) of stdout's terminal, zeros without one."""
    try:
        size = os.get_terminal_size(STDOUT)
    except OSError:
        return 0, 0
    return size.lines, size.columns


def resizer(resize: Callable[[int, int], None]) -> Callable[[int], None]:
    """Return a signal callback that tells the engine the terminal's new size after SIGWINCH."""

    def on_signal(number: int) -> None:
        if number == WINCH:
            height, width = window_size()
            if height or width:
                resize(height, width)

    return on_signal


def check_tty(*, stdin: bool, tty: bool) -> None:
    """Refuse a terminal for a container whose stdin is attached to something else. Raises ExitError."""
    if stdin and tty and not os.isatty(STDIN):
        from boxship.cli.command import ExitError

        raise ExitError("the input device is not a TTY")
