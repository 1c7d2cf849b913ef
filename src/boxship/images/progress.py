"""Docker's progress messages, as the command line and the SDKs know them."""

from __future__ import annotations

from boxship.images.transfers.feed import Message, Report

_WIDTH = 50
_STEP = 512 * 1024  # bytes between two messages of one bar
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def status(text: str, id: str = "") -> Message:
    """Return ``{"status": text}``, for one layer when ``id`` is given."""
    return {"status": text, "id": id} if id else {"status": text}


def stream(text: str) -> Message:
    """Return a line that is printed as it is."""
    return {"stream": text}


def bar(action: str, current: int, total: int, id: str = "") -> Message:
    """Return one state of a progress bar; sizes in bytes, total 0 is unknown."""
    message: Message = {"status": action, "progressDetail": {"current": current, "total": total}}
    if total <= 0:
        message["progressDetail"] = {"current": current}
        message["progress"] = f"{human_size(current):>8}"
    else:
        done = min(current * _WIDTH // total, _WIDTH)
        size = f"/{human_size(total)}" if current <= total else ""
        message["progress"] = f"[{'=' * done}>{' ' * (_WIDTH - done)}] {human_size(current):>8}{size}"
    if id:
        message["id"] = id
    return message


class Meter:
    """Reports how far one transfer is, not more often than every 512 KiB."""

    def __init__(self, report: Report, action: str, total: int, id: str = "") -> None:
        self._report = report
        self._action = action
        self.total = total  # bytes, 0 while it is not known
        self._id = id
        self._shown = 0

    def at(self, current: int) -> None:
        """Say how many bytes were moved."""
        if current - self._shown >= _STEP or current == self.total > self._shown:
            self._shown = current
            self._report(bar(self._action, current, self.total, self._id))


def human_size(size: int) -> str:
    """Return bytes as Docker prints them: units of 1000, four significant digits."""
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"
