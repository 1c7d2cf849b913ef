"""Starting processes: a container's init, and further programs in a running container.

For single-threaded callers. The new process is a fork of the caller, which should be small; no interpreter is started.
The talk between the two is drawn in :mod:`boxship.runtime.channel`.

The fork is made with the caller's *children* set to the right pid namespace (unshare(2) or setns(2) with CLONE_NEWPID
leave the caller itself where it is), and that is set back at once, so one fork is enough and the process is a child of
the caller, which reaps it. With a user namespace there is a second fork: the caller becomes a child subreaper then.
"""

import os
import signal
import socket

from boxship.linux import namespaces, pidfd, prctl
from boxship.linux.clone import fork_sibling
from boxship.runtime import channel, credentials, enter, hooks, idmap, init
from boxship.runtime.failure import START_FAILED, Killed, RuntimeFailure, reason
from boxship.runtime.namespace_plan import NamespacePlan

__all__ = ["ExecProcess", "InitProcess", "RuntimeFailure", "start_exec", "start_init"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.runtime.init import CgroupHandle

_PREFIX = "unable to start container process: "
_STOPPED = "cannot exec in a stopped container"
_END_WAIT = (
    2.0  # seconds from the end of a container's processes to that of its init, which reaps them; on a busy machine
)


class InitProcess:
    """A container's first process; the caller owns the descriptors and reaps the pid."""

    __slots__ = ("console", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, console: int) -> None:
        self.pid = pid  # in the caller's pid namespace
        self.pidfd = pidfd
        self.console = console  # pty master, -1 without terminal


class ExecProcess(InitProcess):
    """A further process of a container; ``mount_namespace`` is the inode of its own one, 0 if it has the container's."""

    __slots__ = ("mount_namespace",)

    def __init__(self, pid: int, pidfd: int, console: int) -> None:
        super().__init__(pid, pidfd, console)
        self.mount_namespace = 0


def start_init(
    spec: "dict[str, Any]",
    *,
    container_id: str,
    rootfs: str,
    stdio: tuple[int, int, int] | None,
    cgroup: "CgroupHandle | None",
    seccomp_program: bytes | None,
    hold_fd: int = -1,
    preserve_fds: int = 0,
    bundle: str = "",
    pivot: bool = True,
    dies_with_parent: bool = False,
    sibling: bool = False,
) -> InitProcess:
    """Start the container that ``spec`` (runtime-spec config.json) describes and return when its program runs.

    ``rootfs``: host directory where the root filesystem is mounted. ``stdio``: the caller's descriptors for 0, 1, 2;
    None for a terminal, which is opened in the container's own devpts. ``cgroup``: joined before anything else.
    ``seccomp_program``: compiled filter. ``hold_fd``: return when all but execve is done; the program starts once a
    byte can be read from this descriptor. ``preserve_fds``: descriptors 3 and up that the program inherits.
    ``bundle``: for the hooks' state document. ``pivot``: see :func:`boxship.runtime.rootfs.enter`.
    ``dies_with_parent``: init is killed when its parent ends. ``sibling``: that parent is the caller's, who reaps it, also
    when the start fails, and is a child subreaper.

    Raises RuntimeFailure with nothing left behind: no process, mount or descriptor.
    """
    try:
        plan = NamespacePlan((spec.get("linux") or {}).get("namespaces") or [])
        start = init.Start(
            spec=spec,
            container_id=container_id,
            rootfs=rootfs,
            stdio=stdio,
            cgroup=cgroup,
            seccomp_program=seccomp_program,
            hold_fd=hold_fd,
            preserved=preserve_fds,
            bundle=bundle,
            pivot=pivot,
            dies_with_parent=dies_with_parent,
            plan=plan,
        )
        try:
            start.mapped = idmap.clone_all(spec)
            ours, theirs = channel.pair()
            with ours, theirs:
                if "user" in plan.names and not sibling:
                    prctl.set_child_subreaper(True)
                pid = _fork_init(plan, fork_sibling if sibling else os.fork)
                if pid == 0:
                    init.run(start, theirs)
                theirs.close()
                return _follow(start, ours, pid, reaps=not sibling)
        finally:
            plan.close()
            start.close_sources()
    except RuntimeFailure as exc:
        raise RuntimeFailure(_PREFIX + exc.message, exc.code) from exc
    except OSError as exc:
        raise RuntimeFailure(_PREFIX + str(exc)) from exc


def start_exec(
    process: "dict[str, Any]",
    *,
    init_pidfd: int,
    init_pid: int,
    cgroup: "CgroupHandle | None",
    stdio: tuple[int, int, int] | None,
    seccomp_program: bytes | None,
    container_id: str = "",
    preserve_fds: int = 0,
) -> ExecProcess:
    """Start ``process`` (runtime-spec ``process``) beside a container's init and return when its program runs.

    The arguments are those of :func:`start_init`. ``container_id`` names the session keyring to share.
    Raises RuntimeFailure, also when the container is not running.
    """
    try:
        entry = enter.Entry(process, init_pidfd, init_pid, cgroup, stdio, seccomp_program, container_id, preserve_fds)
        pidfd.send_signal(init_pidfd, 0)  # not reaped, so the namespaces that were looked at are the container's
        ours, theirs = channel.pair()
        with ours, theirs:
            pid = _fork_exec(entry)
            if pid == 0:
                enter.run(entry, theirs)
            theirs.close()
            return _follow_exec(ours, pid, own_mounts=bool(process.get("toolbox")))
    except Killed as exc:
        message = _STOPPED if pidfd.wait(init_pidfd, _END_WAIT) else exc.message
        raise RuntimeFailure(_PREFIX + message) from exc
    except RuntimeFailure as exc:
        # The end of a container takes its cgroup and its files away under the process that is entering it.
        stopped = exc.code == START_FAILED and pidfd.wait(init_pidfd, 0)
        raise RuntimeFailure(_PREFIX + (_STOPPED if stopped else exc.message), exc.code) from exc
    except OSError as exc:
        # Looking at a process that is gone, or forking in its pid namespace (ENOMEM).
        message = _STOPPED if pidfd.wait(init_pidfd, _END_WAIT) else str(exc)
        raise RuntimeFailure(_PREFIX + message) from exc


def _fork_init(plan: NamespacePlan, fork: "Callable[[], int]") -> int:
    """Fork into the plan's pid namespace, unless a user namespace is to own it: then the child makes it itself."""
    if "user" in plan.names or "pid" not in plan.names:
        return fork()

    def change() -> None:
        if plan.joins("pid"):
            plan.join_one("pid", namespaces.CLONE_NEWPID)
        else:
            namespaces.unshare(namespaces.CLONE_NEWPID)

    return _fork_changed(change, fork)


def _fork_exec(entry: enter.Entry) -> int:
    if not entry.flags & namespaces.CLONE_NEWPID:
        return os.fork()
    return _fork_changed(
        lambda: enter.join_namespaces(entry.init_pidfd, entry.init_pid, namespaces.CLONE_NEWPID), os.fork
    )


def _fork_changed(change: "Callable[[], None]", fork: "Callable[[], int]") -> int:
    """Fork after ``change`` chose another pid namespace for children; the caller's own children stay where they were."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            change()
            pid = fork()
        except BaseException:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
            raise
        if pid != 0:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
        return pid
    finally:
        os.close(own)


def _follow(start: init.Start, ours: socket.socket, pid: int, *, reaps: bool) -> InitProcess:
    """Answer init's messages until it is ready; end it if that fails."""
    process = InitProcess(pid, -1, -1)
    try:
        process.pidfd = pidfd.pidfd_open(pid)
        while True:
            kind, text, fd = channel.expect(
                ours, channel.MAP, channel.INIT, channel.CONSOLE, channel.PREPARED, channel.READY
            )
            if kind == channel.MAP:
                _write_id_maps(process.pid, start.spec["linux"])
                channel.send(ours, channel.GO)
            elif kind == channel.INIT:
                _adopt(process, int(text), reaps=reaps)
                channel.send(ours, channel.GO)
            elif kind == channel.CONSOLE:
                process.console = fd
            elif kind == channel.PREPARED:
                if "user" in start.plan.names:
                    credentials.set_rlimits(process.pid, start.spec["process"].get("rlimits") or [])
                hooks.run(start.hooks("prestart", "createRuntime"), start.state("creating", process.pid))
                channel.send(ours, channel.GO)
            else:
                break
        if start.hold_fd < 0:
            channel.expect(ours, channel.ENDED)
        return process
    except BaseException:
        _end(process, reaps=reaps)
        raise


def _follow_exec(ours: socket.socket, pid: int, *, own_mounts: bool) -> ExecProcess:
    process = ExecProcess(pid, -1, -1)
    try:
        process.pidfd = pidfd.pidfd_open(pid)
        if own_mounts:
            process.mount_namespace = int(channel.expect(ours, channel.MOUNTS)[1])
        kind, _, fd = channel.expect(ours, channel.CONSOLE, channel.READY)
        if kind == channel.CONSOLE:
            process.console = fd
            channel.expect(ours, channel.READY)
        channel.expect(ours, channel.ENDED)
        return process
    except BaseException:
        _end(process)
        raise


def _adopt(process: InitProcess, pid: int, *, reaps: bool) -> None:
    """Take over ``pid``, whose parent (``process`` so far) is ending, from it."""
    pidfd.wait(process.pidfd)  # from then on ``pid`` belongs to the subreaper, whose end is to be its own
    os.close(process.pidfd)
    process.pidfd = -1
    if reaps:
        os.waitpid(process.pid, 0)
    process.pid = pid
    process.pidfd = pidfd.pidfd_open(pid)


def _end(process: InitProcess, *, reaps: bool = True) -> None:
    """Kill and reap a process that did not make it, and close what belongs to it."""
    if reaps:
        os.kill(process.pid, signal.SIGKILL)  # not reaped yet, so the pid is its own
        os.waitpid(process.pid, 0)
    elif process.pidfd >= 0:
        try:
            pidfd.send_signal(process.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # reaped by its parent already
    for fd in (process.pidfd, process.console):
        if fd >= 0:
            os.close(fd)


def _write_id_maps(pid: int, linux: "dict[str, Any]") -> None:
    for name, key in (("uid_map", "uidMappings"), ("gid_map", "gidMappings")):
        rows = linux.get(key) or []
        lines = "".join(f"{row['containerID']} {row['hostID']} {row['size']}\n" for row in rows)
        try:
            with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                file.write(lines.encode())
        except OSError as exc:
            raise RuntimeFailure(f"failed to write {name} of the container: {reason(exc)}") from exc
