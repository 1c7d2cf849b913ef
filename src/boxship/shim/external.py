"""Containers on an OCI runtime of others, driven over its command line (runc's is the pattern all of them follow).

The shim is the subreaper: the container's init becomes its child when ``create`` returns, so it is reaped and pumped like
any other. Standard streams are inherited; a terminal's master arrives on the console socket. Calls block: they are made in
the starter, in helper processes, and when there is nothing left to serve.
"""

from __future__ import annotations

import json
import os
import signal
import socket

from boxship.runtime.failure import RuntimeFailure
from boxship.shim.started import Started
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_IGNORED_HERE = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
_CONSOLE_FD = 3
_ERROR_LEVELS = ("error", "fatal")
_NOT_FOUND = ("executable file not found", "no such file or directory")
_NOT_EXECUTABLE = ("permission denied", "exec format error", "is a directory")


class ExternalRuntime:
    """One container on the runtime that the ``runtime`` of the facts names."""

    kill_blocks = True

    def __init__(self, facts: dict[str, Any]) -> None:
        self._id: str = facts["id"]
        self._rootfs: str = facts["rootfs"]
        self._cgroup: str = facts["cgroup"]
        self._directory: str = facts["state_dir"]
        self._bundle = os.path.join(self._directory, "bundle")
        self._root = os.path.join(self._directory, "runtime")
        self._log = os.path.join(self._directory, "runtime.log")
        runtime: dict[str, Any] = facts["runtime"]
        self._command: list[str] = [runtime["path"], *(runtime.get("args") or ())]

    def start(self, spec: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Create and start the container; the runtime makes its cgroup at the path the shim expects."""
        os.makedirs(self._bundle, mode=0o700, exist_ok=True)
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        spec = dict(spec)
        spec["root"] = {**(spec.get("root") or {}), "path": self._rootfs}
        spec["linux"] = {**(spec.get("linux") or {}), "cgroupsPath": self._cgroup}
        _write_json(os.path.join(self._bundle, "config.json"), spec)
        pid_file = os.path.join(self._directory, "init.pid")
        terminal = bool(spec["process"].get("terminal"))
        arguments = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        console = self._call(arguments, self._id, stdio=stdio, terminal=terminal)
        pid = _read_pid(pid_file)
        pidfd = os.pidfd_open(pid)
        self._call(["start"], self._id)
        return Started(pid, pidfd, console)

    def restore(
        self, _spec: dict[str, Any], _stdio: tuple[int, int, int], _request: dict[str, Any], _images: int, _control: int
    ) -> Started:
        """Refuse: what a runtime saves is its own affair."""
        raise RuntimeFailure("checkpoints need the default runtime")

    def exec(self, _init: Started, process: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Start another process in the container; called in a helper process. Raises RuntimeFailure."""
        base = os.path.join(self._directory, f"exec-{os.getpid()}")
        process_file, pid_file = f"{base}.json", f"{base}.pid"
        try:
            _write_json(process_file, process)
            arguments = ["exec", "--detach", "--process", process_file, "--pid-file", pid_file]
            console = self._call(arguments, self._id, stdio=stdio, terminal=bool(process.get("terminal")))
            return Started(_read_pid(pid_file), -1, console)
        finally:
            for path in (process_file, pid_file):
                _remove(path)

    def kill(self, _init: Started, number: int, everything: bool) -> None:
        """Signal the container's init, or all its processes. Raises RuntimeFailure."""
        self._call(["kill", *(["--all"] if everything else [])], self._id, str(number))

    def delete(self) -> None:
        """Let the runtime remove what it keeps of the container, which has ended or never started. Never raises."""
        try:
            self._call(["delete", "--force"], self._id)
        except (RuntimeFailure, OSError):
            pass

    def _call(self, arguments: list[str], *operands: str, stdio: Sequence[int] = (), terminal: bool = False) -> int:
        """Run the runtime; return the terminal's master it sent, else -1. Raises RuntimeFailure with the runtime's words."""
        _remove(self._log)
        command = [*self._command, "--log", self._log, "--log-format", "json", "--root", self._root, *arguments]
        if not terminal:
            self._check(_run([*command, *operands], stdio))
            return -1
        # A socket's address holds 107 bytes; by way of a descriptor that the runtime inherits any directory will do.
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"console-{os.getpid()}.sock"
        try:
            with _listen(f"/proc/self/fd/{directory}/{name}") as listener:
                command += ["--console-socket", f"/proc/self/fd/{_CONSOLE_FD}/{name}"]
                self._check(_run([*command, *operands], (), directory))
                return _receive_console(listener)
        finally:
            _remove(os.path.join(self._directory, name))
            os.close(directory)

    def _check(self, code: int) -> None:
        if code != 0:
            raise _failure(self._log, self._command[0], code)


def _run(command: list[str], stdio: Sequence[int], directory: int = -1) -> int:
    """Run ``command`` with 0 to 2 replaced by ``stdio`` and ``directory`` as descriptor 3; return its exit code."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
    if directory >= 0:
        actions.append((os.POSIX_SPAWN_DUP2, directory, _CONSOLE_FD))
    try:
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsigdef=_IGNORED_HERE)
    except OSError as exc:
        raise RuntimeFailure(f"{command[0]}: {exc.strerror}") from exc
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(10.0)
    except BaseException:
        listener.close()
        raise
    return listener


def _receive_console(listener: socket.socket) -> int:
    """Return the descriptor that the runtime sent with the terminal's name as its only message."""
    connection, _ = listener.accept()
    with connection:
        _, fds = messages.receive_some(connection, 4096)
    if not fds:
        raise RuntimeFailure("the runtime sent no terminal")
    messages.close_all(fds[1:])
    return fds[0]


def _failure(log: str, program: str, code: int) -> RuntimeFailure:
    """Return the last error of the runtime's log as an exception with the exit code that it means."""
    message = f"{program} exited with status {code}"
    try:
        with open(log, "rb") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["level"] in _ERROR_LEVELS:
                message = str(entry["msg"])
        except (ValueError, KeyError, TypeError):
            continue
    if any(text in message for text in _NOT_FOUND):
        return RuntimeFailure(message, 127)
    if any(text in message for text in _NOT_EXECUTABLE):
        return RuntimeFailure(message, 126)
    return RuntimeFailure(message)


def _write_json(path: str, document: dict[str, Any]) -> None:
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(document).encode())


def _read_pid(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read())


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
