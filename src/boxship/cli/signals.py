"""Signals as readable events: while a command streams, they arrive in its poll loop instead of interrupting it.

The ``signal`` module wraps ``_signal`` in enumerations, at a cost of 5 ms at start; the numbers do here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only signal
import os

# What --sig-proxy hands on: all that can be caught, less those that speak to this process alone
# (CHLD, PIPE, URG, TTIN, TTOU, WINCH) and those of the interpreter's own faults.
FORWARDED = {
    _signal.SIGHUP: "HUP",
    _signal.SIGINT: "INT",
    _signal.SIGQUIT: "QUIT",
    _signal.SIGABRT: "ABRT",
    _signal.SIGUSR1: "USR1",
    _signal.SIGUSR2: "USR2",
    _signal.SIGALRM: "ALRM",
    _signal.SIGTERM: "TERM",
    _signal.SIGTSTP: "TSTP",
    _signal.SIGCONT: "CONT",
}
WINCH = _signal.SIGWINCH


class SignalEvents:
    """Catches signals while it is open and gives their numbers through a descriptor that can be polled."""

    def __init__(self) -> None:
        self._read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._write_end = write_end
        self._previous_wakeup = _signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self._previous: dict[int, object] = {}

    def catch(self, numbers: tuple[int, ...]) -> None:
        """Catch these signals from now on."""
        for number in numbers:
            self._previous.setdefault(number, _signal.getsignal(number))
            _signal.signal(number, _ignore)

    def fileno(self) -> int:
        """Return the descriptor that is readable when signals came."""
        return self._read_end

    def take(self) -> list[int]:
        """Return the numbers of the signals that came, in order."""
        try:
            return list(os.read(self._read_end, 4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the signals back their former actions."""
        for number, action in self._previous.items():
            _signal.signal(number, action)
        _signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._read_end)
        os.close(self._write_end)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the number went through the wake-up descriptor."""
