"""Containers on Boxship's own runtime, as the shim drives them. ``external`` does the same with a runtime of others."""

from __future__ import annotations

import os

from boxship.linux import cgroup as cgroups
from boxship.linux import pidfd
from boxship.runtime import launch
from boxship.shim.started import Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NativeRuntime:
    """One container on ``boxship.runtime``."""

    kill_blocks = False

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def start(self, spec: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Make the cgroup and start the init in it, as a child of the starter's parent."""
        facts = self._facts
        seccomp = os.open(facts["seccomp"], os.O_RDONLY | os.O_CLOEXEC) if facts["seccomp"] else -1
        cgroup = cgroups.open_cgroup(facts["cgroup"])
        cgroup.create()
        cgroup.apply(spec.get("linux", {}).get("resources") or {})
        init = launch.start_init(
            spec,
            container_id=facts["id"],
            rootfs=facts["rootfs"],
            stdio=None if spec["process"].get("terminal") else stdio,
            cgroup=cgroup,
            seccomp_program=_read(seccomp),
            dies_with_parent=True,
            sibling=True,
        )
        return Started(init.pid, init.pidfd, init.console, seccomp)

    def exec(self, init: Started, process: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Start another process in the container; called in a helper process. Raises RuntimeFailure."""
        started = launch.start_exec(
            process,
            init_pidfd=init.pidfd,
            init_pid=init.pid,
            cgroup=cgroups.open_cgroup(self._facts["cgroup"]),
            stdio=None if process.get("terminal") else stdio,
            seccomp_program=_read(init.seccomp),
            container_id=self._facts["id"],
        )
        return Started(started.pid, started.pidfd, started.console, mount_namespace=started.mount_namespace)

    def kill(self, init: Started, number: int, everything: bool) -> None:
        """Signal the container's init by its pidfd, so never a stranger, or all processes of its cgroup."""
        if everything:
            cgroups.open_cgroup(self._facts["cgroup"]).kill(number)
        else:
            pidfd.send_signal(init.pidfd, number)

    def delete(self) -> None:
        """Forget the container, which has ended; the cgroup is the shim's."""


def _read(fd: int) -> bytes | None:
    """Return all of the file at ``fd``, whose position stays; None without one."""
    return os.pread(fd, os.fstat(fd).st_size, 0) if fd >= 0 else None
