"""Restart policies decide purely."""

from __future__ import annotations

import pytest

from boxship.engine.restart import next_delay, restarts_at_boot
from boxship.spec.docker.container import RestartPolicy


def delay(
    name: str,
    *,
    exit_code: int = 1,
    uptime: float = 0.1,
    restarts: int = 0,
    previous: float = 0.0,
    stopped: bool = False,
    limit: int = 0,
) -> float | None:
    policy = RestartPolicy(name=name, maximum_retry_count=limit)
    return next_delay(
        policy, exit_code=exit_code, uptime=uptime, restarts=restarts, previous=previous, stopped_by_user=stopped
    )


@pytest.mark.parametrize(
    ("name", "exit_code", "restarts", "limit", "again"),
    [
        ("no", 1, 0, 0, False),
        ("always", 0, 0, 0, True),
        ("unless-stopped", 0, 0, 0, True),
        ("on-failure", 0, 0, 0, False),
        ("on-failure", 1, 2, 3, True),
        ("on-failure", 1, 3, 3, False),
    ],
)
def test_who_starts_again(name: str, exit_code: int, restarts: int, limit: int, again: bool) -> None:
    assert (delay(name, exit_code=exit_code, restarts=restarts, limit=limit) is not None) == again


def test_the_delay_doubles_up_to_a_minute_and_resets_after_ten_seconds() -> None:
    assert delay("always") == 0.1
    assert delay("always", previous=0.1) == 0.2
    assert delay("always", previous=50.0) == 60.0
    assert delay("always", previous=50.0, uptime=11.0) == 0.1


def test_what_the_user_stopped_stays_stopped() -> None:
    assert delay("always", stopped=True) is None


@pytest.mark.parametrize(
    ("name", "stopped", "expected"),
    [("always", True, True), ("unless-stopped", True, False), ("unless-stopped", False, True), ("no", False, False)],
)
def test_what_starts_with_the_daemon(name: str, stopped: bool, expected: bool) -> None:
    assert (
        restarts_at_boot(RestartPolicy(name=name), stopped_by_user=stopped, exit_code=0, wanted_running=True)
        is expected
    )
