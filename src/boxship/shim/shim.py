"""The process beside one container: owns its streams, answers boxshipd, and records how it ended.

Life of a shim, forked from the launcher before anybody knows what for::

    fork a starter --> wait for its outcome --> streams, "running" --> loop
                          | no shim was asked for: end                   | init was reaped
                          | the start failed                             v
                          v                            read what is left of the output --> exit.json --> "exited"
        everything undone, "failed", end               --> unmount, remove the cgroup --> control connections end
                                                       --> clients that still read --> end

The end of a control connection therefore means that nothing of the container is left, and that its state directory may
be used for the next start. A daemon is not needed for any of this: without one the records are there to be read.

A container's init dies with its shim (PR_SET_PDEATHSIG, set by the runtime), so nothing ever runs unsupervised.

What a shim touches of the memory that it shares with the launcher becomes its own, a page for each function that it runs
or object that it looks at. Hence the starter (:mod:`boxship.shim.starter`), and hence nothing here is made or opened
before it is needed.
"""

from __future__ import annotations

import os
import socket
import time

from boxship.linux import cgroup as cgroups
from boxship.linux import prctl
from boxship.runtime.failure import START_FAILED
from boxship.shim import handover, leftovers, records, runtimes
from boxship.shim.connection import Connection
from boxship.shim.logfile import LogFile
from boxship.shim.loop import READ, Loop
from boxship.shim.requests import Requests
from boxship.shim.started import Started
from boxship.shim.streams import Streams
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NO_LIMIT = 1 << 60  # bytes of memory: what cgroups without a limit show lies above
FAREWELL = 1.0  # seconds that a daemon has to read its last events
LINGER = 600.0  # seconds that clients have to read the last output
EXECS_LIMIT = 3.0  # seconds that execs have to be reaped after the container's end


def live(starter: socket.socket) -> None:
    """Be the shim of whatever the process at the other end of ``starter``, a child, has started; return at the end."""
    beginning = handover.receive(starter)
    if beginning is None:
        return
    facts, fds = beginning
    control = socket.socket(fileno=fds[0])
    os.setsid()
    os.dup2(0, 2)
    prctl.set_name("boxship-shim")
    end = handover.receive(starter)
    starter.close()
    if end is None:
        _give_up(facts, control, {"error": "the process that starts the container was killed", "code": START_FAILED})
    elif "error" in end[0]:
        _give_up(facts, control, end[0])
    else:
        try:
            shim = Shim(facts, control, *end)
        except Exception as exc:  # no memory, no descriptors: then no container
            _give_up(facts, control, {"error": str(exc) or type(exc).__name__, "code": START_FAILED})
        else:
            shim.run()


def _give_up(facts: dict[str, Any], control: socket.socket, reason: dict[str, Any]) -> None:
    """Undo everything and say why the container does not run."""
    leftovers.undo(facts)
    control.settimeout(FAREWELL)
    try:
        messages.send(control, {"event": "failed", **reason})
    except OSError:
        pass  # the daemon is gone


