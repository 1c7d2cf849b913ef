"""Hooks of the runtime-spec: programs that run at fixed points of a container's life with its state on stdin."""

import json
import os
import select
import signal
import time

from boxship.linux import pidfd
from boxship.runtime.failure import RuntimeFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_OUTPUT = 4096


def run(hooks: "list[dict[str, Any]]", state: "dict[str, Any]") -> None:
    """Run ``hooks`` one after the other with ``state`` (runtime-spec state document) on stdin.

    Raises RuntimeFailure at the first that fails or is still running after its ``timeout`` (seconds).
    """
    document = json.dumps(state).encode()
    for index, hook in enumerate(hooks):
        try:
            _run_one(hook, document)
        except OSError as exc:
            raise RuntimeFailure(f"error running hook #{index}: fork/exec {hook['path']}: {reason(exc)}") from exc
        except RuntimeFailure as exc:
            raise RuntimeFailure(f"error running hook #{index}: {exc.message}") from exc


def _run_one(hook: "dict[str, Any]", document: bytes) -> None:
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _execute(hook, input_read, output_write)
    os.close(input_read)
    os.close(output_write)
    process = pidfd.pidfd_open(pid)
    ended = False
    try:
        timeout = hook.get("timeout")
        output, ended = _talk(process, input_write, output_read, document, timeout)
    finally:
        if not ended:
            pidfd.send_signal(process, signal.SIGKILL)
        os.close(process)
        os.close(output_read)
        _, status = os.waitpid(pid, 0)
    if not ended:
        raise RuntimeFailure(f"hook ran past specified timeout of {timeout}s")
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        how = f"exit status {code}" if code > 0 else f"signal {-code}"
        raise RuntimeFailure(f"error running hook: {how}, output: {output.decode(errors='replace').strip()}")


def _talk(process: int, input_write: int, output_read: int, document: bytes, timeout: int | None) -> tuple[bytes, bool]:
    """Feed and listen to a hook until it ends; return the start of its output and whether it ended in time."""
    deadline = time.monotonic() + timeout if timeout else None
    output = b""
    poller = select.poll()
    poller.register(process, select.POLLIN)
    poller.register(output_read, select.POLLIN)
    poller.register(input_write, select.POLLOUT)
    os.set_blocking(input_write, False)
    os.set_blocking(output_read, False)
    pending = memoryview(document)
    try:
        while True:
            left = None if deadline is None else (deadline - time.monotonic()) * 1000
            if left is not None and left <= 0:
                return output, False
            for fd, _ in poller.poll(left):
                if fd == input_write:
                    try:
                        pending = pending[os.write(input_write, pending) :]
                    except BrokenPipeError:
                        pending = pending[:0]
                    if not pending:
                        poller.unregister(input_write)
                        os.close(input_write)
                        input_write = -1
                elif fd == output_read:
                    chunk = os.read(output_read, 65536)
                    output = (output + chunk)[:_MAX_OUTPUT]
                    if not chunk:
                        poller.unregister(output_read)
                else:
                    return output + _drain(output_read), True
    finally:
        if input_write >= 0:
            os.close(input_write)


def _drain(fd: int) -> bytes:
    """Return what can be read at once."""
    try:
        return os.read(fd, _MAX_OUTPUT)
    except BlockingIOError:
        return b""  # empty, and a child of the hook keeps the other end


def _execute(hook: "dict[str, Any]", input_read: int, output_write: int) -> None:
    """Become the hook (in its own process); never returns."""
    try:
        os.dup2(input_read, 0)
        os.dup2(output_write, 1)
        os.dup2(output_write, 2)
        env = dict(entry.partition("=")[::2] for entry in hook.get("env") or [] if "=" in entry)
        os.execve(hook["path"], hook.get("args") or [hook["path"]], env)
    except OSError as exc:
        os.write(2, f"{hook['path']}: {reason(exc)}".encode())
    finally:
        os._exit(127)
