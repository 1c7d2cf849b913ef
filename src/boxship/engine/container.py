"""A container in memory, and the index that finds it by what a client typed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from boxship.base.errors import InvalidInput
from boxship.base.ids import ID_LENGTH
from boxship.engine.model import ContainerSpec, ContainerStatus, NameInUse, NoSuchContainer
from boxship.engine.names import random_name
from boxship.engine.processes.shims import Client, Shim
from boxship.spec.docker.container import WaitResult


class Container:
    """One container: its snapshots, its lock, its shim and those who wait for it.

    ``status`` is replaced synchronously as events arrive, so it is never older than what the kernel told us. ``lock``
    serialises start, remove and rename; stop, kill and exec do not take it, so that none of them waits for a slow other.
    """

    def __init__(self, spec: ContainerSpec, status: ContainerStatus) -> None:
        self.spec = spec
        self.status = status
        self.lock = asyncio.Lock()
        self.shim: Shim | None = None
        self.clean = asyncio.Event()  # set while no shim is connected: nothing of a run is left on the host
        self.clean.set()
        self.starting: asyncio.Future[dict[str, object]] | None = None
        self.attaching: list[Client] = []  # clients that attached before the start
        self.secret_env: tuple[str, ...] = ()  # KEY=value for the first process; never written anywhere
        self.exec_ids: list[str] = []  # created or running, as inspect shows them
        self.ended_exec_ids: list[str] = []  # those that can still be asked for, oldest first
        self.restart_timer: asyncio.Task[None] | None = None
        self.restart_delay = 0.0
        self.running_since: float | None = None  # loop time; None when this daemon did not see the run begin
        self.ended = asyncio.Event()  # set while no process runs and its log is complete
        self.ended.set()
        self.leaving = False  # its last run has ended, but its ports and addresses are not free yet
        self._exit_waiters: list[asyncio.Future[WaitResult]] = []
        self._removal_waiters: list[asyncio.Future[WaitResult]] = []

    @property
    def id(self) -> str:
        """The 64-digit id."""
        return self.spec.id

    def uptime(self, finished_ns: int) -> float:
        """Return how long a run that ends now has lasted, in seconds; by the wall clock only where it began before us."""
        since, self.running_since = self.running_since, None
        if since is not None:
            return asyncio.get_running_loop().time() - since
        return max(0.0, (finished_ns - self.status.started_ns) / 1e9)

    def result(self) -> WaitResult:
        """Return what a wait that ends now answers."""
        return WaitResult(status_code=self.status.exit_code)

    def next_exit(self) -> asyncio.Future[WaitResult]:
        """Return a future of the next exit; cancelling it forgets it."""
        return self._waiter(self._exit_waiters)

    def removal(self) -> asyncio.Future[WaitResult]:
        """Return a future of the removal; cancelling it forgets it."""
        return self._waiter(self._removal_waiters)

    def wake_exit(self) -> None:
        """Answer those who wait for the exit."""
        _wake(self._exit_waiters, self.result())

    def wake_removal(self) -> None:
        """Answer everybody who still waits: nothing will happen to this container any more."""
        _wake(self._exit_waiters, self.result())
        _wake(self._removal_waiters, self.result())

    def cancel_restart(self) -> None:
        """Forget a restart that waits for its delay."""
        if self.restart_timer is not None and self.restart_timer is not asyncio.current_task():
            self.restart_timer.cancel()
        self.restart_timer = None

    def _waiter(self, waiters: list[asyncio.Future[WaitResult]]) -> asyncio.Future[WaitResult]:
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        waiters.append(future)
        future.add_done_callback(lambda done: waiters.remove(done) if done in waiters else None)
        return future


class ContainerIndex:
    """All containers of this daemon, by id, id prefix and name."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}
        self._reserved: dict[str, str] = {}  # name: id, of containers that are being created

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, container: Container) -> None:
        """Make a container known under its id and name."""
        self._by_id[container.id] = container
        self._by_name[container.spec.name] = container

    def discard(self, container: Container) -> None:
        """Forget a container."""
        self._by_id.pop(container.id, None)
        if self._by_name.get(container.spec.name) is container:
            del self._by_name[container.spec.name]

    def rename(self, container: Container, old: str) -> None:
        """Follow a changed name."""
        self._by_name.pop(old, None)
        self._by_name[container.spec.name] = container

    @contextlib.contextmanager
    def reserved(self, name: str | None, id: str) -> Iterator[str]:
        """Keep a name, a free random one if none is given, from others while its container is made. Raises NameInUse."""
        if name is None:
            name = random_name(self._by_name.keys() | self._reserved.keys())
        holder = self._by_name.get(name)
        if holder is not None or name in self._reserved:
            raise NameInUse(name, holder.id if holder is not None else self._reserved[name])
        self._reserved[name] = id
        try:
            yield name
        finally:
            del self._reserved[name]

    def by_id(self, id: str) -> Container | None:
        """Return the container with exactly this id."""
        return self._by_id.get(id)

    def find(self, ref: str) -> Container:
        """Return the container that ``ref`` names: full id, name, then unique id prefix, in this order.

        Raises NoSuchContainer, and InvalidInput when a prefix fits several.
        """
        name = ref.removeprefix("/")
        exact = self._by_id.get(ref) or self._by_name.get(name)
        if exact is not None:
            return exact
        if not ref:
            raise NoSuchContainer(ref)
        if len(ref) < ID_LENGTH:
            matching = [container for id, container in self._by_id.items() if id.startswith(ref)]
            if len(matching) > 1:
                raise InvalidInput(f"multiple IDs found with provided prefix: {ref}")
            if matching:
                return matching[0]
        raise NoSuchContainer(ref)


def _wake(waiters: list[asyncio.Future[WaitResult]], result: WaitResult) -> None:
    for waiter in list(waiters):
        if not waiter.done():
            waiter.set_result(result)
    waiters.clear()
