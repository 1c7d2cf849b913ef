"""Tells of a lack of memory when it happens: often it costs a container a process and not its life.

The kernel shows an event on a descriptor of each watched cgroup. What it says differs: version 1 tells that memory has run
out, a moment before it kills; version 2 tells that some counter has changed. Containers without a limit are not watched; the
end of one that was killed is told by its shim.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable

from boxship.engine.container import Container
from boxship.linux.cgroup import Cgroup


class MemoryMonitor:
    """Watches the memory of containers with a limit (``lifecycle.Watcher``); ``tell`` is called for each lack of it."""

    def __init__(self, cgroup: Callable[[Container], Cgroup], tell: Callable[[Container], None]) -> None:
        self._cgroup = cgroup
        self._tell = tell
        # asyncio waits for readable descriptors only, which the files of version 2 always are.
        self._poll = select.epoll()
        self._watches: dict[
            int, tuple[Container, int]
        ] = {}  # by descriptor; with the kills so far, -1 where not counted
        self._watched: dict[str, int] = {}  # container id to descriptor, -1 while it is being opened
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = False

    def started(self, container: Container) -> None:
        """Watch the new run of a container."""
        self._forget(container)
        self.changed(container)

    def changed(self, container: Container) -> None:
        """Watch the container, or no more, as its state and limit ask."""
        if not container.status.alive:
            self._forget(container)
        elif container.spec.host_config.memory > 0 and container.id not in self._watched:
            self._watched[container.id] = -1
            self._spawn(container)

    async def close(self) -> None:
        """Watch nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
        for container, _ in list(self._watches.values()):
            self._forget(container)
        self._poll.close()

    def _spawn(self, container: Container) -> None:
        task = asyncio.get_running_loop().create_task(self._watch(container))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, container: Container) -> None:
        cgroup, run = self._cgroup(container), container.status.started_ns
        try:
            fd, events = await asyncio.to_thread(cgroup.oom_notifier)
        except OSError:  # ended, or a kernel without a memory controller: so it stays noted as being opened
            return
        if self._watched.get(container.id) != -1 or container.status.started_ns != run:
            os.close(fd)
            return
        self._watched[container.id] = fd
        known = cgroup.oom_count() if container.status.oom_killed else 0
        self._watches[fd] = container, known if events & select.POLLPRI else -1
        self._poll.register(fd, events)
        if not self._listening:
            self._listening = True
            asyncio.get_running_loop().add_reader(self._poll.fileno(), self._ready)

    def _ready(self) -> None:
        for fd, _ in self._poll.poll(0):
            container, kills = self._watches[fd]
            with contextlib.suppress(OSError):
                os.read(fd, 4096) if kills < 0 else os.pread(fd, 4096, 0)
            count = kills
            if kills >= 0:
                with contextlib.suppress(OSError):
                    count = self._cgroup(container).oom_count()
                self._watches[fd] = container, max(kills, count)
            if container.status.alive and (kills < 0 or count > kills):
                self._tell(container)

    def _forget(self, container: Container) -> None:
        fd = self._watched.pop(container.id, -1)
        if fd >= 0:
            del self._watches[fd]
            self._poll.unregister(fd)
            os.close(fd)
