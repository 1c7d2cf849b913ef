"""The launcher: a small process that forks shims and makes network namespaces, since boxshipd itself cannot.

boxshipd starts it first of all and talks to it over a socketpair (see docs/architecture.md). It has one thread and nothing
imported but what shims need: what it holds is what all shims share, and a fork of it is a shim within a millisecond.
It ends when boxshipd does; shims live on.

For each request it forks before it reads: what it leaves alone stays shared by all shims, and nothing in a request can
hurt it. The child forks in turn: it will be the shim, if one was asked for, and its own child, the *starter*, does all
the work (the picture is in :mod:`boxship.shim.starter`). The starter reads the request, answers it, and lets the launcher
go on to the next. If both end without an answer, the socket is in an unknown state: the launcher ends then.
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
from boxship.shim import assembly, helper, netns, rehearsal, shim, starter
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    cgroups.layout()  # read once for all shims
    rehearsal.rehearse()
    gc.collect()
    gc.freeze()
    helper.close_all_but([fd])
    _leave_session()
    serve(sock)


def serve(sock: socket.socket) -> None:
    """Answer requests until the other side closes, or a request stays without an answer."""
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
            _refuse(sock, answer, exc)
        else:
            if pid == 0:
                _be_shim(sock, answer, answered)
        os.close(answer)
        going_on = os.read(answered, 1)
        os.close(answered)
        if not going_on:
            return


def _be_shim(sock: socket.socket, answer: int, answered: int) -> NoReturn:
    """Fork the starter, and be the shim of what it starts.

    The launcher's descriptors are closed at once: a starter that dies without an answer must not go unnoticed.
    """
    status = 1
    try:
        ours, theirs = socket.socketpair()
        pid = os.getpid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        prctl.set_child_subreaper(True)
        try:
            starter_pid = os.fork()
        except OSError as exc:
            _refuse(sock, answer, exc)
            os._exit(0)
        if starter_pid == 0:
            ours.close()
            _serve_one(sock, answer, theirs, pid)
        theirs.close()
        sock.close()
        os.close(answer)
        os.close(answered)
        shim.live(ours)
        status = 0
    finally:
        os._exit(status)


def _serve_one(sock: socket.socket, answered: int, handover: socket.socket, shim_pid: int) -> NoReturn:
    status = 1
    try:
        message, fds = messages.receive(sock)
        start: dict[str, Any] | None = None
        passed: list[int] = []
        keep: socket.socket | None = None
        try:
            if message.get("v") != messages.VERSION:
                raise ValueError(f"unsupported protocol version {message.get('v')!r}")
            answer: dict[str, Any] = {"ok": True}
            match message.get("op"):
                case "ping":
                    pass
                case "netns":
                    passed = [netns.make(message["path"], message.get("user"))]
                case "enter":
                    passed = [netns.enter(message["path"], ipv6=bool(message.get("ipv6")))]
                case "shim":
                    start = _checked(message["start"], fds)
                    answer["pid"] = shim_pid
                case "assemble":
                    keep = socket.socket(fileno=fds[0])
                    assembly.assemble(fds[1], fds[2:], message["targets"])
                case unknown:
                    raise ValueError(f"unknown request {unknown!r}")
        except Exception as exc:  # whatever is wrong with it: that is the answer
            answer = {
                "ok": False,
                "error": f"{exc}" if isinstance(exc, (OSError, ValueError)) else f"bad request: {exc!r}",
            }
            start = keep = None
        messages.send(sock, answer, passed)
        os.write(answered, b"1")
        if keep is not None:
            helper.close_all_but([keep.fileno()])
            assembly.keep_until_closed(keep)
        if start is not None:
            os.dup2(0, 2)  # the last descriptor of boxshipd's
            helper.close_all_but([handover.fileno(), *fds])
            starter.run(start, fds, handover, shim_pid)
        status = 0
    finally:
        os._exit(status)


def _checked(start: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Return ``start`` if a shim can begin with it: it reports everything else itself. Raises ValueError."""
    if not os.path.isabs(start["state_dir"]):
        raise ValueError(f"state_dir is not an absolute path: {start['state_dir']!r}")
    expected = 1 + len(start.get("attach") or ()) + bool(start.get("checkpoint"))
    if len(fds) != expected:
        raise ValueError(f"{len(fds)} descriptors in place of {expected}")
    return start


def _refuse(sock: socket.socket, answered: int, reason: OSError) -> None:
    """Take a request that cannot be carried out and say so."""
    _, fds = messages.receive(sock)
    messages.close_all(fds)
    messages.send(sock, {"ok": False, "error": f"cannot fork: {reason.strerror}"})
    os.write(answered, b"1")


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
