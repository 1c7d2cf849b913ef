"""Shows a build on a terminal or as lines, as its events come in."""

from __future__ import annotations

import os
import time

from boxship.cli.building.board import Board
from boxship.cli.building.views import LiveView, PlainView, result_text
from boxship.cli.command import ExitError, write
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from boxship.cli.building.board import Vertex

_REDRAW = 0.1  # seconds
_END = None  # in the queue: no more events


def watch(
    events: Iterable[dict[str, Any]],
    descriptor: int,
    *,
    live: bool,
    why: bool,
    stopped: Callable[[dict[str, Any]], None] | None = None,
) -> Board:
    """Show all events on ``descriptor``; return what is known at the end. Raises what reading them raises.

    ``stopped`` is called for a step that waits for its user, below what was shown; events are taken in meanwhile.
    """
    board = Board()
    if live:
        _draw(_ReadAhead(events), board, LiveView(why=why), descriptor, stopped)
        _summarise(board, descriptor)
    else:
        view = PlainView(why=why)
        for event in events if stopped is None else _ReadAhead(events):
            board.feed(event)
            write(descriptor, view.show(board, event).encode("utf-8", "surrogateescape"))
            if stopped is not None and event["event"] == "stopped":
                stopped(event)
    write(descriptor, result_text(board).encode())
    return board


def show_nothing(events: Iterable[dict[str, Any]]) -> Board:
    """Take all events; return what is known at the end."""
    board = Board()
    for event in events:
        board.feed(event)
    return board


def show_raw(lines: Iterable[bytes], descriptor: int) -> Board:
    """Show all events as they came; return what is known at the end."""
    board = Board()
    for line in lines:
        write(descriptor, line + b"\n")
        board.feed(jsontext.loads(line))
    return board


class _ReadAhead:
    """Events as a thread takes them in, whatever those that show them are doing."""

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        from queue import SimpleQueue
        from threading import Thread

        self._queue: SimpleQueue[dict[str, Any] | BaseException | None] = SimpleQueue()
        self._events = events
        Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (event := self.get()) is not _END:
            yield event

    def get(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the next event, None at the end; raise queue.Empty after ``timeout`` seconds, or what reading raised."""
        item = self._queue.get(timeout=timeout)
        if isinstance(item, BaseException):
            raise item
        return item

    def _read(self) -> None:
        try:
            for event in self._events:
                self._queue.put(event)
            self._queue.put(_END)
        except BaseException as exc:  # goes to the thread that shows the build
            self._queue.put(exc)


def _draw(
    events: _ReadAhead,
    board: Board,
    view: LiveView,
    descriptor: int,
    stopped: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Redraw ten times a second: clocks go on when nothing comes."""
    from queue import Empty

    drawn, due, ended = 0, 0.0, False
    try:
        while not ended:
            event = None
            try:
                event = events.get(_REDRAW)
                if event is _END:
                    ended = True
                else:
                    board.feed(event)
            except Empty:
                pass
            stops = event is not None and event["event"] == "stopped" and stopped is not None
            if time.monotonic() >= due or ended or stops:
                drawn = _redraw(view, board, descriptor, drawn)
                due = time.monotonic() + _REDRAW
            if event is not None and stopped is not None and stops:
                write(descriptor, _failure_text(board.vertices[event["vertex"]]).encode("utf-8", "surrogateescape"))
                stopped(event)
                drawn = 0
    except BaseException:
        _redraw(view, board, descriptor, drawn)
        raise


def _redraw(view: LiveView, board: Board, descriptor: int, drawn: int) -> int:
    """Put the picture over the last one, which had ``drawn`` lines; return how many this one has."""
    try:
        size = os.get_terminal_size(descriptor)
        width, height = max(20, size.columns), max(5, size.lines)
    except OSError:
        width, height = 80, 24
    lines = view.lines(board, width, height - 1, time.time_ns())
    up = f"\x1b[{drawn}A" if drawn else ""
    text = up + "".join(f"\r\x1b[2K{line}\n" for line in lines)
    left = drawn - len(lines)
    if left > 0:
        text += "\x1b[2K\n" * left + f"\x1b[{left}A"
    write(descriptor, text.encode("utf-8", "surrogateescape"))
    return len(lines)


def _summarise(board: Board, descriptor: int) -> None:
    """Below the picture: findings, and all that a failed program wrote."""
    text = ""
    for finding in board.warnings:
        line = f" (line {finding['line']})" if finding.get("line") else ""
        text += f" - {finding['rule'] + ': ' if finding.get('rule') else ''}{finding['message']}{line}\n"
    if text:
        text = f"\n {len(board.warnings)} warning{'s' if len(board.warnings) > 1 else ''} found:\n{text}"
    text += "".join(_failure_text(each) for each in board.vertices.values() if each.message and not each.shown)
    write(descriptor, text.encode("utf-8", "surrogateescape"))


def _failure_text(vertex: Vertex) -> str:
    """Return what a failed program wrote, nothing if that is nothing."""
    vertex.shown = True
    output = bytes(vertex.output).decode("utf-8", "replace").rstrip("\n")
    return f"------\n > {vertex.name}:\n{output}\n------\n" if output else ""


def finish(board: Board) -> str:
    """Return the id of the image that was built. Raises ExitError when the build failed."""
    if board.error:
        shown = f"{board.excerpt}\n" if board.excerpt else ""
        raise ExitError(f"{shown}ERROR: {board.error}", board.code or 1)
    return board.image
