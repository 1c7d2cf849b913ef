"""The process that becomes a container's first program: from the fork to execve."""

import os
import socket

from boxship.linux import fs, mount, namespaces, prctl, signals, uts
from boxship.runtime import (
    channel,
    console,
    credentials,
    devices,
    hooks,
    labels,
    masks,
    mounts,
    places,
    process,
    rootfs,
    sysctls,
)
from boxship.runtime.failure import START_FAILED, RuntimeFailure, reason
from boxship.runtime.namespace_plan import NamespacePlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    class CgroupHandle(Protocol):
        """A cgroup that a process can move itself into."""

        def join(self) -> None:
            """Move the calling process in. Raises OSError."""


class Start:
    """All that a container's init is told; see :func:`boxship.runtime.launch.start_init`."""

    __slots__ = (
        "bundle",
        "cgroup",
        "container_id",
        "dies_with_parent",
        "hold_fd",
        "mapped",
        "pivot",
        "plan",
        "preserved",
        "rootfs",
        "seccomp_program",
        "sources",
        "spec",
        "stdio",
    )

    def __init__(
        self,
        spec: "dict[str, Any]",
        container_id: str,
        rootfs: str,
        stdio: tuple[int, int, int] | None,
        cgroup: "CgroupHandle | None",
        seccomp_program: bytes | None,
        hold_fd: int,
        preserved: int,
        bundle: str,
        pivot: bool,
        dies_with_parent: bool,
        plan: NamespacePlan,
    ) -> None:
        self.spec = spec
        self.container_id = container_id
        self.rootfs = rootfs
        self.stdio = stdio
        self.cgroup = cgroup
        self.seccomp_program = seccomp_program
        self.hold_fd = hold_fd
        self.preserved = preserved
        self.bundle = bundle
        self.pivot = pivot
        self.dies_with_parent = dies_with_parent
        self.plan = plan
        self.sources: dict[str, int] = {}  # host path -> descriptor, see open_sources
        self.mapped: dict[str, int] = {}  # destination -> descriptor, see runtime.idmap

    def open_sources(self) -> None:
        """Open the root filesystem and what is bound into it; what cannot be opened fails where it is used."""
        mounted = (entry.get("source", "") for entry in self.spec.get("mounts") or [] if mounts.is_bind(entry))
        for path in (self.rootfs, *mounted):
            try:
                self.sources[path] = os.open(path, fs.O_PATH | os.O_CLOEXEC)
            except OSError:
                pass

    def close_sources(self) -> None:
        """Close what :meth:`open_sources` opened, and the mounts with other owners."""
        for fd in (*self.sources.values(), *self.mapped.values()):
            os.close(fd)
        self.sources.clear()
        self.mapped.clear()

    def state(self, status: str, pid: int) -> "dict[str, Any]":
        """Return the runtime-spec's state document."""
        return {
            "ociVersion": self.spec.get("ociVersion", ""),
            "id": self.container_id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.spec.get("annotations") or {},
        }

    def hooks(self, *points: str) -> "list[dict[str, Any]]":
        """Return the hooks of these points of the container's life."""
        all_hooks = self.spec.get("hooks") or {}
        return [hook for point in points for hook in all_hooks.get(point) or []]

    def waits_for_starter(self) -> bool:
        """Tell whether the starter has work to do once the mounts stand: hooks, or limits that need its privileges."""
        limits = "user" in self.plan.names and self.spec["process"].get("rlimits")
        return bool(limits or self.hooks("prestart", "createRuntime"))


def run(start: Start, end: socket.socket) -> "NoReturn":
    """Become the container's program; ``end`` is this process's end of the channel. Reports failures and ends."""
    prefix = ["error during container init: "]  # runc's words until the starter has done its part
    try:
        signals.reset_all()
        os.setsid()
        _enter_namespaces(start, end)
        _set_up(start, end, prefix)
    except RuntimeFailure as exc:
        report(end, prefix[0] + exc.message, exc.code)
    except OSError as exc:
        report(end, prefix[0] + str(exc), START_FAILED)
    except BaseException as exc:
        # A bug of ours: the process must end here, never return into the copy of the starter's stack.
        report(end, f"{prefix[0]}{type(exc).__name__}: {exc}", START_FAILED)


def report(end: socket.socket, message: str, code: int) -> "NoReturn":
    """Tell the starter and end this process."""
    try:
        channel.send(end, channel.FAILED, f"{code} {message}")
    except OSError:
        pass  # the starter is gone
    os._exit(1)


