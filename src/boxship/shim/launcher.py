"""The launcher: a small process that forks shims and makes network namespaces, since boxshipd itself cannot.

boxshipd starts it first of all and talks to it over a socketpair (see docs/architecture.md). It has one thread and nothing
imported but what shims need: what it holds is what every shim shares, and a fork of it is a shim within a millisecond.
It ends when boxshipd does; shims live on.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from boxship.linux import prctl
from boxship.shim import helper, netns
from boxship.shim.shim import Shim
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # meant for boxshipd, whose end we see


def command(fd: int) -> list[str]:
    """Return the arguments that start a launcher on the socket ``fd``, for ``subprocess.Popen(..., pass_fds=[fd])``.

    Site packages are left out: they cost memory, and an engine must not depend on what somebody installs there.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.insert(0, {os.path.dirname(package)!r})\nfrom boxship.shim import launcher\nlauncher.main({fd})"
    return [sys.executable, "-I", "-S", "-c", code]


def main(fd: int) -> None:
    """Serve the socket ``fd`` until boxshipd closes its end."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    _leave_session()
    gc.collect()
    gc.freeze()  # shims share these pages as long as nobody writes to them
    serve(sock, _run_shim)


def serve(sock: socket.socket, run_shim: Callable[[dict[str, Any], list[int]], None]) -> None:
    """Answer requests until the other side closes. ``run_shim(start, fds)`` is called in the fork of each shim."""
    while True:
        try:
            message, fds = messages.receive(sock)
        except (EOFError, messages.MessageError, ConnectionError):
            return
        answer: dict[str, Any]
        passed: list[int] = []
        try:
            answer, passed = _answer(message, fds, run_shim)
        except Exception as exc:  # a bad request must not end the launcher
            answer = {"ok": False, "error": f"{type(exc).__name__}: {exc}"}
        finally:
            messages.close_all(fds)
        try:
            messages.send(sock, answer, passed)
        except ConnectionError:
            return
        finally:
            messages.close_all(passed)


def _answer(
    message: dict[str, Any],
    fds: list[int],
    run_shim: Callable[[dict[str, Any], list[int]], None],
) -> tuple[dict[str, Any], list[int]]:
    if message.get("v") != messages.VERSION:
        return {"ok": False, "error": f"unsupported protocol version {message.get('v')!r}"}, []
    match message.get("op"):
        case "ping":
            return {"ok": True}, []
        case "netns":
            return {"ok": True}, [netns.create(message["path"])]
        case "shim":
            start = message["start"]
            if not os.path.isabs(start["state_dir"]):
                return {"ok": False, "error": f"state_dir is not an absolute path: {start['state_dir']!r}"}, []
            expected = 1 + len(start.get("attach") or ())
            if len(fds) != expected:
                return {"ok": False, "error": f"{len(fds)} descriptors in place of {expected}"}, []
            return {"ok": True, "pid": _fork_shim(start, fds, run_shim)}, []
        case unknown:
            return {"ok": False, "error": f"unknown request {unknown!r}"}, []


def _fork_shim(start: dict[str, Any], fds: list[int], run_shim: Callable[[dict[str, Any], list[int]], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        helper.close_all_but(fds)
        run_shim(start, fds)
        status = 0
    finally:
        os._exit(status)


def _run_shim(start: dict[str, Any], fds: list[int]) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 2)
    os.close(null)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    prctl.set_name("boxship-shim")
    prctl.set_child_subreaper(True)
    Shim(start, socket.socket(fileno=fds[0]), fds[1:]).run()


def _leave_session() -> None:
    """Be nobody's job: no terminal, no signals meant for boxshipd, no child to wait for, no directory held."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    prctl.set_name("boxship-launch")
