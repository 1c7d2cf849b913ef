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
    from collections.abc import Iterable
    from typing import Any

_REDRAW = 0.1  # seconds
_END = None  # in the queue: no more events


def watch(events: Iterable[dict[str, Any]], descriptor: int, *, live: bool, why: bool) -> Board:
    """Show all events on ``descriptor``; return what is known at the end. Raises what reading them raises."""
    board = Board()
    if live:
        _draw(events, board, LiveView(why=why), descriptor)
        _summarise(board, descriptor)
    else:
        view = PlainView(why=why)
        for event in events:
            board.feed(event)
            write(descriptor, view.show(board, event).encode("utf-8", "surrogateescape"))
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


def _draw(events: Iterable[dict[str, Any]], board: Board, view: LiveView, descriptor: int) -> None:
    """Redraw ten times a second while a thread reads: clocks go on when nothing comes."""
    from queue import Empty, SimpleQueue
    from threading import Thread

    queue: SimpleQueue[dict[str, Any] | BaseException | None] = SimpleQueue()

    def read() -> None:
        try:
            for event in events:
                queue.put(event)
            queue.put(_END)
        except BaseException as exc:  # goes to the thread that shows the build
            queue.put(exc)

    Thread(target=read, daemon=True).start()
    drawn, due, ended = 0, 0.0, False
    try:
        while not ended:
            try:
                item = queue.get(timeout=_REDRAW)
                if isinstance(item, BaseException):
                    raise item
                if item is _END:
                    ended = True
                else:
                    board.feed(item)
            except Empty:
                pass
            if time.monotonic() >= due or ended:
                drawn = _redraw(view, board, descriptor, drawn)
                due = time.monotonic() + _REDRAW
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
    for each in board.vertices.values():
        if each.message:
            output = bytes(each.output).decode("utf-8", "replace").rstrip("\n")
            text += f"------\n > {each.name}:\n{output}\n------\n" if output else ""
    write(descriptor, text.encode("utf-8", "surrogateescape"))


def finish(board: Board) -> str:
    """Return the id of the image that was built. Raises ExitError when the build failed."""
    if board.error:
        raise ExitError(f"ERROR: {board.error}", board.code or 1)
    return board.image