def open_proc() -> int:
    """Open the host's procfs (O_PATH), certain that it is one. Raises RuntimeFailure, OSError."""
    fd = os.open("/proc", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if fs.fstatfs_type(fd) != fs.PROC_SUPER_MAGIC:
        raise RuntimeFailure("/proc of the host is not procfs")
    return fd


def _enter_namespaces(start: Start, end: socket.socket) -> None:
    if start.cgroup is not None:
        try:
            start.cgroup.join()
        except OSError as exc:
            raise RuntimeFailure(f"unable to apply cgroup configuration: {exc}") from exc
    if start.spec["process"].get("oomScoreAdj") is not None:
        _set_oom_score_adj(start.spec["process"]["oomScoreAdj"])
    prctl.set_dumpable(False)  # nobody in the namespaces that we join may look into this process
    plan = start.plan
    if "user" in plan.names:
        _enter_user_namespace(start, end)
    else:
        plan.join("pid")  # the fork has taken care of it
        _unshare(plan.new & ~namespaces.CLONE_NEWPID)
    plan.close()
    if start.stdio is not None:
        process.take_stdio(start.stdio)
    held = [start.hold_fd] if start.hold_fd >= 0 else []
    kept = [end.fileno(), *start.sources.values(), *start.mapped.values(), *held]
    process.keep_only(kept, start.preserved)


def _set_oom_score_adj(score: int) -> None:
    proc_fd = open_proc()
    try:
        credentials.set_oom_score_adj(proc_fd, score)
    finally:
        os.close(proc_fd)


def _enter_user_namespace(start: Start, end: socket.socket) -> None:
    """Enter the user namespace, then the others, which it is to own; return in a further child that is PID 1.

    procfs can be mounted only where the pid namespace belongs to the user namespace, hence the second fork. The
    directories of the host that the container is made of are opened between the two: in its mount namespace, since only
    mounts of that can be bound, but still as the host's user, since container root need not get to them by their paths.
    """
    plan = start.plan
    plan.join()
    if plan.new & namespaces.CLONE_NEWUSER:
        prctl.set_dumpable(True)  # else /proc/PID/uid_map is not writable
        _unshare(namespaces.CLONE_NEWUSER)
        channel.send(end, channel.MAP)
        channel.wait_for_go(end)
        prctl.set_dumpable(False)
    if plan.new & namespaces.CLONE_NEWNS:
        _unshare(namespaces.CLONE_NEWNS)
        start.open_sources()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _unshare(plan.new & ~(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS))
    if "pid" in plan.names:
        pid = os.fork()
        if pid != 0:
            channel.send(end, channel.INIT, str(pid))
            os._exit(0)
        channel.wait_for_go(end)  # else our messages could overtake INIT
        os.setsid()


def _unshare(flags: int) -> None:
    if flags:
        try:
            namespaces.unshare(flags)
        except OSError as exc:
            raise RuntimeFailure(f"failed to unshare namespaces: {reason(exc)}") from exc


def _set_up(start: Start, end: socket.socket, prefix: list[str]) -> "NoReturn":
    spec, plan = start.spec, start.plan
    program = spec["process"]
    linux = spec.get("linux") or {}
    proc_fd = open_proc()
    if linux.get("timeOffsets"):
        _set_time_offsets(proc_fd, linux["timeOffsets"])
    if spec.get("hostname"):
        _need(plan, "uts", "unable to set hostname without a private UTS namespace")
        uts.sethostname(spec["hostname"])
    if spec.get("domainname"):
        _need(plan, "uts", "unable to set domainname without a private UTS namespace")
        uts.setdomainname(spec["domainname"])
    process.join_keyring(start.container_id)
    labels.prepare(proc_fd, program.get("apparmorProfile") or "", program.get("selinuxLabel") or "")
    sysctls.apply(proc_fd, linux.get("sysctl") or {}, plan.names)
    os.close(proc_fd)
    if plan.joins("mount"):
        _wait_for_starter(start, end)
    else:
        _make_root(start, end)
    if "user" not in plan.names:
        credentials.set_rlimits(0, program.get("rlimits") or [])
    prefix[0] = ""
    process.execute(
        program,
        end,
        seccomp_program=start.seccomp_program,
        hold_fd=start.hold_fd,
        preserved=start.preserved,
        start_hooks=start.hooks("startContainer"),
        state=start.state("created", os.getpid()),
        dies_with_parent=start.dies_with_parent,
    )


def _make_root(start: Start, end: socket.socket) -> None:
    spec, plan = start.spec, start.plan
    linux = spec.get("linux") or {}
    _need(plan, "mount", "a mount namespace is required to set up the root filesystem")
    propagation = rootfs.propagation_flags(linux.get("rootfsPropagation") or "")
    all_mounts = [mounts.labelled(entry, linux.get("mountLabel") or "") for entry in spec.get("mounts") or []]
    os.umask(0)  # modes are as they are written down
    root_fd = rootfs.prepare(start.rootfs, propagation, start.sources.get(start.rootfs, -1))
    mounts.apply(root_fd, all_mounts, start.sources, start.mapped, cgroup_namespace="cgroup" in plan.names)
    start.close_sources()
    if not any(
        os.path.normpath(entry["destination"]) == "/dev" and entry.get("type") == "bind" for entry in all_mounts
    ):
        devices.make_all(root_fd, linux.get("devices") or [])
    if start.stdio is None:
        master, terminal = console.open_pty(root_fd, spec["process"].get("consoleSize"))
        console.bind_console(root_fd, terminal)
        channel.send(end, channel.CONSOLE, fd=master)
        os.close(master)
        process.take_terminal(terminal)
    _wait_for_starter(start, end)
    hooks.run(start.hooks("createContainer"), start.state("creating", os.getpid()))
    _make_directory(root_fd, spec["process"].get("cwd") or "/")
    masks.apply(root_fd, linux.get("maskedPaths") or [], linux.get("readonlyPaths") or [])
    if (spec.get("root") or {}).get("readonly"):
        places.set_attributes(root_fd, mount.MS_RDONLY, 0)
    rootfs.enter(root_fd, propagation, pivot=start.pivot)
    os.close(root_fd)


def _wait_for_starter(start: Start, end: socket.socket) -> None:
    if start.waits_for_starter():
        channel.send(end, channel.PREPARED)
        channel.wait_for_go(end)


def _make_directory(root_fd: int, cwd: str) -> None:
    """Make the working directory if it is missing; anything else that is wrong with it shows when it is entered."""
    try:
        os.close(places.find_or_make(root_fd, cwd, directory=True))
    except OSError:
        pass


def _set_time_offsets(proc_fd: int, offsets: "dict[str, dict[str, int]]") -> None:
    lines = [f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in offsets.items()]
    fd = os.open("self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        os.write(fd, "".join(lines).encode())
    finally:
        os.close(fd)


def _need(plan: NamespacePlan, name: str, message: str) -> None:
    if name not in plan.names:
        raise RuntimeFailure(message)
