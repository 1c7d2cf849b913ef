"""Further processes in a running container: start in a helper process, pump, report the end."""

from __future__ import annotations

import os
import signal

from boxship.linux import cgroup as cgroups
from boxship.linux import pidfd
from boxship.runtime.failure import RuntimeFailure
from boxship.shim import helper, pipes, users
from boxship.shim.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.shim.loop import Loop
    from boxship.shim.pipes import Pipes
    from boxship.shim.runtimes import Runtime
    from boxship.shim.started import Started


_ROUNDS = 16  # of killing processes that fork meanwhile


class Exec:
    """One exec, from request to end.

    ``on_started(answer)`` is called once with the answer to the request; after a good one ``on_ended()`` is called once,
    when the process has been reaped (:meth:`ended`) and its output was read. Then :attr:`status` is its wait status.
    """

    def __init__(
        self,
        loop: Loop,
        runtime: Runtime,
        init: Started,
        request: dict[str, Any],
        client: int,
        *,
        root: str,
        owner: tuple[int, int] | None,
        cgroup: str,
        on_started: Callable[[Exec, dict[str, Any]], None],
        on_ended: Callable[[Exec], None],
        on_detached: Callable[[Exec], None],
    ) -> None:
        """``client`` is the client's socket or -1, ``root`` the host path of the container's root filesystem, ``owner`` the host's
        uid and gid of container root when that is not root, ``cgroup`` the container's. Raises OSError.
        """
        self.id: str = request["exec_id"]
        self.pid = -1
        self.status = 0
        self.finished_at = 0
        self._loop = loop
        self._runtime = runtime
        self._init = init
        self._request = request
        self._client = client
        self._on_started = on_started
        self._on_ended = on_ended
        self._on_detached = on_detached
        self._mount_namespace = 0
        self._streams: Streams | None = None
        self._root = root
        self._cgroup = cgroup
        self._process = dict(request["process"])
        self._process["terminal"] = bool(request.get("tty"))
        if request.get("console_size"):
            height, width = request["console_size"]
            self._process["consoleSize"] = {"height": int(height), "width": int(width)}
        self._pipes: Pipes = pipes.make(
            stdin=bool(request.get("stdin")) and client >= 0 and not self._process["terminal"],
            output=client >= 0 and not self._process["terminal"],
            owner=owner,
        )
        self.helper = helper.start(
            loop, self._start, self._started, keep=(*self._pipes.child, init.pidfd, init.seccomp)
        )

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size, if it has one."""
        if self._streams is not None:
            self._streams.resize(height, width)

    def ended(self, status: int, finished_at: int) -> None:
        """Take the wait status of the process, which was reaped."""
        self.status = status
        self.finished_at = finished_at
        if self._mount_namespace:
            self._kill_others()
        if self._streams is None:
            self._on_ended(self)
        else:
            self._streams.drain(lambda: self._on_ended(self))

    def _kill_others(self) -> None:
        """Kill what a shell with mounts of its own has left running: nothing else is in its namespace."""
        for _ in range(_ROUNDS):
            found = False
            for pid in cgroups.open_cgroup(self._cgroup).pids():
                try:
                    fd = pidfd.pidfd_open(pid)
                except OSError:
                    continue
                try:
                    if os.stat(f"/proc/{pid}/ns/mnt").st_ino == self._mount_namespace:
                        pidfd.send_signal(fd, signal.SIGKILL)
                        found = True
                except OSError:
                    pass  # it has ended
                finally:
                    os.close(fd)
            if not found:
                return

    def finish(self) -> None:
        """Wait no longer for output of processes that it left behind."""
        if self._streams is not None:
            self._streams.finish()

    @property
    def clients(self) -> int:
        """How many clients still have to read its output."""
        return self._streams.clients if self._streams is not None else 0

    def close(self) -> None:
        """Drop its clients."""
        if self._streams is not None:
            self._streams.close()

    def _start(self) -> tuple[dict[str, Any], list[int]]:
        try:
            users.apply(self._process, self._request.get("user"), self._root)
            started = self._runtime.exec(self._init, self._process, self._pipes.child)
        except RuntimeFailure as exc:
            return {"error": exc.message, "code": exc.code}, []
        fds = [started.console] if started.console >= 0 else []
        return {"pid": started.pid, "mount_namespace": started.mount_namespace}, fds

    def _started(self, answer: dict[str, Any], fds: list[int]) -> None:
        self._pipes.close_child()
        if "error" in answer:
            self._pipes.close()
            if self._client >= 0:
                os.close(self._client)
            self._on_started(self, {"ok": False, "error": answer["error"], "code": answer.get("code", 128)})
            return
        self.pid = int(answer["pid"])
        self._mount_namespace = int(answer.get("mount_namespace", 0))
        ends = self._pipes
        if fds or ends.stdout >= 0:
            self._streams = Streams(
                self._loop,
                console=fds[0] if fds else -1,
                stdin=ends.stdin,
                stdout=ends.stdout,
                stderr=ends.stderr,
            )
        self._on_started(self, {"ok": True, "pid": self.pid})
        if self._streams is not None and self._client >= 0:
            self._streams.attach_requested(
                self._request, self._client, closes_input=True, on_end=lambda detached: self._left(detached)
            )

    def _left(self, detached: bool) -> None:
        if detached:
            self._on_detached(self)
        if self._request.get("ends_with_client") and self.pid > 0 and not self.finished_at:
            os.killpg(self.pid, signal.SIGKILL)  # it leads a session, and was not reaped: never a stranger
