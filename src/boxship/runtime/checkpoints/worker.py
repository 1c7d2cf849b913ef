"""CRIU at work: one ``criu swrk``, which is given one request over a socket and asks back at steps of its work."""

import array
import os
import select
import signal
import socket

from boxship.linux import prctl
from boxship.runtime.checkpoints import messages
from boxship.runtime.failure import RuntimeFailure
from boxship.runtime.process import keep_only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

TIME_LIMIT = 3600.0  # seconds that CRIU may be silent while it writes or reads a container's memory
_MESSAGE_LIMIT = 65536  # bytes
_LOG_LIMIT = 1 << 20  # bytes of a log's end in which errors are looked for
_ERRORS = 3  # of them that a message names
_ERROR_LENGTH = 300  # characters of each
_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    program: str,
    request: bytes,
    *,
    kept: "Iterable[int]",
    fork: "Callable[[], int]",
    prepare: "Callable[[], None]",
    on_step: "Callable[[messages.Response], None]",
    asker_fd: int = -1,
) -> messages.Response:
    """Have CRIU carry out ``request`` in a new process and return its last word.

    The descriptors ``kept`` are CRIU's too, with the same numbers. ``prepare`` runs in the new process, before CRIU.
    ``on_step`` is called at each step; CRIU undoes its work when it raises, and so does this once that is done. A descriptor
    that came with the step is closed after it, unless -1 stands in its place then.
    Who forks by ``fork_sibling`` leaves the process to the caller's parent. ``asker_fd``: the connection to whoever wants
    this, whose end calls the work off. Raises RuntimeFailure, OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = fork()
        if pid == 0:
            _be_criu(program, theirs, kept, prepare)
        theirs.close()
        try:
            return _talk(ours, request, on_step, asker_fd)
        except BaseException:
            _end(pid)
            raise
        finally:
            if fork is os.fork:
                os.waitpid(pid, 0)


def errors(work_fd: int, log: str) -> str:
    """Return the last errors of the log named ``log`` in the directory, on one line; "" when it has none."""
    try:
        fd = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work_fd)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        file.seek(max(0, os.fstat(fd).st_size - _LOG_LIMIT))
        return last_errors(file.read().decode("utf-8", "replace"))


def last_errors(log: str) -> str:
    """Return the last errors in the text of a log of CRIU, without times and places in CRIU's source."""
    found: list[str] = []
    for line in log.splitlines():
        _, error, rest = line.partition("Error (")
        if error:
            text = rest.partition("): ")[2].strip() or rest
            text = "".join(c if c.isprintable() else " " for c in text)[:_ERROR_LENGTH]
            if text not in found:
                found.append(text)
    return "; ".join(found[-_ERRORS:])


def search_path() -> str:
    """Return the directories, as in ``$PATH``, in which CRIU and the programs that it runs are looked for."""
    return f"{os.environ.get('PATH', '')}:{_DIRECTORIES}".lstrip(":")


def _talk(
    sock: socket.socket, request: bytes, on_step: "Callable[[messages.Response], None]", asker_fd: int
) -> messages.Response:
    failure: Exception | None = None
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    if asker_fd >= 0:
        poller.register(asker_fd, 0)  # its end is always told
    try:
        sock.send(request)
        while True:
            ready = poller.poll(TIME_LIMIT * 1000)
            if not ready:
                raise RuntimeFailure(f"criu did nothing for {TIME_LIMIT:.0f} seconds")
            if any(fd == asker_fd for fd, _ in ready):
                raise RuntimeFailure("nobody waits for it any more")
            data, fd = _receive(sock)
            if not data:
                raise RuntimeFailure("criu ended without an answer")
            answer = messages.response(data)
            if answer.kind != messages.NOTIFY:
                break
            answer.fd = fd
            try:
                on_step(answer)
            except Exception as exc:  # told to criu first, so that it puts everything back
                failure = exc
            if answer.fd >= 0:
                os.close(answer.fd)
            sock.send(messages.confirmation(failure is None))
    except ConnectionError:
        raise failure or RuntimeFailure("criu ended without an answer") from None
    except ValueError as exc:
        raise RuntimeFailure(str(exc)) from exc
    if failure is not None:
        raise failure
    return answer


def _receive(sock: socket.socket) -> tuple[bytes, int]:
    """Return the next message and the descriptor that came along, or -1."""
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(_MESSAGE_LIMIT, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds[0] if fds else -1


def _be_criu(program: str, sock: socket.socket, kept: "Iterable[int]", prepare: "Callable[[], None]") -> "NoReturn":
    try:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        prctl.set_parent_death_signal(signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        prepare()
        fds = [sock.fileno(), *kept]
        for fd in fds:
            os.set_inheritable(fd, True)
        keep_only(fds)
        os.chdir("/")
        os.execve(program, [program, "swrk", str(sock.fileno())], {"PATH": search_path(), "HOME": "/"})
    finally:
        os._exit(127)


def _end(pid: int) -> None:
    """Kill CRIU; a sibling may have been reaped already, but only its parent could have given its number away."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
