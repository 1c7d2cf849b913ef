"""How long a run lasted decides about restarts: a step of the wall clock must not."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from boxship.engine.container import Container
from boxship.engine.model import ContainerSpec, ContainerStatus

HOUR_NS = 3600 * 10**9
NOW_NS = 1_700_000_000 * 10**9


@pytest.mark.parametrize("step_ns", [-HOUR_NS, HOUR_NS])
def test_f7_a_step_of_the_clock_does_not_change_how_long_a_run_lasted(step_ns: int) -> None:
    async def run() -> float:
        container = Container(cast(ContainerSpec, None), ContainerStatus(started_ns=NOW_NS))
        container.running_since = asyncio.get_running_loop().time() - 5
        return container.uptime(NOW_NS + step_ns)

    assert asyncio.run(run()) == pytest.approx(5, abs=1)


def test_f7_a_run_that_began_before_this_daemon_counts_by_the_clock_and_never_below_zero() -> None:
    container = Container(cast(ContainerSpec, None), ContainerStatus(started_ns=NOW_NS))
    assert container.uptime(NOW_NS + 10**9) == 1.0
    assert container.uptime(NOW_NS - HOUR_NS) == 0.0
