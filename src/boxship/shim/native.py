"""Containers on Boxship's own runtime, as the shim drives them. ``external`` does the same with a runtime of others."""

from __future__ import annotations

from boxship.linux import pidfd
from boxship.runtime import launch
from boxship.runtime.failure import START_FAILED, RuntimeFailure
from boxship.shim import helper
from boxship.shim.started import Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.linux.cgroup_base import Cgroup


class NativeRuntime:
    """One container on ``boxship.runtime``."""

    kill_blocks = False

    def __init__(self, start: dict[str, Any], cgroup: Cgroup) -> None:
        self._id: str = start["id"]
        self._spec: dict[str, Any] = start["spec"]
        self._rootfs: str = start["rootfs"]["target"]
        self._seccomp = _read_program(start.get("seccomp"))
        self._cgroup = cgroup
        self._init = Started(-1)

    def start(self, stdio: tuple[int, int, int], prepare: Callable[[], None]) -> Started:
        """Start the container's init on ``stdio``, or on a terminal of its own if its process asks for one.

        All of this happens in a child that ends with it: what a start touches would stay in the shim's memory, a megabyte
        for each container, as long as that runs. The init is the shim's child all the same. Raises RuntimeFailure; what
        ``prepare`` did and the cgroup are left then.
        """

        def work() -> tuple[dict[str, Any], list[int]]:
            try:
                prepare()
                self._cgroup.create()
                self._cgroup.apply(self._spec.get("linux", {}).get("resources") or {})
                init = launch.start_init(
                    self._spec,
                    container_id=self._id,
                    rootfs=self._rootfs,
                    stdio=None if self._spec["process"].get("terminal") else stdio,
                    cgroup=self._cgroup,
                    seccomp_program=self._seccomp,
                    dies_with_parent=True,
                    sibling=True,
                )
            except RuntimeFailure as exc:
                return {"error": exc.message, "code": exc.code}, []
            return {"pid": init.pid}, [init.pidfd, *([init.console] if init.console >= 0 else [])]

        answer, fds = helper.call(work, keep=stdio)
        if "error" in answer:
            raise RuntimeFailure(answer["error"], answer.get("code", START_FAILED))
        self._init = Started(answer["pid"], fds[0], fds[1] if len(fds) > 1 else -1)
        return self._init

    def exec(self, process: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Start another process in the container; called in a helper process. Raises RuntimeFailure."""
        started = launch.start_exec(
            process,
            init_pidfd=self._init.pidfd,
            init_pid=self._init.pid,
            cgroup=self._cgroup,
            stdio=None if process.get("terminal") else stdio,
            seccomp_program=self._seccomp,
            container_id=self._id,
        )
        return Started(started.pid, started.pidfd, started.console)

    def kill(self, number: int, everything: bool) -> None:
        """Signal the container's init by its pidfd, so never a stranger, or all processes of its cgroup."""
        if everything:
            self._cgroup.kill(number)
        else:
            pidfd.send_signal(self._init.pidfd, number)

    def delete(self) -> None:
        """Forget the container, which has ended; the cgroup is the shim's."""


def _read_program(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
