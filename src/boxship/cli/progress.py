"""Progress of pull, load, import and the like: a line for each layer, redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from time import monotonic

from boxship.cli.command import ExitError, write
from boxship.cli.units import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

BAR_WIDTH = 50
WIDE = 110  # columns from which the bar is shown
SETTLED = 0.5  # seconds after which a speed means something


class Progress:
    """Shows the messages of a progress stream on ``descriptor``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._terminal = os.isatty(descriptor)
        self._rows: dict[str, int] = {}
        self._rates: dict[str, Rate] = {}

    def show(self, messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Show all messages; return the auxiliary ones. Raises ExitError for an error message."""
        auxiliary = []
        for message in messages:
            if message.get("aux") is not None:
                auxiliary.append(message["aux"])
                continue
            detail = message.get("errorDetail")
            if detail or message.get("error"):
                raise ExitError(str((detail or {}).get("message") or message.get("error")))
            self._show(message)
        return auxiliary

    def _show(self, message: dict[str, Any]) -> None:
        layer = message.get("id") or ""
        bar = progress_text(message.get("progressDetail") or {}, self._width())
        if not self._terminal:
            if not bar:
                self._write(_line(message) + ("" if "stream" in message else "\n"))
            return
        if bar and layer:
            rate = self._rates.get(layer)
            if rate is None or rate.action != message.get("status"):
                rate = self._rates[layer] = Rate(str(message.get("status")), monotonic())
            bar += rate.text(message["progressDetail"], monotonic())
        if not layer or not (message.get("progressDetail") is not None or layer in self._rows):
            self._rows.clear()
            self._rates.clear()
            self._write(_line(message) + ("" if "stream" in message else "\n"))
            return
        row = self._rows.get(layer)
        if row is None:
            row = self._rows[layer] = len(self._rows)
            self._write("\n")
        up = len(self._rows) - row
        self._write(f"\x1b[{up}A\x1b[2K\r{_line(message)}{' ' + bar if bar else ''}\r\x1b[{up}B")

    def _write(self, text: str) -> None:
        write(self._descriptor, text.encode("utf-8", "surrogateescape"))

    def _width(self) -> int:
        if not self._terminal:
            return 0
        return os.get_terminal_size(self._descriptor).columns


class Rate:
    """How fast one bar moves, and how long it will take: from its first state on."""

    def __init__(self, action: str, now: float) -> None:
        self.action = action
        self._began = now
        self._from: int | None = None

    def text(self, detail: dict[str, Any], now: float) -> str:
        """Return ``"  12.3MB/s  4s"``, empty while nothing can be said; ``now`` is seconds of a monotonic clock."""
        if detail.get("units"):
            return ""
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        if self._from is None:
            self._from = current
        passed = now - self._began
        if passed < SETTLED or current <= self._from:
            return ""
        speed = (current - self._from) / passed
        left = f"  {int((total - current) / speed) + 1}s" if total > current else ""
        return f"  {decimal_size(speed, 3)}/s{left}"


def _line(message: dict[str, Any]) -> str:
    if "stream" in message:
        return str(message["stream"])
    head = f"{message['id']}: " if message.get("id") else ""
    origin = f"(from {message['from']}) " if message.get("from") else ""
    return f"{head}{origin}{message.get('status', '')}"


def progress_text(detail: dict[str, Any], width: int) -> str:
    """Return the bar and the figures of ``progressDetail``, empty when it has none."""
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0 and total <= 0:
        return ""
    if detail.get("units"):
        return f"{current}/{total} {detail['units']}" if total > 0 else f"{current} {detail['units']}"
    done = decimal_size(current)
    if total <= 0:
        return f"{done:>8}"
    bar = ""
    if width > WIDE:
        filled = min(int(current / total * 100), 100) // 2
        bar = f"[{'=' * filled}>{' ' * (BAR_WIDTH - filled)}] "
    figures = f"{done:>8}/{decimal_size(total)}" if current <= total else f"{done:>8}"
    return bar + figures
