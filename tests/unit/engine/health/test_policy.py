"""What is probed, when, and what becomes of a container's health."""

from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.health import policy as health_policy
from boxship.engine.health.policy import Health, HealthPlan, ProbeResult, Verdict
from boxship.engine.options import request
from boxship.spec.docker.container import ContainerConfig, HealthConfig

SECOND = 10**9


def plan_of(check: HealthConfig, shell: list[str] | None = None) -> HealthPlan | None:
    return health_policy.plan(ContainerConfig(healthcheck=check, shell=shell))


def result(code: int) -> ProbeResult:
    return ProbeResult(start_ns=1, end_ns=2, exit_code=code, output="")


def after(codes: list[int], *, retries: int = 3, start_period: int = 0, age: float = 1.0) -> Health:
    plan = plan_of(HealthConfig(test=["CMD", "x"], retries=retries, start_period=start_period * SECOND))
    assert plan is not None
    health = Health()
    for code in codes:
        health = health_policy.judge(health, result(code), plan, age=age)
    return health


@pytest.mark.row("MON-02")
@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (["CMD", "a", "b c"], None, ["a", "b c"]),
        (["CMD-SHELL", "a | b"], None, ["/bin/sh", "-c", "a | b"]),
        (["CMD-SHELL", "a | b"], ["/bin/ash", "-xc"], ["/bin/ash", "-xc", "a | b"]),
    ],
)
def test_the_command_is_run_as_given_or_by_the_images_shell(
    test: list[str], shell: list[str] | None, command: list[str]
) -> None:
    plan = plan_of(HealthConfig(test=test), shell)
    assert plan is not None
    assert plan.command == command


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["BOGUS", "x"]])
def test_without_a_known_test_nothing_is_probed(test: list[str] | None) -> None:
    assert plan_of(HealthConfig(test=test, interval=SECOND)) is None
    assert health_policy.plan(ContainerConfig()) is None


@pytest.mark.row("MON-02")
def test_defaults_are_dockers() -> None:
    assert plan_of(HealthConfig(test=["CMD", "x"])) == HealthPlan(
        command=["x"], interval=30.0, timeout=30.0, start_period=0.0, start_interval=5.0, retries=3
    )


def test_an_image_cannot_ask_for_probes_without_a_pause() -> None:
    plan = plan_of(HealthConfig(test=["CMD", "x"], interval=1, timeout=-5, retries=-1))
    assert plan is not None
    assert (plan.interval, plan.timeout, plan.retries) == (0.001, 30.0, 3)


@pytest.mark.row("MON-01", "MON-03")
@pytest.mark.parametrize(
    ("codes", "verdict", "streak"),
    [
        ([], Verdict.STARTING, 0),
        ([0], Verdict.HEALTHY, 0),
        ([1, 1], Verdict.STARTING, 2),
        ([1, 1, 1], Verdict.UNHEALTHY, 3),
        ([1, 2, -1, 137], Verdict.UNHEALTHY, 4),
        ([0, 1, 1], Verdict.HEALTHY, 2),
        ([0, 1, 1, 1], Verdict.UNHEALTHY, 3),
        ([1, 1, 1, 0], Verdict.HEALTHY, 0),
        ([1, 1, 0, 1, 1], Verdict.HEALTHY, 2),
    ],
)
def test_results_in_a_row_make_the_verdict(codes: list[int], verdict: Verdict, streak: int) -> None:
    health = after(codes)
    assert (health.verdict, health.failing_streak) == (verdict, streak)


def test_failures_in_the_start_period_do_not_count() -> None:
    assert after([1] * 9, start_period=10, age=9.9).failing_streak == 0
    assert after([1] * 9, start_period=10, age=9.9).verdict is Verdict.STARTING
    assert after([1] * 3, start_period=10, age=10.0).verdict is Verdict.UNHEALTHY


def test_the_first_success_ends_the_start_period() -> None:
    assert after([0, 1, 1, 1], start_period=10, age=2).verdict is Verdict.UNHEALTHY


def test_five_results_are_kept() -> None:
    assert [probe.exit_code for probe in after([1, 2, 3, 4, 5, 6]).log] == [2, 3, 4, 5, 6]


def test_the_start_interval_holds_while_starting_within_the_start_period() -> None:
    plan = plan_of(HealthConfig(test=["CMD", "x"], start_period=60 * SECOND, start_interval=2 * SECOND))
    assert plan is not None
    healthy = Health(verdict=Verdict.HEALTHY)
    assert health_policy.next_wait(plan, Health(), age=59) == 2
    assert health_policy.next_wait(plan, Health(), age=60) == 30
    assert health_policy.next_wait(plan, healthy, age=1) == 30


def test_a_new_run_starts_anew_and_keeps_the_log() -> None:
    health = health_policy.begin(after([0, 1]))
    assert (health.verdict, health.failing_streak, health.passed, len(health.log)) == (Verdict.STARTING, 0, False, 2)


@pytest.mark.row("MON-02")
def test_the_users_check_is_filled_in_from_the_images_field_by_field() -> None:
    image = ContainerConfig(healthcheck=HealthConfig(test=["CMD", "image"], interval=SECOND, retries=7))
    own = ContainerConfig(healthcheck=HealthConfig(interval=2 * SECOND, start_interval=SECOND))
    assert request.merge_image(own, image).healthcheck == HealthConfig(
        test=["CMD", "image"], interval=2 * SECOND, start_interval=SECOND, retries=7
    )
    assert request.merge_image(ContainerConfig(), image).healthcheck == image.healthcheck
    assert request.merge_image(own, ContainerConfig()).healthcheck == own.healthcheck


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (HealthConfig(interval=999_999), "Interval in Healthcheck cannot be less than 1ms"),
        (HealthConfig(timeout=-1), "Timeout in Healthcheck cannot be less than 1ms"),
        (HealthConfig(start_period=1), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (HealthConfig(start_interval=1), "StartInterval in Healthcheck cannot be less than 1ms"),
        (HealthConfig(retries=-1), "Retries in Healthcheck cannot be negative"),
    ],
)
def test_impossible_values_are_refused(check: HealthConfig, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        health_policy.check(check)


def test_possible_values_pass() -> None:
    health_policy.check(None)
    health_policy.check(HealthConfig(test=["CMD", "x"], interval=1_000_000))


def test_only_the_users_plain_word_asks_for_restarts() -> None:
    wanted = [
        health_policy.restart_wanted(ContainerConfig(labels=labels))
        for labels in (None, {health_policy.RESTART_LABEL: "true"}, {health_policy.RESTART_LABEL: "1"})
    ]
    assert wanted == [False, True, False]
