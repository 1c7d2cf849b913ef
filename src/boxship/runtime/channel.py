"""The talk between the process that starts a container and the one that becomes it.

A ``SOCK_SEQPACKET`` pair, close-on-exec on both ends; one packet is one message: a kind (one byte) and a text.

::

    starter                         stage (only with a user namespace)     init
       | fork ------------------------>|                                     |
       |<---------------------- MAP ---|  unshared its user namespace        |
       |-- GO ------------------------>|  uid_map and gid_map are written    |
       |                               |-- fork ---------------------------->|
       |<----------------- INIT pid ---|  ends                               |
       |-- GO -------------------------------------------------------------->|  adopted
       |<------------------------------------------- CONSOLE (+ pty master)--|  with a terminal
       |<------------------------------------------- PREPARED ---------------|  mounts stand; only if hooks or
       |-- GO -------------------------------------------------------------->|  limits wait for it
       |<------------------------------------------- MOUNTS inode ----------|  an exec with a mount namespace of its own
       |<------------------------------------------- READY ------------------|  program found, privileges dropped
       |<------------------------------------------- FAILED code text -------|  instead of any of the above, or after
       |<------------------------------------------- end of file ------------|  after READY: execve succeeded

End of file before READY means that the process was killed.
"""

import array
import os
import socket

from boxship.runtime.failure import Killed, RuntimeFailure

MAP = b"M"
INIT = b"I"
CONSOLE = b"C"
PREPARED = b"P"
MOUNTS = b"N"
READY = b"R"
FAILED = b"F"
GO = b"G"
ENDED = b""

_LIMIT = 65536


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, kind: bytes, text: str = "", fd: int = -1) -> None:
    """Send one message, with descriptor ``fd`` beside it unless that is -1. Raises OSError EPIPE without a peer."""
    packet = kind + text.encode("utf-8", "surrogateescape")[: _LIMIT - 1]
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    end.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)


def receive(end: socket.socket) -> tuple[bytes, str, int]:
    """Return the next message as (kind, text, descriptor or -1); the kind is ``ENDED`` at end of file."""
    fds = array.array("i")
    packet, ancillary, _, _ = end.recvmsg(_LIMIT, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet[:1], packet[1:].decode("utf-8", "surrogateescape"), fds[0] if fds else -1


def expect(end: socket.socket, *kinds: bytes) -> tuple[bytes, str, int]:
    """Return the next message, which must be one of ``kinds``.

    Raises RuntimeFailure with the other side's words when it failed, or when it ended without any.
    """
    kind, text, fd = receive(end)
    if kind in kinds:
        return kind, text, fd
    if fd >= 0:
        os.close(fd)
    if kind == FAILED:
        code, _, message = text.partition(" ")
        raise RuntimeFailure(message, int(code))
    if kind == ENDED:
        raise Killed("the process was killed before it could start the program")
    raise RuntimeError(f"unexpected message {kind!r} during a container's start")


def wait_for_go(end: socket.socket) -> None:
    """Wait for the starter's permission to go on; end this process if the starter is gone."""
    kind, _, _ = receive(end)
    if kind != GO:
        os._exit(1)
