"""Containers on Boxship's own runtime, as the shim drives them. ``external`` does the same with a runtime of others."""

from __future__ import annotations

import json
import os

from boxship.linux import cgroup as cgroups
from boxship.linux import pidfd
from boxship.runtime import hooks, launch
from boxship.runtime.failure import RuntimeFailure
from boxship.shim import checkpoints, records
from boxship.shim.started import Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"  # of the state document that hooks read
POSTSTOP_LIMIT = 10  # seconds; the shim waits, and with it the container's removal


class NativeRuntime:
    """One container on ``boxship.runtime``."""

    kill_blocks = False

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def start(self, spec: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
        """Make the cgroup and start the init in it, as a child of the starter's parent."""
        facts = self._facts
        cgroup, seccomp = self._make_cgroup(spec), self._open_seccomp()
        bundle = self._write_bundle(spec) if spec.get("hooks") else ""
        init = launch.start_init(
            spec,
            container_id=facts["id"],
            rootfs=facts["rootfs"],
            stdio=None if spec["process"].get("terminal") else stdio,
            cgroup=cgroup,
            seccomp_program=_read(seccomp),
            bundle=bundle,
            dies_with_parent=True,
            sibling=True,
        )
        hooks.run((spec.get("hooks") or {}).get("poststart") or [], self._state("running", init.pid))
        return Started(init.pid, init.pidfd, init.console, seccomp)

    def restore(
        self, spec: dict[str, Any], stdio: tuple[int, int, int], request: dict[str, Any], images: int, control: int
    ) -> Started:
        """Make the cgroup and bring the container back in it from the checkpoint at ``images``."""
        cgroup, seccomp = self._make_cgroup(spec), self._open_seccomp()
        pid, fd, console = checkpoints.restore(request, images, spec, self._facts, stdio, cgroup, control)
        return Started(pid, fd, console, seccomp)

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
        """Run the hooks that follow the container's end, and remove the bundle; the cgroup is the shim's."""
        for hook in self._facts["poststop"]:
            timeout = min(hook.get("timeout") or POSTSTOP_LIMIT, POSTSTOP_LIMIT)
            try:
                hooks.run([{**hook, "timeout": timeout}], self._state("stopped", 0))
            except (RuntimeFailure, OSError):
                records.note_error(self._facts["state_dir"])
        for remove, path in ((os.unlink, os.path.join(self._bundle, "config.json")), (os.rmdir, self._bundle)):
            try:
                remove(path)
            except FileNotFoundError:
                pass  # only containers with hooks have one
            except OSError:
                records.note_error(self._facts["state_dir"])

    def _make_cgroup(self, spec: dict[str, Any]) -> cgroups.Cgroup:
        cgroup = cgroups.open_cgroup(self._facts["cgroup"])
        cgroup.create()
        cgroup.apply(spec.get("linux", {}).get("resources") or {})
        return cgroup

    def _open_seccomp(self) -> int:
        path: str | None = self._facts["seccomp"]
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else -1

    def _write_bundle(self, spec: dict[str, Any]) -> str:
        """Write the bundle that hooks look for by their state document; return its path."""
        bundle = self._bundle
        os.makedirs(bundle, mode=0o700, exist_ok=True)
        document = {**spec, "root": {**(spec.get("root") or {}), "path": self._facts["rootfs"]}}
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(document, file)
        return bundle

    @property
    def _bundle(self) -> str:
        return os.path.join(self._facts["state_dir"], "bundle")

    def _state(self, status: str, pid: int) -> dict[str, Any]:
        """Return the runtime-spec's state document of a container."""
        state = {"ociVersion": OCI_VERSION, "id": self._facts["id"], "status": status, "bundle": self._bundle}
        return {**state, **({"pid": pid} if pid else {}), "annotations": self._facts["annotations"]}


def _read(fd: int) -> bytes | None:
    """Return all of the file at ``fd``, whose position stays; None without one."""
    return os.pread(fd, os.fstat(fd).st_size, 0) if fd >= 0 else None
