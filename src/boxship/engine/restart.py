"""Restart policies: the pure decision whether and when a container runs again."""

from __future__ import annotations

from boxship.spec.docker.container import RestartPolicy

MIN_DELAY = 0.1  # seconds; doubles with each failed try, as Docker does
MAX_DELAY = 60.0
RESET_UPTIME = 10.0  # a run of this many seconds counts as a success


def next_delay(
    policy: RestartPolicy, *, exit_code: int, uptime: float, restarts: int, previous: float, stopped_by_user: bool
) -> float | None:
    """Return the seconds to wait before the next start, or None to stay stopped."""
    if stopped_by_user:
        return None
    limit = policy.maximum_retry_count
    match policy.name:
        case "always" | "unless-stopped":
            pass
        case "on-failure" if exit_code != 0 and (limit == 0 or restarts < limit):
            pass
        case _:
            return None
    if previous == 0 or uptime >= RESET_UPTIME:
        return MIN_DELAY
    return min(previous * 2, MAX_DELAY)


def restarts_at_boot(policy: RestartPolicy, *, stopped_by_user: bool, exit_code: int, wanted_running: bool) -> bool:
    """Return whether a stopped container starts again when the daemon starts."""
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not stopped_by_user
        case "on-failure":
            return wanted_running and exit_code != 0 and not stopped_by_user
        case _:
            return False


def policy_text(policy: RestartPolicy) -> str:
    """Return a policy as users write it."""
    limit = policy.maximum_retry_count
    return f"{policy.name}:{limit}" if policy.name == "on-failure" and limit else policy.name or "no"


def why_not(policy: RestartPolicy, *, exit_code: int, stopped_by_user: bool, closing: bool) -> str:
    """Return why :func:`next_delay` gave no delay: ``engine.causes.Decision.reason``."""
    if policy.name not in ("always", "unless-stopped", "on-failure"):
        return "no-policy"
    if closing:
        return "shutdown"
    if stopped_by_user:
        return "stopped"
    return "given-up" if exit_code != 0 else "success"
