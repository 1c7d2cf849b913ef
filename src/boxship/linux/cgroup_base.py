"""What both cgroup drivers share: the driver's contract, errors, and reading and writing of control files.

A *cgroup* here is one container's place below the host's hierarchy, such as ``/boxship/<id>``. Under version 2 that is
one directory, under version 1 one directory per mounted controller; callers see no difference. ``resources`` documents
are ``linux.resources`` of the OCI runtime-spec.
"""

from __future__ import annotations

import errno
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Reader = Callable[[str], str]  # from the path of a control file to its text

REMOVE_TIMEOUT = 2.0  # seconds; the kernel lets a cgroup go a moment after its last process was reaped
FREEZE_TIMEOUT = 2.0  # seconds; a process in an uninterruptible sleep cannot be frozen at all
KILL_ROUNDS = 100

_CHUNK = 65536
_SURELY_WHOLE = 2048  # the kernel hands out at least half a page (seq_file) before it breaks a text off


class CgroupError(OSError):
    """A control file refused what was asked; the text names limit, file and the kernel's answer.

    ``errno`` is the kernel's, or EOPNOTSUPP when this host has no such limit.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class Cgroup:
    """One container's cgroup; the methods are the contract that both drivers keep.

    Objects hold no descriptors and no state of the kernel: any number may name the same cgroup, from any process.
    """

    __slots__ = ("path",)

    version = 0

    def __init__(self, path: str) -> None:
        parts = path.split("/")
        if ".." in parts or "\0" in path or not any(part not in ("", ".") for part in parts):
            raise ValueError(f"invalid cgroup path {path!r}")
        self.path = "/" + "/".join(part for part in parts if part not in ("", "."))

    def paths(self) -> dict[str, str]:
        """Return the directory of each controller; under version 2 all share one."""
        raise NotImplementedError

    def create(self) -> None:
        """Make the cgroup and missing parents in every hierarchy, ready for processes; existing is fine.

        A failure removes what this call made of the cgroup itself.
        """
        raise NotImplementedError

    def join(self) -> None:
        """Move the calling process, which must have a single thread, into the cgroup."""
        raise NotImplementedError

    def apply(self, resources: dict[str, Any]) -> None:
        """Set the limits in ``resources``; absent, null and zero values leave the kernel's setting as it is.

        Raises CgroupError for a limit that this host lacks or refuses; limits before it stay set.
        """
        raise NotImplementedError

    def freeze(self) -> None:
        """Stop every process of the cgroup and return when all stand still; undone if that takes too long (EBUSY)."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Let the processes run again."""
        raise NotImplementedError

    def frozen(self) -> bool:
        """Return whether the cgroup is frozen, or on its way there."""
        raise NotImplementedError

    def kill(self, signal: int) -> None:
        """Send ``signal`` to every process of the cgroup; none can fork its way out meanwhile. Missing is fine."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Return the processes of the cgroup and of cgroups below it, as the caller's PID namespace numbers them."""
        raise NotImplementedError

    def stats(self, reader: Reader | None = None) -> dict[str, Any]:
        """Return what the kernel counted, unshaped; absent controllers give absent keys. ``reader``: :class:`ControlFiles`.

        ``cpu``: usage_ns, user_ns, system_ns, per_cpu_ns (list, version 1 only), periods, throttled_periods,
        throttled_ns. ``memory``: usage, max_usage, limit, failcnt (bytes and counts), stat (name to number), oom_kill.
        ``pids``: current, limit (None: no limit). ``blkio``: Docker's list name to entries of major, minor, op, value.
        """
        raise NotImplementedError

    def oom_count(self) -> int:
        """Return how many processes the kernel killed here for want of memory; 0 without a memory controller."""
        raise NotImplementedError

    def oom_killed(self) -> bool:
        """Return whether the kernel killed any process here for want of memory."""
        return self.oom_count() > 0

    def oom_notifier(self) -> tuple[int, int]:
        """Return a new descriptor and the poll(2) events that it shows after an out-of-memory event.

        The caller closes it. It may fire without a kill: compare :meth:`oom_count`.
        """
        raise NotImplementedError

    def remove(self, timeout: float = REMOVE_TIMEOUT) -> None:
        """Remove the cgroup and all below it in every hierarchy; missing is fine.

        Waits up to ``timeout`` seconds for dying processes. Raises OSError EBUSY when some remain.
        """
        deadline = time.monotonic() + timeout
        for directory in dict.fromkeys(self.paths().values()):
            remove_tree(directory, deadline)


