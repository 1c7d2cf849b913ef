"""Make a user namespace for a container, in a process that enters it.

A process cannot map ids for itself, and once inside it may mount nothing on the host. So it has a helper, forked before::

    enters                                   helper
       | fork ---------------------------------->|
       | unshare or setns                        |
       |-- ENTERED ----------------------------->|  writes uid_map and gid_map (of a new namespace)
       |<------------------------------- DONE ---|
       | what it wants to own, such as a         |
       | network namespace                       |
       |-- MADE -------------------------------->|  binds the namespaces' files at their paths
       |<------------------------------- DONE ---|  ends

End of file means that the other one failed.
"""

from __future__ import annotations

import os
import socket

from boxship.linux import mount, namespaces, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

SUFFIX = ".user"  # the user namespace that owns the network namespace at a path is bound beside it
_ENTERED, _MADE, _DONE = b"E", b"M", b"D"


class Inside:
    """The calling process's stay in a user namespace that it entered by :func:`enter`."""

    def __init__(self, helper: int, end: socket.socket) -> None:
        self._helper = helper
        self._end = end

    def bind(self, path: str) -> None:
        """Bind the process's network namespace at ``path`` and its user namespace beside it. Raises OSError."""
        _ask(self._end, _MADE + os.fsencode(path))
        self._end.close()
        os.waitpid(self._helper, 0)


def enter(wanted: dict[str, Any]) -> Inside:
    """Enter the user namespace at ``wanted["path"]``, or a new one with the ranges ``wanted["uids"]`` and ``["gids"]``.

    For a process with one thread that ends soon. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.getpid()
    helper = os.fork()
    if helper == 0:
        ours.close()
        _help(theirs, pid, wanted)
    theirs.close()
    if wanted.get("path"):
        fd = os.open(wanted["path"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.setns(fd, namespaces.CLONE_NEWUSER)
        finally:
            os.close(fd)
    else:
        prctl.set_dumpable(True)  # else /proc/PID/uid_map is not writable
        namespaces.unshare(namespaces.CLONE_NEWUSER)
    _ask(ours, _ENTERED)
    return Inside(helper, ours)


def _ask(end: socket.socket, what: bytes) -> None:
    """Have the helper do its next part. Raises OSError with what went wrong there."""
    end.send(what)
    answer = end.recv(4096)
    if answer != _DONE:
        code, _, text = answer.decode(errors="replace").partition(" ")
        raise OSError(int(code or 0), text or "the process that maps ids was killed")


def _help(end: socket.socket, pid: int, wanted: dict[str, Any]) -> NoReturn:
    try:
        if end.recv(1) == _ENTERED:
            _serve(end, lambda: None if wanted.get("path") else _write_maps(pid, wanted))
            request = end.recv(4096)
            if request[:1] == _MADE:
                _serve(end, lambda: _bind(pid, os.fsdecode(request[1:])))
    finally:
        os._exit(0)


def _serve(end: socket.socket, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as exc:
        end.send(f"{exc.errno} {exc.strerror}".encode())
    else:
        end.send(_DONE)


def _write_maps(pid: int, wanted: dict[str, Any]) -> None:
    for name in ("uid", "gid"):
        lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in wanted[f"{name}s"])
        with open(f"/proc/{pid}/{name}_map", "wb", buffering=0) as file:
            file.write(lines.encode())


def _bind(pid: int, path: str) -> None:
    place = path + SUFFIX
    os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    try:
        mount.mount(f"/proc/{pid}/ns/user", place, None, mount.MS_BIND)
        try:
            mount.mount(f"/proc/{pid}/ns/net", path, None, mount.MS_BIND)
        except OSError:
            mount.umount2(place, mount.MNT_DETACH)
            raise
    except OSError:
        os.unlink(place)
        raise
