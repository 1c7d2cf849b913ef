"""The nameserver process: started by boxshipd, on its own as soon as its control socket is there."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import traceback

from boxship.linux import capabilities, prctl
from boxship.nameserver.control import SOCKET, Control
from boxship.nameserver.service import Service
from boxship.shim.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LOCKED = 3  # exit status: another nameserver has the directory
_CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")  # setns(2) and nftables; nothing else of root's is needed
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)  # meant for boxshipd


def command(directory: str) -> list[str]:
    """Return the arguments that start a nameserver with its control socket in ``directory``.

    The process exits with 0 as soon as that socket is there; a child of it goes on.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(package)!r})\n"
        f"from boxship.nameserver import main\nmain.main({directory!r})"
    )
    return [sys.executable, "-I", "-S", "-c", code]


def main(directory: str) -> NoReturn:
    """Serve until boxshipd says stop, or is gone with nobody left to answer to."""
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
    _settle()
    loop = Loop(_note_error)
    service = Service(loop)
    Control(directory, listener, lock, service, loop)
    gc.collect()
    gc.freeze()
    loop.run()
    os._exit(0)  # the thread that enters namespaces has nothing to finish


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


def _settle() -> None:
    """Be nobody's job, with room for many sockets and without rights that we don't use."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    prctl.set_name("boxship-dns")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = capabilities.mask_of(list(_CAPABILITIES)) & capabilities.capget().permitted
    capabilities.capset(capabilities.Sets(kept, kept, 0))
    prctl.set_no_new_privs()


def _note_error() -> None:
    """Tell of a bug, as long as there is somebody who reads it."""
    try:
        traceback.print_exc()
        sys.stderr.flush()
    except OSError:
        pass