def read(path: str) -> str:
    """Return the text of a control file without its last newline."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode().rstrip("\n")


class ControlFiles:
    """Control files that stay open: reading one again costs one system call, a fifth of opening it.

    For one thread at a time; the owner closes it. What did not exist at the first look counts as missing from then on.
    """

    __slots__ = ("_descriptors",)

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}  # -1: does not exist

    def read(self, path: str) -> str:
        """Return the text of a control file without its last newline. Raises OSError, ENODEV when the cgroup is gone."""
        fd = self._descriptors.get(path)
        if fd is None:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                fd = -1
            self._descriptors[path] = fd
        if fd < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        data = chunk = os.pread(fd, _CHUNK, 0)
        while len(chunk) >= _SURELY_WHOLE:
            chunk = os.pread(fd, _CHUNK, len(data))
            data += chunk
        return data.decode().rstrip("\n")

    def __len__(self) -> int:
        return sum(fd >= 0 for fd in self._descriptors.values())

    def close(self) -> None:
        """Close them all; the next read opens anew."""
        for fd in self._descriptors.values():
            if fd >= 0:
                os.close(fd)
        self._descriptors.clear()


def read_number(path: str, reader: Reader = read) -> int | None:
    """Return the number in a control file; None for "max" and for a file that does not exist."""
    try:
        text = reader(path)
    except FileNotFoundError:
        return None
    return None if text == "max" else int(text)


def read_table(path: str, reader: Reader = read) -> dict[str, int]:
    """Return a control file of lines ``name number``; a missing file is an empty table."""
    try:
        text = reader(path)
    except FileNotFoundError:
        return {}
    table = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdecimal():
            table[name] = int(number)
    return table


def write(path: str, value: str) -> None:
    """Put ``value`` into a control file in a single call, as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def set_limit(limit: str, path: str, value: str) -> None:
    """Write ``value`` to a control file; raise CgroupError that names ``limit``, the resource document's word."""
    try:
        write(path, value)
    except FileNotFoundError:
        raise unsupported(limit, path) from None
    except OSError as exc:
        number = exc.errno or errno.EIO
        raise CgroupError(number, f"{limit}: write {value!r} to {path}: {os.strerror(number)}", path) from None


def unsupported(limit: str, path: str) -> CgroupError:
    """Return the error for a limit without a control file on this host."""
    return CgroupError(errno.EOPNOTSUPP, f"{limit}: this host does not support it ({path} does not exist)", path)


def walk(directory: str) -> Iterator[str]:
    """Yield ``directory`` and every cgroup below it, children first; what vanishes meanwhile is skipped."""
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in below:
        yield from walk(child)
    yield directory


def remove_tree(directory: str, deadline: float) -> None:
    """Remove a cgroup directory and all below it, waiting for dying processes until ``deadline`` (monotonic)."""
    try:
        os.rmdir(directory)  # the usual case: no children, nothing alive
        return
    except FileNotFoundError:
        return
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for each in walk(directory):
        _remove_one(each, deadline)


def _remove_one(directory: str, deadline: float) -> None:
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def collect_pids(directory: str) -> list[int]:
    """Return the processes in ``directory`` and below it, ascending."""
    found: set[int] = set()
    for each in walk(directory):
        try:
            found.update(map(int, read(each + "/cgroup.procs").split()))
        except OSError as exc:
            # ENODEV: removed while it was read. EOPNOTSUPP: a threaded cgroup, whose parent lists its processes.
            if exc.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return sorted(found)


def signal_frozen(cgroup: Cgroup, number: int) -> None:
    """Signal every process of ``cgroup`` while all are frozen, so that no fork is missed.

    A cgroup that cannot be frozen is signalled in rounds until a round meets no new process. One that was frozen before
    stays so, except for SIGKILL, which could not take effect.
    """
    try:
        frozen_before = cgroup.frozen()
    except FileNotFoundError:
        return  # no cgroup, no processes
    try:
        cgroup.freeze()
    except OSError:
        pass
    try:
        sent: set[int] = set()
        for _ in range(KILL_ROUNDS):
            fresh = set(cgroup.pids()) - sent
            if not fresh:
                break
            for pid in fresh:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            sent |= fresh
    finally:
        if number == signal.SIGKILL or not frozen_before:
            cgroup.thaw()


def wait_until(done: Callable[[], bool], timeout: float) -> bool:
    """Poll ``done`` with growing pauses; return False when ``timeout`` seconds did not suffice."""
    deadline = time.monotonic() + timeout
    pause = 0.0001
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return True
