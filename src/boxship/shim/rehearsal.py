"""The beginning of a shim's life, lived a few times in the launcher, so that shims find in shared memory what it teaches.

Python notes much of what it learns while it runs in the objects concerned: specialised instructions in the code, names of
attributes in the class, methods in a cache. A shim that learns this anew writes to a hundred pages more, which thereby
become its own. Nothing outside of the process is touched but pipes, sockets and ``/dev/null``.
"""

from __future__ import annotations

import os
import signal
import socket

from boxship.shim import handover
from boxship.shim.shim import Shim
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIMES = 16  # Python 3.11 specialises code that has been called eight times

_START: dict[str, Any] = {
    "id": "rehearsal",
    "state_dir": "/nonexistent",
    "spec": {},
    "rootfs": {"target": "/nonexistent"},
    "stdio": {"stdin": False},
    "log": {"driver": "json-file", "path": os.devnull},
    "cgroup": {"path": "/nonexistent"},
}


def rehearse() -> None:
    """Play it. Descriptors stay open, some in garbage: the caller collects that, then closes what it does not know."""
    for _ in range(_TIMES):
        _play()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _play() -> None:
    starter, ours = socket.socketpair()
    daemon, control = socket.socketpair()
    stdout, program = os.pipe()
    stderr, _ = os.pipe()
    fds = {
        "listener": socket.socket(socket.AF_UNIX).detach(),
        "log": os.open(os.devnull, os.O_WRONLY),
        "rootfs": os.open("/", os.O_PATH),
        "pidfd": os.pidfd_open(os.getpid()),
        "stdout": stdout,
        "stderr": stderr,
    }
    handover.send(starter, handover.facts_of(_START), [control.fileno()])
    event = messages.encode({"event": "running"})
    outcome = {"pid": os.getpid(), "started_at": 0, "event": event, "attach": [], "fds": list(fds)}
    handover.send(starter, outcome, list(fds.values()))
    messages.send(daemon, {"op": "status", "seq": 1})
    os.write(program, b"output\n")
    beginning, end = handover.receive(ours), handover.receive(ours)
    assert beginning is not None and end is not None
    shim = Shim(beginning[0], socket.socket(fileno=beginning[1][0]), *end)
    shim.loop.after(0.0, shim.loop.stop)
    shim.run()
