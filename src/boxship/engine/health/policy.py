"""Health checks, the pure part: what to run and when, and what a result makes of a container's health.

Follows Docker (Engine API, ``HealthConfig`` and ``Health``): a container is ``starting`` until a probe passes or
``retries`` probes in a row fail; failures within the start period do not count while it is ``starting``; a probe that
passes makes it ``healthy``, whatever was before.
"""

from __future__ import annotations

import enum

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import ContainerConfig, HealthConfig

RESTART_LABEL = "io.boxship.restart-on-unhealthy"

MAX_LOG = 5  # results that inspect shows
MAX_OUTPUT = 4096  # bytes of a probe's output that are kept
FAILED = -1  # the exit code of a probe that did not start or did not end in time

_INTERVAL = 30.0  # seconds, as the next three
_TIMEOUT = 30.0
_START_PERIOD = 0.0
_START_INTERVAL = 5.0
_RETRIES = 3
_MINIMUM_NS = 1_000_000
_SHELL = ["/bin/sh", "-c"]


class Verdict(enum.StrEnum):
    """Docker's states of health."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one probe said; times are nanoseconds since 1970."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a container's health; part of its status."""

    verdict: Verdict = Verdict.STARTING
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()  # the last ones, oldest first
    passed: bool = False  # whether a probe of this run has passed

    @property
    def text(self) -> str:
        """What ``ps`` shows in brackets."""
        return "health: starting" if self.verdict is Verdict.STARTING else str(self.verdict)


class HealthPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A health check with all defaults filled in; durations are seconds."""

    command: list[str]
    interval: float
    timeout: float
    start_period: float
    start_interval: float
    retries: int


def plan(config: ContainerConfig) -> HealthPlan | None:
    """Return how a container with this configuration is probed, or None when it is not."""
    check = config.healthcheck
    match check.test if check else None:
        case ["CMD", *words]:
            command = words
        case ["CMD-SHELL", *words]:
            command = [*(config.shell or _SHELL), *words]
        case _:
            return None
    assert check is not None
    return HealthPlan(
        command=command,
        interval=_seconds(check.interval, _INTERVAL),
        timeout=_seconds(check.timeout, _TIMEOUT),
        start_period=_seconds(check.start_period, _START_PERIOD),
        start_interval=_seconds(check.start_interval, _START_INTERVAL),
        retries=check.retries if check.retries > 0 else _RETRIES,
    )


def next_wait(plan: HealthPlan, health: Health, *, age: float) -> float:
    """Return the seconds until the next probe of a container that has run for ``age`` seconds."""
    if age < plan.start_period and health.verdict is Verdict.STARTING:
        return plan.start_interval
    return plan.interval


def judge(health: Health, result: ProbeResult, plan: HealthPlan, *, age: float) -> Health:
    """Return the health after a probe that began when the container had run for ``age`` seconds."""
    log = (*health.log, result)[-MAX_LOG:]
    if result.exit_code == 0:
        return Health(verdict=Verdict.HEALTHY, log=log, passed=True)
    if health.verdict is Verdict.STARTING and age < plan.start_period:
        return msgspec.structs.replace(health, log=log)
    streak = health.failing_streak + 1
    verdict = Verdict.UNHEALTHY if streak >= plan.retries else health.verdict
    return msgspec.structs.replace(health, verdict=verdict, failing_streak=streak, log=log)


def begin(former: Health | None) -> Health:
    """Return the health of a container that was just started; the log goes on, as in Docker."""
    return Health(log=former.log if former else ())


def suspend(health: Health) -> Health:
    """Return the health of a container that is no longer probed (paused or ended): Docker calls it unhealthy."""
    return msgspec.structs.replace(health, verdict=Verdict.UNHEALTHY)


def restart_wanted(config: ContainerConfig) -> bool:
    """Return whether the user asked for restarts of an unhealthy container."""
    return (config.labels or {}).get(RESTART_LABEL) == "true"


def merge(own: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """Return the user's health check with what it leaves open filled in from the image's."""
    if own is None or image is None:
        return own or image
    return HealthConfig(
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )


def check(config: HealthConfig | None) -> None:
    """Raise InvalidInput in Docker's words for durations and counts that make no sense."""
    if config is None:
        return
    for name, duration in (
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ):
        if duration != 0 and duration < _MINIMUM_NS:
            raise InvalidInput(f"{name} in Healthcheck cannot be less than 1ms")
    if config.retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")


def _seconds(duration_ns: int, default: float) -> float:
    """Return a duration in seconds; what an image brings was not checked, and must not make us probe without a pause."""
    return max(duration_ns, _MINIMUM_NS) / 1e9 if duration_ns > 0 else default
