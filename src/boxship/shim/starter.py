"""The process that starts a container for its shim, and ends: what the work touches does not stay in the shim's memory.

It is a child of the shim, forked before either has done anything else::

    launcher      shim                       starter                                init
       | fork ----->|                           |
       |            | fork -------------------->|
       |<-- answered ---------------------------|  reads the request and answers boxshipd
       |            |<-- facts, control socket -|
       |            |                           |  records, socket, log, mount, cgroup, pipes
       |            |                           | fork (CLONE_PARENT) ----------------->|  the shim's child
       |            |                           |<-------------------------- it runs ---|
       |            |                           |  state.json                           |
       |            |<-- outcome, descriptors --|                                       |
       |            |  "running"                 ends

Who undoes a start that fails: the shim, told by the outcome or by the starter's end without one; the starter, when it is
the shim that was killed. PR_SET_PDEATHSIG tells it, wherever it waits at that moment.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from boxship.linux import cgroup as cgroups
from boxship.linux import prctl
from boxship.runtime.failure import START_FAILED, RuntimeFailure
from boxship.shim import handover, leftovers, logfile, pipes, records, rootfs, runtimes, users
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ShimGone(BaseException):
    """The shim was killed."""


def run(start: dict[str, Any], fds: list[int], shim: socket.socket, shim_pid: int) -> None:
    """Start the container of the start document ``start`` for the shim at the other end of ``shim``.

    ``fds``: the control socket, then the clients of the document's ``attach``, then the directory of its ``checkpoint`` if
    it has one. The caller ends the process.
    """
    control, *clients = fds
    images = clients.pop() if start.get("checkpoint") else -1
    try:
        facts = handover.facts_of(start)
        cgroups.open_cgroup(facts["cgroup"])
    except Exception as exc:  # nothing to begin with, so there is nothing to undo either
        with socket.socket(fileno=control) as sock:
            messages.send(sock, {"event": "failed", **_failure(exc)})
        return
    try:
        prctl.set_name("boxship-start")
        _watch(shim_pid)
        handover.send(shim, facts, [control])
        try:
            outcome, passed = _start(start, facts, shim_pid, control, images)
        except Exception as exc:  # whatever it is: the daemon must hear of it
            outcome, passed = _failure(exc), []
        else:
            outcome["attach"] = start.get("attach") or []
            passed += clients
        # From here on the container is the shim's: one that is killed now leaves what any killed shim leaves.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        handover.send(shim, outcome, passed)
    except (ShimGone, BrokenPipeError):
        leftovers.undo(facts)


def _start(
    start: dict[str, Any], facts: dict[str, Any], shim_pid: int, control: int, images: int
) -> tuple[dict[str, Any], list[int]]:
    """Return a good outcome with its descriptors; ``images`` is the directory of the checkpoint to restore, or -1."""
    state_dir: str = facts["state_dir"]
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    records.forget(state_dir)
    passed = {"listener": _listen(state_dir)}
    if start["log"]["driver"] == "json-file":
        passed["log"] = logfile.open_log(start["log"]["path"])
    stdio = start["stdio"]
    spec: dict[str, Any] = start["spec"]
    process: dict[str, Any] = spec["process"]
    process["terminal"] = bool(stdio["tty"])
    if stdio.get("console_size"):
        height, width = stdio["console_size"]
        process["consoleSize"] = {"height": int(height), "width": int(width)}
    passed["rootfs"] = rootfs.mount_rootfs(start["rootfs"])
    for tree in start.get("trees") or ():
        os.close(rootfs.mount_rootfs(tree))
    if images < 0:  # what is restored has its user
        users.apply(process, start.get("user"), facts["rootfs"])
    ends = pipes.make(stdin=bool(stdio["stdin"]) and not stdio["tty"], output=not stdio["tty"], owner=facts["owner"])
    runtime = runtimes.choose(facts)
    if images >= 0:
        init = runtime.restore(spec, ends.child, start["checkpoint"], images, control)
    else:
        init = runtime.start(spec, ends.child)
    started_at = time.time_ns()
    records.write_state(state_dir, start, pid=init.pid, shim_pid=shim_pid, started_at=started_at)
    passed |= {"pidfd": init.pidfd, "console": init.console, "seccomp": init.seccomp}
    passed |= {"stdin": ends.stdin, "stdout": ends.stdout, "stderr": ends.stderr}
    passed = {name: fd for name, fd in passed.items() if fd >= 0}
    outcome = {
        "pid": init.pid,
        "started_at": started_at,
        "event": messages.encode({"event": "running", "pid": init.pid, "started_at": started_at}),
        "fds": list(passed),
    }
    return outcome, list(passed.values())


def _failure(exc: Exception) -> dict[str, Any]:
    if isinstance(exc, RuntimeFailure):
        return {"error": exc.message, "code": exc.code}
    return {"error": str(exc) or type(exc).__name__, "code": START_FAILED}


def _watch(shim_pid: int) -> None:
    """Raise ShimGone, here or later, when the shim has ended."""

    def noticed(_signal: int, _frame: object) -> None:
        if os.getppid() != shim_pid:
            raise ShimGone

    signal.signal(signal.SIGTERM, noticed)
    prctl.set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != shim_pid:
        raise ShimGone


def _listen(state_dir: str) -> int:
    """Listen at ``shim.sock``, named through a descriptor since socket addresses hold 107 bytes only."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{records.SOCKET}")
        listener.listen(16)
    finally:
        os.umask(mask)
        os.close(directory)
    return listener.detach()
