"""What a shim leaves on disk for a daemon that was not there: ``state.json`` while it runs, ``exit.json`` at the end.

Both are in ``state_dir``, which does not survive a reboot, and are replaced whole. ``state.json`` lets a daemon tell the
container and its shim from strangers with the same process numbers: the start times are those of proc_pid_stat(5).
"""

from __future__ import annotations

import json
import os
import sys

from boxship.base import atomicfile
from boxship.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
SOCKET = "shim.sock"
STATE = "state.json"
EXIT = "exit.json"
ERRORS = "shim.err"


def write_state(state_dir: str, start: dict[str, Any], *, pid: int, shim_pid: int, started_at: int) -> None:
    """Record that the container's init ``pid`` runs, with what a daemon needs to find its leftovers."""
    document = {
        "v": VERSION,
        "id": start["id"],
        "pid": pid,
        "pid_start_time": pidfd.start_time(pid),
        "shim_pid": shim_pid,
        "shim_start_time": pidfd.start_time(shim_pid),
        "started_at": started_at,
        "stdio": start["stdio"],
        "cgroup": start["cgroup"]["path"],
        "rootfs": start["rootfs"]["target"],
        "trees": [tree["target"] for tree in start.get("trees") or ()],
        "runtime": start.get("runtime"),
    }
    _write(state_dir, STATE, document)


def write_exit(state_dir: str, record: dict[str, Any]) -> None:
    """Record how the container ended."""
    _write(state_dir, EXIT, {"v": VERSION, **record})


def forget(state_dir: str) -> None:
    """Remove the records and the socket of an earlier run."""
    for name in (SOCKET, STATE, EXIT):
        try:
            os.unlink(os.path.join(state_dir, name))
        except FileNotFoundError:
            pass


def note_error(state_dir: str) -> None:
    """Append the current exception's traceback to ``shim.err``, where a person can find it. Never raises."""
    try:
        fd = os.open(os.path.join(state_dir, ERRORS), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(fd, 2)
        os.close(fd)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    except OSError:
        pass


def _write(state_dir: str, name: str, document: dict[str, Any]) -> None:
    data = json.dumps(document, separators=(",", ":")).encode()
    atomicfile.write(os.path.join(state_dir, name), data, durable=False)
