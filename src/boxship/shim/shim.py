"""The process beside one container: starts it, owns its streams, answers boxshipd, and records how it ended.

Life of a shim::

    start document --> mount, cgroup, streams, runtime --> state.json --> "running" --> loop
                              | failed                                                    | init was reaped
                              v                                                           v
                   everything undone, "failed", end      read what is left of the output --> exit.json --> "exited"
                                                         --> unmount, remove the cgroup --> control connections end
                                                         --> clients that still read --> end

The end of a control connection therefore means that nothing of the container is left, and that its state directory may
be used for the next start. A daemon is not needed for any of this: without one the records are there to be read.

A container's init dies with its shim (PR_SET_PDEATHSIG, set by the runtime), so nothing ever runs unsupervised.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from boxship.linux import cgroup as cgroups
from boxship.runtime.failure import START_FAILED, RuntimeFailure
from boxship.shim import pipes, records, runtimes, users
from boxship.shim.connection import Connection
from boxship.shim.logfile import LogFile
from boxship.shim.loop import READ, Loop
from boxship.shim.requests import Requests
from boxship.shim.rootfs import Rootfs
from boxship.shim.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.linux.cgroup_base import Cgroup
    from boxship.shim.runtimes import Runtime

FAREWELL = 1.0  # seconds that a daemon has to read its last events
LINGER = 600.0  # seconds that clients have to read the last output
EXECS_LIMIT = 3.0  # seconds that execs have to be reaped after the container's end


class Shim:
    """One container's shim; :meth:`run` is its whole life. ``choose`` picks the runtime (tests pass their own)."""

    def __init__(
        self,
        start: dict[str, Any],
        control: socket.socket,
        clients: list[int],
        choose: Callable[[dict[str, Any], Cgroup], Runtime] = runtimes.choose,
    ) -> None:
        """Take over ``control`` and the sockets of the clients in the start document's ``attach``."""
        self._start = start
        self._choose = choose
        self._loop = Loop(on_error=self._note_error)
        self._state_dir: str = start["state_dir"]
        self._clients = clients
        self._listener: socket.socket | None = None
        self._connections: list[Connection] = []
        self._cgroup: Cgroup | None = None
        self._rootfs: Rootfs | None = None
        self._log: LogFile | None = None
        self._streams: Streams | None = None
        self._runtime: Runtime | None = None
        self._requests: Requests | None = None
        self._exit: dict[str, Any] | None = None
        self._drained = False
        self._reported = False
        self._control = control

    def run(self) -> None:
        """Start the container and serve until nothing of it is left."""
        self._connect(self._control)
        try:
            self._begin()
        except RuntimeFailure as exc:
            self._fail(exc.message, exc.code)
        except Exception as exc:  # whatever it is: the daemon must hear of it, and nothing may be left
            self._fail(str(exc) or type(exc).__name__, START_FAILED)
        self._loop.run()

    def send_all(self, event: dict[str, Any]) -> None:
        """Send an event to every daemon connection."""
        for connection in list(self._connections):
            connection.send(event)

    def _begin(self) -> None:
        start = self._start
        os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        records.forget(self._state_dir)
        self._listen()
        self._cgroup = cgroups.open_cgroup(start["cgroup"]["path"])
        log = start["log"]
        if log["driver"] == "json-file":
            self._log = LogFile(
                log["path"],
                max_size=int(log.get("max_size") or 0),
                max_file=int(log.get("max_file") or 1),
                compress=bool(log.get("compress")),
                attrs=log.get("attrs"),
                run_aside=self._run_aside,
            )
        rootfs = self._rootfs = Rootfs(start["rootfs"])
        stdio = start["stdio"]
        process = start["spec"]["process"]
        process["terminal"] = bool(stdio["tty"])
        if stdio.get("console_size"):
            height, width = stdio["console_size"]
            process["consoleSize"] = {"height": int(height), "width": int(width)}

        def prepare() -> None:
            rootfs.mount()
            users.apply(process, start.get("user"), rootfs.target)

        ends = pipes.make(stdin=bool(stdio["stdin"]) and not stdio["tty"], output=not stdio["tty"])
        self._runtime = self._choose(start, self._cgroup)
        try:
            init = self._runtime.start(ends.child, prepare)
            rootfs.hold()
        except BaseException:
            ends.close()
            raise
        finally:
            ends.close_child()
        started_at = time.time_ns()
        self._streams = Streams(
            self._loop,
            console=init.console,
            stdin=ends.stdin,
            stdout=ends.stdout,
            stderr=ends.stderr,
            takes_input=bool(stdio["stdin"]),
            log=self._log,
        )
        self._requests = Requests(
            self._loop, self._runtime, self._streams, self._start, init, started_at, send_all=self.send_all
        )
        records.write_state(self._state_dir, pid=init.pid, started_at=started_at, start=start)
        for request, client in zip(start.get("attach") or (), self._clients, strict=True):
            self._requests.attach(request, client)
        self.send_all({"event": "running", "pid": init.pid, "started_at": started_at})
        self._loop.watch_children(self._reap)
        self._reap()  # it may have ended before the watch

    def _listen(self) -> None:
        """Listen at ``shim.sock``, named through a descriptor since socket addresses hold 107 bytes only."""
        directory = os.open(self._state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mask = os.umask(0o177)
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._listener = listener
            listener.bind(f"/proc/self/fd/{directory}/{records.SOCKET}")
        finally:
            os.umask(mask)
            os.close(directory)
        listener.listen(16)
        self._loop.watch(listener.fileno(), READ, self._accept)

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
            Connection(self._loop, sock, on_request=self._request, on_close=self._connections.remove)
        )

    def _request(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        assert self._requests is not None  # nothing is read before the start is over
        self._requests.handle(connection, message, fds, self._exit)

    def _reap(self) -> None:
        assert self._requests is not None
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
        assert self._cgroup is not None and self._streams is not None
        code = os.waitstatus_to_exitcode(status)
        self._exit = {
            "code": code if code >= 0 else 128 - code,
            "signal": max(-code, 0),
            "oom": self._oom_killed(),
            "finished_at": time.time_ns(),
        }
        if not _has_own_pids(self._start["spec"]):
            self._kill_leftovers()  # they may hold the outputs open
        self._loop.after(EXECS_LIMIT, self._report)
        self._streams.drain(self._output_ended)

    def _output_ended(self) -> None:
        self._drained = True
        self._report_when_over()

    def _report_when_over(self) -> None:
        assert self._requests is not None
        if self._drained and not self._requests.running_execs:
            self._report()

    def _report(self) -> None:
        """Write and send the record of the end; the daemon goes on with that while the shim cleans up."""
        if self._reported or self._exit is None:
            return
        self._reported = True
        self._exit["log_dropped"] = self._log.dropped if self._log is not None else 0
        try:
            records.write_exit(self._state_dir, self._exit)
        except OSError:
            self._note_error()
        self.send_all({"event": "exited", **self._exit})
        self._loop.after(0, self._release)

    def _release(self) -> None:
        """Undo what the start made, then let go of daemons and wait for clients."""
        self._stop_listening()
        self._clean_up()
        if self._requests is not None:
            self._requests.finish()
        self._take_leave()

    def _take_leave(self) -> None:
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
        clients = self._requests.clients if self._requests is not None else 0
        if (not clients and not self._connections) or now > linger:
            self._loop.stop()
        else:
            self._loop.after(0.05 if self._connections else 1.0, lambda: self._wait_for_others(farewell, linger))

    def _clean_up(self) -> None:
        if self._cgroup is not None:
            self._kill_leftovers()
        if self._runtime is not None:
            self._runtime.delete()
        if self._rootfs is not None:
            self._rootfs.unmount()
        if self._cgroup is not None:
            try:
                self._cgroup.remove()
            except OSError:
                self._note_error()

    def _fail(self, message: str, code: int) -> None:
        """Undo everything and say why the container does not run."""
        if self._streams is not None:
            self._kill_leftovers()
            self._streams.close()
        elif self._log is not None:
            self._log.finish()
        self._stop_listening()
        self._clean_up()
        records.forget(self._state_dir)
        for client in self._clients:
            try:
                os.close(client)
            except OSError:
                pass  # attached already, so closed above
        self.send_all({"event": "failed", "error": message, "code": code})
        self._take_leave()

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            os.unlink(os.path.join(self._state_dir, records.SOCKET))
        except OSError:
            pass

    def _kill_leftovers(self) -> None:
        assert self._cgroup is not None
        try:
            if self._cgroup.pids():
                self._cgroup.kill(signal.SIGKILL)
        except OSError:
            self._note_error()

    def _oom_killed(self) -> bool:
        assert self._cgroup is not None
        try:
            return self._cgroup.oom_killed()
        except OSError:
            return False

    def _run_aside(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        assert self._requests is not None
        self._requests.run_aside(work, done)

    def _note_error(self) -> None:
        """Append the current exception's traceback to ``shim.err`` in the state directory, where a person can find it."""
        try:
            fd = os.open(
                os.path.join(self._state_dir, "shim.err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            os.dup2(fd, 2)
            os.close(fd)
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        except OSError:
            pass


def _has_own_pids(spec: dict[str, Any]) -> bool:
    namespaces = (spec.get("linux") or {}).get("namespaces") or ()
    return any(namespace["type"] == "pid" and not namespace.get("path") for namespace in namespaces)
