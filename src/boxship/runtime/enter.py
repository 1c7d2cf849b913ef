"""The process that becomes another program in a running container: from the fork to execve."""

import errno
import os
import socket

from boxship.linux import fs, namespaces, pidfd, prctl, signals
from boxship.runtime import channel, console, credentials, labels, process, toolbox
from boxship.runtime.failure import START_FAILED, Killed, RuntimeFailure, reason
from boxship.runtime.init import open_proc, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from boxship.runtime.init import CgroupHandle


class Entry:
    """All that an exec'd process is told; see :func:`boxship.runtime.launch.start_exec`."""

    __slots__ = (
        "cgroup",
        "container_id",
        "flags",
        "init_pid",
        "init_pidfd",
        "preserved",
        "process",
        "seccomp_program",
        "stdio",
    )

    def __init__(
        self,
        process: "dict[str, Any]",
        init_pidfd: int,
        init_pid: int,
        cgroup: "CgroupHandle | None",
        stdio: tuple[int, int, int] | None,
        seccomp_program: bytes | None,
        container_id: str,
        preserved: int,
    ) -> None:
        self.process = process
        self.init_pidfd = init_pidfd
        self.init_pid = init_pid
        self.cgroup = cgroup
        self.stdio = stdio
        self.seccomp_program = seccomp_program
        self.container_id = container_id
        self.preserved = preserved
        self.flags = namespaces.differing(init_pid)  # CLONE_NEW* to enter


def run(entry: Entry, end: socket.socket) -> "NoReturn":
    """Become the program; the fork was made in the container's pid namespace. Reports failures and ends."""
    try:
        signals.reset_all()
        os.setsid()
        _enter(entry, end)
        process.execute(entry.process, end, seccomp_program=entry.seccomp_program, preserved=entry.preserved)
    except Killed:
        os._exit(1)  # as the kernel would have ended it a moment later; the starter waits for the end of init
    except RuntimeFailure as exc:
        report(end, exc.message, exc.code)
    except OSError as exc:
        report(end, str(exc), START_FAILED)
    except BaseException as exc:
        # A bug of ours: the process must end here, never return into the copy of the starter's stack.
        report(end, f"{type(exc).__name__}: {exc}", START_FAILED)


def join_namespaces(init_pidfd: int, init_pid: int, flags: int) -> None:
    """Enter those namespaces of a container's init that are in ``flags``. Raises RuntimeFailure."""
    if not flags:
        return
    try:
        try:
            namespaces.setns(init_pidfd, flags)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            _join_one_by_one(init_pidfd, init_pid, flags)  # Linux before 5.8
    except ProcessLookupError as exc:
        raise Killed("the container has no namespaces any more") from exc
    except OSError as exc:
        raise RuntimeFailure(f"unable to join the container's namespaces: {reason(exc)}") from exc


def _join_one_by_one(init_pidfd: int, init_pid: int, flags: int) -> None:
    fds = []
    try:
        for name, flag in namespaces.FLAGS.items():
            if flags & flag:
                fds.append((os.open(f"/proc/{init_pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag))
        pidfd.send_signal(init_pidfd, 0)  # still there, so the files were its own
        for fd, flag in fds:
            namespaces.setns(fd, flag)
    finally:
        for fd, _ in fds:
            os.close(fd)


def _enter(entry: Entry, end: socket.socket) -> None:
    if entry.cgroup is not None:
        try:
            entry.cgroup.join()
        except OSError as exc:
            raise RuntimeFailure(f"unable to apply cgroup configuration: {exc}") from exc
    prctl.set_dumpable(False)  # before we are visible to the container's processes
    proc_fd = open_proc()
    score = entry.process.get("oomScoreAdj")
    if score is not None:
        credentials.set_oom_score_adj(proc_fd, score)
    labels.prepare(proc_fd, entry.process.get("apparmorProfile") or "", entry.process.get("selinuxLabel") or "")
    credentials.set_rlimits(0, entry.process.get("rlimits") or [])  # in a user namespace none could be raised
    tools = entry.process.get("toolbox")  # not of the runtime-spec: a directory of the host, see runtime.toolbox
    tree_fd = toolbox.clone(tools) if tools else -1
    join_namespaces(entry.init_pidfd, entry.init_pid, entry.flags & ~namespaces.CLONE_NEWPID)
    if tools:
        channel.send(end, channel.MOUNTS, str(toolbox.attach(tree_fd, proc_fd)))
    os.close(proc_fd)
    if entry.flags & namespaces.CLONE_NEWUSER:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    process.join_keyring(entry.container_id)
    if entry.stdio is not None:
        process.take_stdio(entry.stdio)
    process.keep_only([end.fileno()], entry.preserved)
    if entry.stdio is None:
        root_fd = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        master, terminal = console.open_pty(root_fd, entry.process.get("consoleSize"))
        os.close(root_fd)
        channel.send(end, channel.CONSOLE, fd=master)
        os.close(master)
        process.take_terminal(terminal)
