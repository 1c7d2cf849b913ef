"""Reading what one run of one container has used.

A meter keeps the control files of its cgroup open while somebody looks at the container again and again, and the directory
of its first process, so that a process number that was given to another meanwhile is never mistaken for it. All blocking.
"""

from __future__ import annotations

import os
import threading
import time

from boxship.base import clock
from boxship.engine.observation import stats
from boxship.linux.cgroup import Cgroup
from boxship.linux.cgroup_base import ControlFiles

_NET_DEV_BYTES = 1 << 20


class ProcessorTime:
    """The time that all processors together have spent since boot, idle or not.

    /proc/stat counts it in ticks of 10 ms, too coarse for two looks that are near to each other; so it is read for its
    start and for the number of processors, and the monotonic clock counts on from there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total_ns, self._online = _proc_stat()
        self._read_ns = time.monotonic_ns()

    def refresh(self) -> None:
        """Notice processors that were switched on or off."""
        _, online = _proc_stat()
        with self._lock:
            now = time.monotonic_ns()
            self._total_ns += (now - self._read_ns) * self._online
            self._read_ns = now
            self._online = online

    def read(self) -> tuple[int, int]:
        """Return the time in nanoseconds and the number of processors."""
        with self._lock:
            return self._total_ns + (time.monotonic_ns() - self._read_ns) * self._online, self._online


class Meter:
    """Reads samples of one run; for one thread at a time. The owner closes it.

    ``pid`` is a process in the container's own network namespace, None without one. ``keep`` holds the files open between
    two samples.
    """

    def __init__(self, cgroup: Cgroup, pid: int | None, processors: ProcessorTime, *, keep: bool) -> None:
        self._cgroup = cgroup
        self._pid = pid
        self._processors = processors
        self._keep = keep
        self._files = ControlFiles()
        self._process = -1

    def read(self) -> stats.Sample:
        """Read a sample. Raises OSError when the run has ended."""
        counters = self._cgroup.stats(self._files.read)
        system_cpu_ns, online_cpus = self._processors.read()
        read_ns = clock.now_ns()
        networks = stats.parse_net_dev(self._net_dev()) if self._pid is not None else None
        if not self._keep:
            self.close()
        return stats.Sample(
            read_ns=read_ns,
            cgroup=counters,
            cgroup_version=self._cgroup.version,
            networks=networks,
            system_cpu_ns=system_cpu_ns,
            online_cpus=online_cpus,
        )

    def close(self) -> None:
        """Close the files; the next sample would open them anew."""
        self._files.close()
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def _net_dev(self) -> str:
        # The file itself is not kept open: that would keep the network namespace alive after its container.
        if self._process < 0:
            self._process = os.open(f"/proc/{self._pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        fd = os.open("net/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._process)
        try:
            pieces = b""
            while len(pieces) < _NET_DEV_BYTES and (piece := os.read(fd, 65536)):
                pieces += piece
        finally:
            os.close(fd)
        return pieces.decode(errors="replace")


def _proc_stat() -> tuple[int, int]:
    with open("/proc/stat") as file:
        return stats.parse_proc_stat(file.read())
