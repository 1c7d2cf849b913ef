"""The launcher: a small process that forks shims and makes network namespaces, since boxshipd itself cannot.

boxshipd starts it first of all and talks to it over a socketpair (see docs/architecture.md). It has one thread and nothing
imported but what shims need: what it holds is what all shims share, and a fork of it is a shim within a millisecond.
It ends when boxshipd does; shims live on.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys

from boxship.linux import cgroup as cgroups
from boxship.linux import prctl
from boxship.runtime import selfexe
from boxship.shim import helper, netns
from boxship.shim.shim import Shim
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

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
    selfexe.protect()  # all containers start as forks of this process
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    _leave_session()
    cgroups.layout()  # read once for all shims
    gc.collect()
    gc.freeze()
    serve(sock, _run_shim)


def serve(sock: socket.socket, run_shim: Callable[[dict[str, Any], list[int]], None]) -> None:
    """Answer requests until the other side closes. ``run_shim(start, fds)`` is called in the fork of each shim.

    The launcher forks before it reads a request: the child reads it, answers it, says that it has, and becomes what was
    asked for. So nothing in a request can hurt the launcher, and the launcher hardly ever writes to its memory: what it
    leaves alone stays shared by all shims. The end of a child that has not answered is the end of the launcher.
    """
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while True:
        poller.poll()
        try:
            if not sock.recv(1, socket.MSG_PEEK):
                return
        except ConnectionError:
            return
        answered, answer = os.pipe()
        try:
            pid = os.fork()
        except OSError as exc:  # no more processes or memory: say so, and go on
            _refuse(sock, f"cannot fork: {exc.strerror}")
            os.write(answer, b"1")
        else:
            if pid == 0:
                _serve_one(sock, answer, run_shim)
        os.close(answer)
        going_on = os.read(answered, 1)
        os.close(answered)
        if not going_on:
            return


def _serve_one(sock: socket.socket, answered: int, run_shim: Callable[[dict[str, Any], list[int]], None]) -> NoReturn:
    status = 1
    try:
        message, fds = messages.receive(sock)
        start: dict[str, Any] | None = None
        passed: list[int] = []
        try:
            if message.get("v") != messages.VERSION:
                raise ValueError(f"unsupported protocol version {message.get('v')!r}")
            answer: dict[str, Any] = {"ok": True}
            match message.get("op"):
                case "ping":
                    pass
                case "netns":
                    passed = [netns.make(message["path"])]
                case "shim":
                    start = _checked(message["start"], fds)
                    answer["pid"] = os.getpid()
                case unknown:
                    raise ValueError(f"unknown request {unknown!r}")
        except Exception as exc:  # whatever is wrong with it: that is the answer
            answer = {
                "ok": False,
                "error": f"{exc}" if isinstance(exc, (OSError, ValueError)) else f"bad request: {exc!r}",
            }
            start = None
        messages.send(sock, answer, passed)
        os.write(answered, b"1")
        if start is not None:
            helper.close_all_but(fds)
            run_shim(start, fds)
        status = 0
    finally:
        os._exit(status)


def _checked(start: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Return ``start`` if a shim can begin with it: it reports everything else itself. Raises ValueError."""
    if not os.path.isabs(start["state_dir"]):
        raise ValueError(f"state_dir is not an absolute path: {start['state_dir']!r}")
    expected = 1 + len(start.get("attach") or ())
    if len(fds) != expected:
        raise ValueError(f"{len(fds)} descriptors in place of {expected}")
    return start


def _refuse(sock: socket.socket, error: str) -> None:
    _, fds = messages.receive(sock)
    messages.close_all(fds)
    messages.send(sock, {"ok": False, "error": error})


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
