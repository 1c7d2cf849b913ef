"""Residents: small processes that boxshipd starts and that outlive it, one of a kind for each engine.

How one begins: boxshipd runs :func:`command`. The new process takes the lock of its directory, listens at the control
socket there, forks, and exits with 0: the socket is there when the command is done. The child goes on, tells
boxshipd its version, and ends on ``stop``, or when boxshipd is gone and it has nothing to do.

Requests are messages of :mod:`boxship.wire.messages` with ``op`` and ``seq``; each gets one answer with that ``seq``: ``ok``, and
``error`` when that is false. Changes take effect in the order of the requests; answers may overtake one another. These
every resident knows; the others are its own:

========== ============================================================================================
op         answer
========== ============================================================================================
``hello``  ``version`` of the program
``status`` counts
``retire`` the socket's path is free for another resident; this one ends with this connection
``stop``   and it ends
========== ============================================================================================
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import sys
import traceback

from boxship import __version__
from boxship.linux import prctl
from boxship.shim.loop import READ
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from boxship.shim.loop import Loop

    class Work(Protocol):
        """What a resident does."""

        @property
        def empty(self) -> bool:
            """Whether there is nothing to do."""

        def status(self) -> dict[str, int]:
            """Return counts for whoever wants to look inside."""

        def carry_out(self, request: dict[str, Any], fds: list[int], answer: Answer) -> None:
            """Do what a request says and answer it, now or later.

            Takes the descriptors that it wants out of ``fds``; the rest are closed. Raises KeyError, TypeError or
            ValueError for a bad request.
            """

        def close(self) -> None:
            """End all work."""


SOCKET = "control.sock"
LOCKED = 3  # exit status: another one has the directory
_ANSWER_TIMEOUT = 5.0  # seconds for a boxshipd that does not read
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)  # meant for boxshipd


def command(package: str, directory: str) -> list[str]:
    """Return the arguments that start the resident of a package, whose ``main.main`` gets the directory."""
    boxship = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(boxship)!r})\n"
        f"from {package} import main\nmain.main({directory!r})"
    )
    return [sys.executable, "-I", "-S", "-c", code]


def begin(directory: str) -> tuple[socket.socket, int]:
    """Take a directory and go on as nobody's child; return the listening socket and the lock's descriptor.

    Ends the process with :data:`LOCKED` when another one has the directory.
    """
    os.umask(0o077)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(LOCKED)
    listener = _listen(directory)
    if os.fork():
        os._exit(0)
    return listener, lock


def settle(name: str) -> None:
    """Be nobody's job, under a name of at most 15 bytes, with room for many sockets."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    prctl.set_name(name)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def note_error() -> None:
    """Tell of a bug, as long as there is somebody who reads it."""
    try:
        traceback.print_exc()
        sys.stderr.flush()
    except OSError:
        pass


class Control:
    """Owns the listening socket, the lock of ``directory``, and the connections."""

    def __init__(self, directory: str, listener: socket.socket, lock: int, work: Work, loop: Loop) -> None:
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listener = listener
        self._lock = lock
        self._work = work
        self._loop = loop
        self._connections: set[_Connection] = set()
        self._retired = False
        loop.watch(listener.fileno(), READ, lambda _: self._accept())

    def ended(self, connection: _Connection) -> None:
        """Note that boxshipd is gone; without one and without work nobody needs us."""
        self._connections.discard(connection)
        if not self._connections and (self._retired or self._work.empty):
            self._stop()

    def carry_out(self, message: dict[str, Any], fds: list[int], connection: _Connection) -> None:
        """Do what a request says and answer it; raises KeyError, TypeError or ValueError for a bad one."""
        answer = Answer(message["seq"], connection)
        match message["op"]:
            case "hello":
                answer.send({"version": __version__})
            case "status":
                answer.send({**self._work.status()})
            case "retire":
                self._retire()
                answer.send({})
            case "stop":
                answer.send({})
                self._stop()
            case _:
                self._work.carry_out(message, fds, answer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._connections.add(_Connection(sock, self, self._loop))

    def _retire(self) -> None:
        if self._retired:
            return
        self._retired = True
        self._loop.forget(self._listener.fileno())
        try:
            os.unlink(SOCKET, dir_fd=self._directory)
        except OSError:
            pass  # without the right to do so it stays, and refuses
        self._listener.close()
        os.close(self._lock)

    def _stop(self) -> None:
        self._retire()
        self._work.close()
        self._loop.stop()


class Answer:
    """What a request waits for."""

    __slots__ = ("_connection", "_seq")

    def __init__(self, seq: object, connection: _Connection) -> None:
        self._seq = seq
        self._connection = connection

    def send(self, fields: dict[str, Any], *, error: str = "") -> None:
        """Send it, with these fields; a boxshipd that is gone needs none."""
        answer = {"seq": self._seq, "ok": not error, **fields}
        self._connection.send({**answer, "error": error} if error else answer)


class _Connection:
    """One boxshipd."""

    def __init__(self, sock: socket.socket, control: Control, loop: Loop) -> None:
        self._sock = sock
        self._control = control
        self._loop = loop
        self._decoder = messages.Decoder()
        self._open = True
        sock.settimeout(_ANSWER_TIMEOUT)
        loop.watch(sock.fileno(), READ, lambda _: self._readable())

    def send(self, answer: dict[str, Any]) -> None:
        """Send an answer; a boxshipd that is gone needs none."""
        if not self._open:
            return
        try:
            messages.send(self._sock, answer)
        except OSError:
            self._close()

    def _readable(self) -> None:
        try:
            data, fds = messages.receive_some(self._sock)
            arrived = self._decoder.feed_with_fds(data, fds) if data else None
        except (OSError, messages.MessageError):
            arrived = None
        if arrived is None:
            self._close()
            return
        for message, owned in arrived:
            try:
                self._control.carry_out(message, owned, self)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                self.send({"seq": message.get("seq", 0), "ok": False, "error": f"bad request: {exc!r}"})
            finally:
                messages.close_all(owned)

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.forget(self._sock.fileno())
        self._decoder.close()
        self._sock.close()
        self._control.ended(self)


def _listen(directory: str) -> socket.socket:
    """Return a socket that listens at its path from the first moment it is seen there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        new = f"{SOCKET}.new"
        try:
            os.unlink(new, dir_fd=directory_fd)
        except FileNotFoundError:
            pass
        listener.bind(f"/proc/self/fd/{directory_fd}/{new}")  # a socket address holds 107 bytes only
        listener.listen()
        os.rename(new, SOCKET, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    finally:
        os.close(directory_fd)
    return listener
