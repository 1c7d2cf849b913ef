"""Where everything stands: the stacks of all threads and tasks, for SIGUSR1."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
import time
import traceback

from boxship.base import atomicfile


def dump(directory: str) -> str:
    """Write all stacks into a new file in ``directory`` and return its path. Call it on the event loop. Raises OSError."""
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    path = os.path.join(directory, f"task-stacks-{stamp}.log")
    atomicfile.write(path, describe().encode("utf-8", "replace"), durable=False)
    return path


def describe() -> str:
    """Return the stacks of all threads and of all tasks of the running loop as text."""
    out = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        out.write(f"thread {names.get(ident, '?')} ({ident}):\n")
        out.write("".join(traceback.format_stack(frame)) + "\n")
    for task in asyncio.all_tasks():
        out.write(f"task {task.get_name()}:\n")
        task.print_stack(file=out)
        out.write("\n")
    return out.getvalue()
