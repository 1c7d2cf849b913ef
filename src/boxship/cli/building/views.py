"""How a build looks while it runs: lines one after the other, or a picture that is redrawn on a terminal.

Both take a :class:`Board` and give text; what they look like is BuildKit's, with a bar for each stage above the steps.
"""

from __future__ import annotations

from boxship.cli.building.board import CACHED, DONE, FAILED, LAST_LINES, RUNNING
from boxship.cli.units import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.building.board import Board, Vertex

_BAR = 20  # columns of a stage's bar
_GREEN, _RED, _BLUE, _FAINT, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[34m", "\x1b[2m", "\x1b[0m"


class PlainView:
    """Text for each event: ``#3 [build 2/4] RUN make``, ``#3 0.512 cc -o a``, ``#3 DONE 2.1s``."""

    def __init__(self, *, why: bool = False) -> None:
        self._why = why
        self._shown: dict[str, int] = {}  # bytes of each vertex's output that were shown
        self._named: set[str] = set()

    def show(self, board: Board, event: dict[str, Any]) -> str:
        """Return what the event adds; ``board`` has taken it already."""
        if "vertex" not in event:
            return _remark(event)
        id = event["vertex"]
        vertex = board.vertices[id]
        head = f"#{vertex.number} "
        text = ""
        if id not in self._named:
            self._named.add(id)
            text = f"{head}{vertex.name}\n"
        kind = event["event"]
        if kind == "output":
            text += self._output(id, head, board, whole=False)
        elif kind == "stopped":
            text += self._output(id, head, board, whole=True)
            text += f"{head}STOPPED: {vertex.message}\n\n"
        elif kind in ("ended", "failed"):
            text += self._output(id, head, board, whole=True)
            text += head + _ending(vertex, board.now) + "\n"
            if self._why and vertex.reason:
                text += f"{head}not cached: {vertex.reason}\n"
            if self._why and vertex.place:
                text += f"{head}cached: from {vertex.place}\n"
            text += "\n"
        return text

    def _output(self, id: str, head: str, board: Board, *, whole: bool) -> str:
        """Return the output that was not shown yet: its complete lines, with ``whole`` the rest too."""
        vertex = board.vertices[id]
        start = self._shown.get(id, 0)
        end = len(vertex.output) if whole else vertex.output.rfind(b"\n") + 1
        if end <= start:
            return ""
        self._shown[id] = end
        time = f"{vertex.seconds(board.now):.3f}"
        lines = vertex.output[start:end].decode("utf-8", "replace").removesuffix("\n").split("\n")
        return "".join(f"{head}{time} {line.removesuffix(chr(13))}\n" for line in lines)


class LiveView:
    """A picture of the whole build for a terminal."""

    def __init__(self, *, why: bool = False) -> None:
        self._why = why

    def lines(self, board: Board, width: int, height: int, now: int) -> list[str]:
        """Return the picture: at most ``height`` lines that take at most ``width`` columns each."""
        done, total = board.counts()
        state = " FINISHED" if board.image else ""
        head = f"[+] Building {(now - board.began) / 1e9 if board.began else 0:.1f}s ({done}/{total}){state}"
        picture = [_cut(head, width)]
        stages = board.stages()
        if 1 < len(stages) < height // 2:
            picture.extend(_stage(name, vertices, now, width) for name, vertices in stages)
        room = height - len(picture)
        begun = sorted((each for each in board.vertices.values() if each.number), key=lambda each: each.number)
        running = [each for each in begun if each.state == RUNNING]
        below = max(0, room - len(running)) // max(1, len(running))  # rows for each that runs, under its own
        rows = {each.number: self._vertex(each, width, now, below) for each in begun}
        finished = [each.number for each in begun if each.state != RUNNING]
        while finished and sum(map(len, rows.values())) > room:
            del rows[finished.pop(0)]  # the oldest first
        return (picture + [row for found in rows.values() for row in found])[:height]

    def _vertex(self, vertex: Vertex, width: int, now: int, below: int) -> list[str]:
        color = {CACHED: _BLUE, DONE: _BLUE, FAILED: _RED}.get(vertex.state, "")
        word = {CACHED: "CACHED ", FAILED: "ERROR "}.get(vertex.state, "")
        time = f"{vertex.seconds(now):.1f}s"
        name = _cut(f" => {word}{vertex.name}", width - len(time) - 1)
        rows = [f"{color}{name.ljust(width - len(time) - 1)} {time}{_PLAIN if color else ''}"]
        if vertex.state == RUNNING:
            under = []
            for what, (current, total) in vertex.transfers.items():
                size = decimal_size(current, 3) + (f" / {decimal_size(total, 3)}" if total else "")
                under.append(_FAINT + _cut(f" => => {what} {size}", width) + _PLAIN)
            written = [line for line in vertex.lines if line.strip()][-LAST_LINES:]
            under.extend(_FAINT + _cut(f" => => # {_clean(line)}", width) + _PLAIN for line in written)
            rows.extend(under[-below:] if below else ())
        elif self._why and vertex.reason:
            rows.append(_FAINT + _cut(f" => => not cached: {vertex.reason}", width) + _PLAIN)
        elif self._why and vertex.place:
            rows.append(_FAINT + _cut(f" => => cached: from {vertex.place}", width) + _PLAIN)
        return rows


def _stage(name: str, vertices: list[Vertex], now: int, width: int) -> str:
    """Return a stage's line: name, bar, counts and the time since its first step."""
    done = sum(each.state in (CACHED, DONE) for each in vertices)
    failed = any(each.state == FAILED for each in vertices)
    filled = _BAR * done // len(vertices)
    ends = [each.ended for each in vertices]
    begun = [each.began for each in vertices if each.began]
    last = max(ends) if all(ends) else now
    time = f"{(last - min(begun)) / 1e9:.1f}s" if begun else "-"
    color = _RED if failed else _GREEN if done == len(vertices) else ""
    bar = f"{color}{'━' * filled}{_PLAIN if color else ''}{_FAINT}{'─' * (_BAR - filled)}{_PLAIN}"
    shown = f"stage-{name}" if name.isdecimal() else name
    return f" {_cut(shown, max(8, width - _BAR - 20)):12} {bar} {done}/{len(vertices)} {time}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _clean(line: str) -> str:
    """Return what a program wrote without what would move the cursor."""
    shown = line.rpartition("\r")[2] if not line.endswith("\r") else line[:-1].rpartition("\r")[2]
    return "".join(letter if letter.isprintable() else " " if letter == "\t" else "" for letter in shown)


def _ending(vertex: Vertex, now: int) -> str:
    if vertex.state == CACHED:
        return "CACHED"
    if vertex.state == FAILED:
        return f"ERROR: {vertex.message}"
    return f"DONE {vertex.seconds(now):.1f}s"


def result_text(board: Board) -> str:
    """Return what came out of a build that went well, a line for the image and each of its names."""
    return f"image {board.image}\n" + "".join(f"named {name}\n" for name in board.names) if board.image else ""


def _remark(event: dict[str, Any]) -> str:
    if event["event"] != "warned":
        return ""
    rule = f"{event['rule']}: " if event.get("rule") else ""
    line = f" (line {event['line']})" if event.get("line") else ""
    return f"WARN: {rule}{event['message']}{line}\n"