class Shim:
    """The shim of a container that runs."""

    def __init__(
        self, facts: dict[str, Any], control: socket.socket, outcome: dict[str, Any], passed: list[int]
    ) -> None:
        """Take over what the starter has made; see :mod:`boxship.shim.handover` for ``facts`` and ``outcome``."""
        self._facts = facts
        self._state_dir: str = facts["state_dir"]
        self.loop = Loop(on_error=self._note_error)
        self._connections: list[Connection] = []
        self._exit: dict[str, Any] | None = None
        self._drained = False
        self._reported = False
        self._connect(control)  # watched first: what was asked during the start comes before any output
        names: list[str] = outcome["fds"]
        fds = dict(zip(names, passed, strict=False))
        self._rootfs = fds["rootfs"]  # held only, see rootfs.mount_rootfs
        self._log = self._make_log(fds["log"]) if "log" in fds else None
        self._streams = Streams(
            self.loop,
            console=fds.get("console", -1),
            stdin=fds.get("stdin", -1),
            stdout=fds.get("stdout", -1),
            stderr=fds.get("stderr", -1),
            takes_input=facts["takes_input"],
            log=self._log,
        )
        init = Started(outcome["pid"], fds["pidfd"], seccomp=fds.get("seccomp", -1))
        self._requests = Requests(
            self.loop,
            runtimes.choose(facts),
            self._streams,
            facts,
            init,
            outcome["started_at"],
            send_all=self._send_all,
            on_saved=self._report_when_over,
        )
        for request, client in zip(outcome["attach"], passed[len(names) :], strict=True):
            self._requests.attach(request, client)
        self._listener: socket.socket | None = socket.socket(fileno=fds["listener"])
        self.loop.watch(fds["listener"], READ, self._accept)
        self._connections[0].send_encoded(outcome["event"])

    def run(self) -> None:
        """Serve until nothing of the container is left."""
        self.loop.watch_children(self._reap)
        self._reap()  # init may have ended before the watch
        self.loop.run()

    def _make_log(self, fd: int) -> LogFile:
        log: dict[str, Any] = self._facts["log"]
        return LogFile(
            log["path"],
            fd,
            max_size=int(log.get("max_size") or 0),
            max_file=int(log.get("max_file") or 1),
            compress=bool(log.get("compress")),
            attrs=log.get("attrs"),
            run_aside=self._run_aside,
        )

    def _send_all(self, event: dict[str, Any]) -> None:
        """Send an event to every daemon connection."""
        for connection in list(self._connections):
            connection.send(event)

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._connect(connection)

    def _connect(self, sock: socket.socket) -> None:
        self._connections.append(
            Connection(self.loop, sock, on_request=self._request, on_close=self._connections.remove)
        )

    def _request(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        self._requests.handle(connection, message, fds, self._exit)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._requests.init.pid:
                self._init_ended(status)
            else:
                self._requests.child_ended(pid, status, time.time_ns())
            if self._exit is not None:
                self._report_when_over()

    def _init_ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self._exit = {
            "code": code if code >= 0 else 128 - code,
            "signal": max(-code, 0),
            "oom": self._oom_killed(),
            "finished_at": time.time_ns(),
        }
        if self._exit["oom"]:
            self._exit["memory"] = self._memory()
        if not self._facts["own_pids"]:
            leftovers.kill(self._facts)  # they may hold the outputs open
        self.loop.after(EXECS_LIMIT, self._report_without_execs)
        self._streams.drain(self._output_ended)

    def _output_ended(self) -> None:
        self._drained = True
        self._report_when_over()

    def _report_when_over(self) -> None:
        if self._exit is not None and self._drained and not self._requests.running_execs and not self._requests.saving:
            self._report()

    def _report_without_execs(self) -> None:
        if self._requests.saving:  # the record says whether the container ended with its checkpoint
            self.loop.after(EXECS_LIMIT, self._report_without_execs)
        else:
            self._report()

    def _report(self) -> None:
        """Write and send the record of the end; the daemon goes on with that while the shim cleans up."""
        if self._reported or self._exit is None:
            return
        self._reported = True
        if self._requests.saved:
            self._exit["checkpoint"] = self._requests.saved
        self._exit["log_dropped"] = self._log.dropped if self._log is not None else 0
        try:
            records.write_exit(self._state_dir, self._exit)
        except OSError:
            self._note_error()
        self._send_all({"event": "exited", **self._exit})
        self.loop.after(0, self._release)

    def _release(self) -> None:
        """Undo what the start made, then let go of daemons and wait for clients."""
        self._stop_listening()
        leftovers.remove(self._facts)
        self._requests.finish()
        for connection in list(self._connections):
            if not connection.unsent:
                connection.close()
        self._wait_for_others(time.monotonic() + FAREWELL, time.monotonic() + LINGER)

    def _wait_for_others(self, farewell: float, linger: float) -> None:
        """End when daemons have read their events and clients the output, or when they have had their time."""
        now = time.monotonic()
        for connection in list(self._connections):
            if not connection.unsent or now > farewell:
                connection.close()
        clients = self._requests.clients
        if (not clients and not self._connections) or now > linger:
            self.loop.stop()
        else:
            self.loop.after(0.05 if self._connections else 1.0, lambda: self._wait_for_others(farewell, linger))

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            os.unlink(os.path.join(self._state_dir, records.SOCKET))
        except OSError:
            pass

    def _oom_killed(self) -> bool:
        try:
            return cgroups.open_cgroup(self._facts["cgroup"]).oom_killed()
        except OSError:
            return False

    def _memory(self) -> dict[str, int]:
        """Return what the container might use and what it used at most, in bytes; 0: no limit, or not known."""
        try:
            memory = cgroups.open_cgroup(self._facts["cgroup"]).stats().get("memory", {})
        except OSError:
            memory = {}
        limit = int(memory.get("limit") or 0)
        return {"limit": limit if limit < NO_LIMIT else 0, "peak": int(memory.get("max_usage") or 0)}

    def _run_aside(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        self._requests.run_aside(work, done)

    def _note_error(self) -> None:
        records.note_error(self._state_dir)
