"""What a starter tells the shim that it works for: two messages over the socket between them.

1. The *facts*, before anything is made: what a shim needs of the start document for as long as it lives (see
   :func:`facts_of`), which is also what it takes to undo the start. With them goes the control socket.
2. The *outcome*: ``{"error", "code"}``, or ``{"pid", "started_at", "event", "attach", "fds"}``. ``event`` is the encoded
   ``running``, ``attach`` is that of the start document, and ``fds`` names the descriptors that come along: ``listener``
   (``shim.sock``), ``pidfd`` (of init), ``rootfs`` (keeps the file system in use), and those that there are of
   ``console``, ``stdin``, ``stdout``, ``stderr``, ``log``, ``seccomp``. Clients follow, one for each of ``attach``.

A message is a length and a marshalled dictionary: both sides are forks of one interpreter, and the shim, in which every
function that runs costs memory for as long as the container lives, need not run any of Python's JSON.
"""

from __future__ import annotations

import marshal
import socket

from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_LENGTH = 4  # bytes


def facts_of(start: dict[str, Any]) -> dict[str, Any]:
    """Return what a shim keeps of its start document. Raises KeyError, TypeError, AttributeError for a broken one."""
    stdio = start["stdio"]
    linux = start["spec"].get("linux") or {}
    namespaces = linux.get("namespaces") or ()
    return {
        "id": start["id"],
        "state_dir": start["state_dir"],
        "cgroup": start["cgroup"]["path"],
        "rootfs": start["rootfs"]["target"],
        "trees": [tree["target"] for tree in start.get("trees") or ()],
        "runtime": start.get("runtime"),
        "seccomp": start.get("seccomp"),
        "takes_input": bool(stdio["stdin"]),
        "stdin_once": bool(stdio.get("stdin_once")),
        "log": start["log"],
        "owner": _root_of(linux),
        "poststop": (start["spec"].get("hooks") or {}).get("poststop") or [],
        "annotations": start["spec"].get("annotations") or {},
        "own_pids": any(namespace["type"] == "pid" and not namespace.get("path") for namespace in namespaces),
    }


def _root_of(linux: dict[str, Any]) -> tuple[int, int] | None:
    """Return the host's uid and gid of container root; None when it is the host's root."""
    if not linux.get("uidMappings") or not linux.get("gidMappings"):
        return None
    uid, gid = (
        next(int(row["hostID"]) for row in linux[name] if row["containerID"] == 0)
        for name in ("uidMappings", "gidMappings")
    )
    return uid, gid


def send(shim: socket.socket, message: dict[str, Any], fds: Sequence[int]) -> None:
    """Send one message; ``fds`` stay open here. Raises BrokenPipeError when the shim is gone."""
    body = marshal.dumps(message)
    data = len(body).to_bytes(_LENGTH, "big") + body
    sent = messages.send_some(shim, data, fds)
    if sent < len(data):
        shim.sendall(memoryview(data)[sent:])


def receive(starter: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Wait for one message; return it and its descriptors, which the caller owns, or None when the starter has ended."""
    header, fds = messages.receive_some(starter, _LENGTH)
    if not header:
        return None
    size = int.from_bytes(header, "big")
    body = starter.recv(size, socket.MSG_WAITALL)
    if len(body) < size:  # killed while it sent
        messages.close_all(fds)
        return None
    message: dict[str, Any] = marshal.loads(body)  # noqa: S302  # from a fork of this process
    return message, fds
