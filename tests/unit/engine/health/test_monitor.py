"""The monitor on a clock that jumps, with probes that answer from a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.container import Container
from boxship.engine.health.monitor import HealthMonitor
from boxship.engine.health.policy import Verdict
from boxship.engine.health.probe import Outcome
from boxship.engine.model import ContainerSpec, ContainerStatus, State
from boxship.spec.docker.container import ContainerConfig, HealthConfig, HostConfig

SECOND = 10**9
GOOD, BAD = Outcome(0, "ok"), Outcome(1, "bad")


class JumpingClock:
    """Sleeping moves the time at once; without further answers of the probe nobody sleeps again."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return int(self.now * SECOND)

    def monotonic(self) -> float:
        return self.now - 500  # another zero than the wall clock's

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Fixture:
    """A monitor, what it did, and the probe's answers; a probe without an answer never ends."""

    def __init__(self, answers: list[Outcome]) -> None:
        self.clock = JumpingClock()
        self.answers = answers
        self.events: list[str] = []
        self.saved: list[Verdict | None] = []
        self.restarts = 0
        self.cancelled = 0
        self.idle = asyncio.Event()
        self.monitor = HealthMonitor(
            probe=lambda _container, _plan: self,
            save=self._save,
            emit=lambda _container, action, _attributes: self.events.append(action),
            restart=self._restart,
            clock=self.clock,
        )

    async def run(self) -> Outcome:
        if self.answers:
            return self.answers.pop(0)
        self.idle.set()
        try:
            return await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _save(self, container: Container) -> None:
        self.saved.append(container.status.health.verdict if container.status.health else None)

    def _restart(self, _container: Container) -> None:
        self.restarts += 1


def container(check: HealthConfig | None = None, *, started: float = 1000.0) -> Container:
    config = ContainerConfig(healthcheck=check or HealthConfig(test=["CMD", "x"], retries=2))
    spec = ContainerSpec(
        id="c" * 64,
        name="c",
        created_ns=1,
        image_id="i",
        config=config,
        host_config=HostConfig(),
        path="x",
        args=[],
    )
    return Container(spec, ContainerStatus(state=State.RUNNING, started_ns=int(started * SECOND)))


def move(box: Container, state: State) -> None:
    box.status = msgspec.structs.replace(box.status, state=state)


def health(box: Container) -> tuple[Verdict, int]:
    assert box.status.health is not None
    return box.status.health.verdict, box.status.health.failing_streak


def scenario(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await body()

    asyncio.run(bounded())


@pytest.mark.row("MON-01")
def test_changes_of_the_verdict_are_events_and_rows_and_other_probes_are_not() -> None:
    async def body() -> None:
        fixture, box = Fixture([GOOD, GOOD, BAD, BAD, BAD, GOOD]), container()
        fixture.monitor.started(box)
        assert health(box) == (Verdict.STARTING, 0)
        await fixture.idle.wait()
        assert fixture.events == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
        assert fixture.saved == [Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.HEALTHY]
        assert fixture.restarts == 2  # told each time, since the first may have failed
        assert set(fixture.clock.slept) == {30.0}
        await fixture.monitor.close()

    scenario(body)


def test_the_start_period_counts_from_the_containers_start_also_after_a_daemons_restart() -> None:
    async def body() -> None:
        check = HealthConfig(test=["CMD", "x"], start_period=20 * SECOND, start_interval=4 * SECOND, retries=1)
        fixture, box = Fixture([BAD] * 3), container(check, started=990.0)
        fixture.monitor.resume([box])
        await fixture.idle.wait()
        # Probed at the ages 14, 18 and 22; the last one is after the period.
        assert fixture.clock.slept == [4, 4, 4, 30]
        assert health(box) == (Verdict.UNHEALTHY, 1)
        await fixture.monitor.close()

    scenario(body)


def test_a_paused_container_is_left_alone_and_called_unhealthy_without_an_event() -> None:
    async def body() -> None:
        fixture, box = Fixture([GOOD]), container()
        fixture.monitor.started(box)
        await fixture.idle.wait()
        move(box, State.PAUSED)
        fixture.monitor.changed(box)
        assert health(box) == (Verdict.UNHEALTHY, 0)
        fixture.idle.clear()
        fixture.answers.append(BAD)
        move(box, State.RUNNING)
        fixture.monitor.changed(box)
        await fixture.idle.wait()
        assert fixture.cancelled == 1
        assert fixture.events == ["health_status: healthy"]
        assert fixture.restarts == 0  # one failure is not enough, whatever the pause made of it
        await fixture.monitor.close()

    scenario(body)


def test_a_new_run_is_judged_anew() -> None:
    async def body() -> None:
        fixture, box = Fixture([BAD, BAD]), container()
        fixture.monitor.started(box)
        await fixture.idle.wait()
        assert health(box) == (Verdict.UNHEALTHY, 2)
        move(box, State.EXITED)
        fixture.monitor.changed(box)
        move(box, State.RUNNING)
        fixture.monitor.started(box)
        assert health(box) == (Verdict.STARTING, 0)
        await fixture.monitor.close()

    scenario(body)


def test_closing_keeps_what_is_known_and_writes_it_down() -> None:
    async def body() -> None:
        fixture, box = Fixture([GOOD, BAD]), container()
        fixture.monitor.started(box)
        await fixture.idle.wait()
        await fixture.monitor.close()
        move(box, State.EXITED)
        fixture.monitor.changed(box)
        assert health(box) == (Verdict.HEALTHY, 1)
        assert fixture.saved == [Verdict.HEALTHY, Verdict.HEALTHY]
        assert fixture.cancelled == 1

    scenario(body)


def test_a_container_without_a_check_has_no_health() -> None:
    async def body() -> None:
        fixture, box = Fixture([]), container(HealthConfig(test=["NONE"]))
        fixture.monitor.started(box)
        move(box, State.EXITED)
        fixture.monitor.changed(box)
        assert box.status.health is None
        await fixture.monitor.close()

    scenario(body)


def test_a_store_that_cannot_write_does_not_end_the_watch() -> None:
    class Full(Fixture):
        async def _save(self, container: Container) -> None:
            raise SystemFailure("no space left on device")

    async def body() -> None:
        fixture, box = Full([GOOD, BAD, BAD]), container()
        fixture.monitor.started(box)
        await fixture.idle.wait()
        assert health(box) == (Verdict.UNHEALTHY, 2)
        await fixture.monitor.close()

    scenario(body)
