"""Health monitoring: one task per container that has a health check, alive while the container runs.

A task waits, probes, and writes the judgement into the container's status; a stuck probe holds up its own container's task
only. Status rows are written when the verdict changes, not at each probe.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec

from boxship.base import clock
from boxship.base.errors import BoxshipError
from boxship.engine.container import Container
from boxship.engine.health import policy as health_policy
from boxship.engine.health.policy import Health, HealthPlan, ProbeResult, Verdict
from boxship.engine.health.probe import Outcome
from boxship.engine.model import State

log = logging.getLogger(__name__)

CLOSE_DEADLINE = 10.0  # seconds that probes have to end when the daemon does

Emit = Callable[[Container, str, dict[str, str]], None]


class Clock(Protocol):
    """Wall time for people, monotonic time for decisions."""

    def now_ns(self) -> int: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return clock.now_ns()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Runner(Protocol):
    """Runs one container's probe."""

    async def run(self) -> Outcome: ...


class HealthMonitor:
    """Follows the health of all containers (``lifecycle.Watcher``).

    ``probe`` makes the runner of one container, ``save`` writes its status row, ``restart`` is told each time a probe
    leaves a container unhealthy.
    """

    def __init__(
        self,
        *,
        probe: Callable[[Container, HealthPlan], Runner],
        save: Callable[[Container], Awaitable[None]],
        emit: Emit,
        restart: Callable[[Container], None],
        clock: Clock,
    ) -> None:
        self._probe = probe
        self._save = save
        self._emit = emit
        self._restart = restart
        self._clock = clock
        self._watches: dict[str, tuple[Container, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = False

    def started(self, container: Container) -> None:
        """Begin anew: the container was just started."""
        self._end(container)
        if health_policy.plan(container.spec.config) is not None:
            _set(container, health_policy.begin(container.status.health))
        self.changed(container)

    def changed(self, container: Container) -> None:
        """Probe the container or leave it alone, as its state asks."""
        plan = health_policy.plan(container.spec.config)
        if plan is None or self._closing:
            return
        if container.status.state is not State.RUNNING:
            self._end(container)
            if container.status.health is not None:
                _set(container, health_policy.suspend(container.status.health))
        elif container.id not in self._watches:
            if container.status.health is None:
                _set(container, Health())
            task = asyncio.get_running_loop().create_task(self._watch(container, plan), name=f"health:{container.id}")
            self._watches[container.id] = (container, task)
            task.add_done_callback(self._done)

    def resume(self, containers: Iterable[Container]) -> None:
        """Go on with the containers that a former daemon left running."""
        for container in containers:
            self.changed(container)

    async def close(self) -> None:
        """Probe no more; what is known of the containers stays, and is written down."""
        self._closing = True
        watched = [container for container, _ in self._watches.values()]
        for container in watched:
            self._end(container)
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=CLOSE_DEADLINE)
        for container in watched:
            await self._save_or_log(container)

    async def _watch(self, container: Container, plan: HealthPlan) -> None:
        # A restarted daemon knows the start by the wall clock only.
        started = self._clock.monotonic() - max(0, self._clock.now_ns() - container.status.started_ns) / 1e9
        probe = self._probe(container, plan)
        while True:
            age = self._clock.monotonic() - started
            await self._clock.sleep(health_policy.next_wait(plan, _health(container), age=age))
            begun_ns, age = self._clock.now_ns(), self._clock.monotonic() - started
            outcome = await probe.run()
            result = ProbeResult(
                start_ns=begun_ns, end_ns=self._clock.now_ns(), exit_code=outcome.exit_code, output=outcome.output
            )
            before = _health(container)
            after = health_policy.judge(before, result, plan, age=age)
            _set(container, after)
            if after.verdict is not before.verdict:
                self._emit(container, f"health_status: {after.verdict}", {})
                await self._save_or_log(container)
            # The streak tells it from one that is called unhealthy only since it was paused.
            if after.verdict is Verdict.UNHEALTHY and after.failing_streak >= plan.retries:
                self._restart(container)

    async def _save_or_log(self, container: Container) -> None:
        try:
            await self._save(container)
        except BoxshipError as exc:
            log.warning("the health of container %s was not written down: %s", container.id, exc)

    def _end(self, container: Container) -> None:
        _, task = self._watches.pop(container.id, (container, None))
        if task is not None:
            task.cancel()
            self._ending.add(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the health check %s failed", task.get_name(), exc_info=task.exception())


def _health(container: Container) -> Health:
    assert container.status.health is not None
    return container.status.health


def _set(container: Container, health: Health) -> None:
    container.status = msgspec.structs.replace(container.status, health=health)
