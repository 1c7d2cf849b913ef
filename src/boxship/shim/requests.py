"""What a daemon asks of a shim while the container runs: see the tables in docs/architecture.md."""

from __future__ import annotations

import os
import signal

from boxship.runtime import live_mounts
from boxship.runtime.failure import RuntimeFailure
from boxship.shim import checkpoints, helper
from boxship.shim.execs import Exec
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.shim.connection import Connection
    from boxship.shim.loop import Loop
    from boxship.shim.runtimes import Runtime
    from boxship.shim.started import Started
    from boxship.shim.streams import Streams


class Refused(Exception):
    """A request that cannot be met; the text is the answer."""


class Requests:
    """Answers requests, and keeps the execs they start."""

    def __init__(
        self,
        loop: Loop,
        runtime: Runtime,
        streams: Streams,
        facts: dict[str, Any],
        init: Started,
        started_at: int,
        *,
        send_all: Callable[[dict[str, Any]], None],
        on_saved: Callable[[], None],
    ) -> None:
        """``on_saved`` is called when the making of a checkpoint is over, well or not."""
        self.init = init
        self.saving = False  # a checkpoint is being made
        self.saved = ""  # name of the checkpoint with which the container ends
        self._on_saved = on_saved
        self._state_dir: str = facts["state_dir"]
        self._loop = loop
        self._runtime = runtime
        self._streams = streams
        self._root: str = facts["rootfs"]
        self._owner: tuple[int, int] | None = facts["owner"]
        self._cgroup: str = facts["cgroup"]
        self._stdin_once: bool = facts["stdin_once"]
        self._started_at = started_at
        self._send_all = send_all
        self._execs: dict[str, Exec] = {}
        self._lingering: list[Exec] = []  # ended, with clients that still read
        self._killing: list[Callable[[dict[str, Any]], None]] = []  # answers to kills that a helper carries out
        self._starting = 0
        self._unknown: dict[int, tuple[int, int]] = {}  # children reaped before their exec's helper told their pids
        self._exit: dict[str, Any] | None = None

    @property
    def running_execs(self) -> bool:
        """Whether an exec was started and has not been reported as ended."""
        return any(exec.pid > 0 for exec in self._execs.values())

    @property
    def clients(self) -> int:
        """How many clients still have output to read."""
        self._lingering = [exec for exec in self._lingering if exec.clients]
        return self._streams.clients + sum(exec.clients for exec in self._lingering)

    def handle(
        self, connection: Connection, message: dict[str, Any], fds: list[int], exit: dict[str, Any] | None
    ) -> None:
        """Answer one request; ``exit`` is the record of the container's end once it has ended. Never raises."""
        self._exit = exit
        try:
            if message.get("v") != messages.VERSION:
                raise Refused(f"unsupported protocol version {message.get('v')!r}")
            handler = _HANDLERS.get(str(message.get("op")))
            if handler is None:
                raise Refused(f"unknown request {message.get('op')!r}")
            answer = handler(self, connection, message, fds)
        except Exception as exc:  # a bad request must not end the container
            text = f"bad request: {exc!r}" if isinstance(exc, (KeyError, TypeError, AttributeError)) else str(exc)
            answer = {"ok": False, "error": text}
        messages.close_all(fds)
        if answer is not None:
            connection.send({"seq": message.get("seq"), **answer})

    def attach(self, request: dict[str, Any], client: int) -> None:
        """Attach the client whose socket is ``client`` to the container."""

        def left(detached: bool) -> None:
            if detached:
                self._send_all({"event": "detached", "exec_id": None})

        self._streams.attach_requested(request, client, closes_input=self._stdin_once, on_end=left)

    def child_ended(self, pid: int, status: int, finished_at: int) -> None:
        """Take the wait status of a child that is not the container's init."""
        for exec in self._execs.values():
            if exec.pid == pid:
                exec.ended(status, finished_at)
                return
        if self._starting:
            self._unknown[pid] = (status, finished_at)

    def run_aside(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Run ``work`` in a helper process; call ``done`` when it is over, well or not."""

        def run() -> tuple[dict[str, Any], list[int]]:
            work()
            return {}, []

        helper.start(self._loop, run, lambda _answer, _fds: done())

    def finish(self) -> None:
        """End what is left of execs and requests after the container's end."""
        for answer in list(self._killing):
            answer({"ok": True})
        for exec in list(self._execs.values()):
            exec.finish()

    def _status(self, _connection: Connection, _message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        return {
            "ok": True,
            "pid": self.init.pid,
            "started_at": self._started_at,
            "state": "running" if self._exit is None else "exited",
            "exit": self._exit,
            "execs": {exec.id: {"pid": exec.pid} for exec in self._execs.values() if exec.pid > 0},
            "version": messages.VERSION,
        }

    def _attach(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        client = _only(fds)
        # The answer goes first: a client may detach at once, with what it typed already.
        connection.send({"seq": message.get("seq"), "ok": True})
        self.attach(message, client)

    def _exec(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        if self._exit is not None:
            raise Refused(messages.NOT_RUNNING)
        if message["exec_id"] in self._execs:
            raise Refused(f"exec {message['exec_id']} exists already")
        client = _only(fds) if fds else -1

        def started(exec: Exec, answer: dict[str, Any]) -> None:
            self._starting -= 1
            connection.send({"seq": message.get("seq"), **answer})
            if not answer["ok"]:
                del self._execs[exec.id]
                self._end_container(message)
            elif exec.pid in self._unknown:
                status, finished_at = self._unknown.pop(exec.pid)
                self._loop.after(0, lambda: exec.ended(status, finished_at))
            if not self._starting:
                self._unknown.clear()

        def ended(exec: Exec) -> None:
            code = os.waitstatus_to_exitcode(exec.status)
            del self._execs[exec.id]
            if exec.clients:
                self._lingering.append(exec)
            event = {"exec_id": exec.id, "code": code if code >= 0 else 128 - code, "finished_at": exec.finished_at}
            self._send_all({"event": "exec-exited", **event})
            self._end_container(message)

        exec = Exec(
            self._loop,
            self._runtime,
            self.init,
            message,
            client,
            root=self._root,
            owner=self._owner,
            cgroup=self._cgroup,
            on_started=started,
            on_ended=ended,
            on_detached=lambda left: self._send_all({"event": "detached", "exec_id": left.id}),
        )
        self._starting += 1
        self._execs[exec.id] = exec

    def _end_container(self, message: dict[str, Any]) -> None:
        """Kill the container of an exec that was its only purpose."""
        if message.get("ends_container") and self._exit is None:
            self._loop.after(0, lambda: self._runtime.kill(self.init, signal.SIGKILL, False))

    def _resize(self, _connection: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        height, width = int(message["height"]), int(message["width"])
        exec_id = message.get("exec_id")
        if exec_id is None:
            self._streams.resize(height, width)
        elif exec_id in self._execs:
            self._execs[exec_id].resize(height, width)
        else:
            raise Refused(f"no such exec: {exec_id}")
        return {"ok": True}

    def _kill(self, connection: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any] | None:
        number, everything = int(message["signal"]), bool(message.get("all"))
        if message.get("exec_id") is not None:
            return self._kill_exec(str(message["exec_id"]), number)
        if self._exit is not None:
            raise Refused(messages.NOT_RUNNING)
        if not self._runtime.kill_blocks:
            try:
                self._runtime.kill(self.init, number, everything)
            except ProcessLookupError:
                raise Refused(messages.NOT_RUNNING) from None
            return {"ok": True}

        def run() -> tuple[dict[str, Any], list[int]]:
            try:
                self._runtime.kill(self.init, number, everything)
            except RuntimeFailure as exc:
                return {"ok": False, "error": exc.message}, []
            return {"ok": True}, []

        def answer(text: dict[str, Any]) -> None:
            if answer in self._killing:
                self._killing.remove(answer)
                connection.send({"seq": message.get("seq"), "ok": "error" not in text, **text})

        self._killing.append(answer)
        helper.start(self._loop, run, lambda text, _fds: answer(text))
        return None

    def _kill_exec(self, exec_id: str, number: int) -> dict[str, Any]:
        exec = self._execs.get(exec_id)
        # A process that was not reaped keeps its pid, so this never meets a stranger; -1 would be everybody.
        if exec is None or exec.pid <= 0 or exec.finished_at:
            raise Refused(f"no such exec: {exec_id}")
        os.kill(exec.pid, number)
        return {"ok": True}

    def _mounts(self, connection: Connection, message: dict[str, Any], _fds: list[int]) -> None:
        """Mount and unmount inside the container, in a helper: it enters the container's mount namespace."""
        if self._exit is not None:
            raise Refused(messages.NOT_RUNNING)
        add, remove, again = list(message["add"]), [str(path) for path in message["remove"]], bool(message.get("again"))

        def run() -> tuple[dict[str, Any], list[int]]:
            try:
                live_mounts.change(self.init.pidfd, add, remove, again=again)
            except RuntimeFailure as exc:
                return {"error": exc.message}, []
            return {}, []

        def answer(text: dict[str, Any]) -> None:
            connection.send({"seq": message.get("seq"), "ok": "error" not in text, **text})

        helper.start(self._loop, run, lambda text, _fds: answer(text), keep=(self.init.pidfd,))

    def _checkpoint(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        """Save the container to files, in a helper: it waits for CRIU."""
        if self._exit is not None:
            raise Refused(messages.NOT_RUNNING)
        if self.saving:
            raise Refused("another checkpoint of the container is being made")
        name, leave_running = str(message["name"]), bool(message["leave_running"])
        program, bound = str(message["criu"]), [str(path) for path in message["bound"]]
        directory, pipes = _only(fds), self._streams.pipes
        if checkpoints.exists(directory, name):
            os.close(directory)
            raise Refused(f"checkpoint with name {name} already exists")

        def run() -> tuple[dict[str, Any], list[int]]:
            checkpoints.save(
                program,
                directory,
                name,
                state_dir=self._state_dir,
                init=self.init,
                pipes=pipes,
                bound=bound,
                leave_running=leave_running,
            )
            return {"ok": True}, []

        def answer(text: dict[str, Any]) -> None:
            if "ok" not in text and checkpoints.settle(directory, name, self.init, leave_running=leave_running):
                text = {"ok": True}
            os.close(directory)
            self.saving = False
            if text.get("ok") and not leave_running:
                self.saved = name
            connection.send({"seq": message.get("seq"), "ok": False, **text})
            self._on_saved()

        self.saving = True
        helper.start(self._loop, run, lambda text, _fds: answer(text), keep=(directory, self.init.pidfd))

    def _flush(self, _connection: Connection, _message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        self._streams.read_now()
        return {"ok": True}


def _only(fds: list[int]) -> int:
    """Take the one descriptor of a request; those that stay in the list are closed."""
    if len(fds) != 1:
        raise Refused(f"{len(fds)} descriptors in place of one")
    return fds.pop()


_HANDLERS: dict[str, Callable[[Requests, Connection, dict[str, Any], list[int]], dict[str, Any] | None]] = {
    "status": Requests._status,
    "attach": Requests._attach,
    "exec": Requests._exec,
    "resize": Requests._resize,
    "kill": Requests._kill,
    "flush": Requests._flush,
    "mounts": Requests._mounts,
    "checkpoint": Requests._checkpoint,
}
