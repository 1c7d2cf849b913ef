"""A program on a terminal of its own, driven as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence


class Terminal:
    """Runs a program on a new pseudo-terminal; ``output`` is everything it printed so far."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns, tell=False)
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.output = ""
        self._seen = 0

    def expect(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """Wait until the output after the last match contains ``pattern``."""
        until = time.monotonic() + seconds
        while True:
            match = re.compile(pattern).search(self.output, self._seen)
            if match:
                self._seen = match.end()
                return match
            if not self._read(until - time.monotonic()):
                raise AssertionError(f"no {pattern!r} in {self.output[self._seen :]!r} (all: {self.output[-2000:]!r})")

    def send(self, text: str) -> None:
        """Type ``text``."""
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int, *, tell: bool = True) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def wait(self, seconds: float = 20) -> int:
        """Wait for the program's end and return its exit code."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.wait(max(0.1, until - time.monotonic()))

    def close(self) -> None:
        """Hang up."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """Take what comes within the time; return False when nothing did or the program hung up."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
