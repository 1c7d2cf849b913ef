"""Where a container's terminal goes: to a console socket, or to the terminal this program was started from."""

import array
import errno
import os
import select
import signal
import socket

from boxship.linux import tty
from boxship.runtime.failure import RuntimeFailure, reason

_CHUNK = 65536


def send_master(path: str, master: int) -> None:
    """Hand the pty master ``master`` over to who listens on the Unix socket ``path``. Raises RuntimeFailure."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendmsg(
                [os.ttyname(0).encode() if os.isatty(0) else b"/dev/ptmx"],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))],
            )
    except OSError as exc:
        raise RuntimeFailure(f"unable to send the console to {path}: {reason(exc)}") from exc


def pump(master: int, pidfd: int) -> None:
    """Carry bytes between stdin/stdout and ``master`` until the process of ``pidfd`` has ended and all is read."""
    old = tty.make_raw(0) if os.isatty(0) else None
    if old is not None:
        _copy_size(master)
        signal.signal(signal.SIGWINCH, lambda *_: _copy_size(master))
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(master, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    ended = False
    try:
        while True:
            ready = dict(poller.poll(0 if ended else None))
            if master in ready:
                if not _forward(master, 1):
                    return
            elif ended:
                return
            if 0 in ready and not _forward(0, master):
                poller.unregister(0)
            if pidfd in ready:
                poller.unregister(pidfd)
                ended = True
    finally:
        if old is not None:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
            tty.restore(0, old)


def _forward(source: int, target: int) -> bool:
    """Carry what is ready; tell whether more may come."""
    try:
        chunk = os.read(source, _CHUNK)
    except OSError as exc:
        if exc.errno != errno.EIO:  # nobody has the terminal open any more
            raise
        return False
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]
    return bool(chunk)


def _copy_size(master: int) -> None:
    height, width = tty.window_size(0)
    tty.set_window_size(master, height, width)
