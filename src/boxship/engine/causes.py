"""Why a container's run ended: what is noted down when it happens, for ``boxship why``.

Two notes are in a container's status, so they are as durable as that and no more than one of each is kept: the last request
that concerns the run (``asked``), written before it is carried out, and the end of the last run (``ending``), which stays
while the next run goes on. Both are plain facts; ``engine.why`` puts them into words.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from boxship.base import clock
from boxship.engine.health.policy import Health
from boxship.http import peer
from boxship.http.peer import Peer

OUTPUTS_KEPT = 3  # of failed probes
OUTPUT_LENGTH = 200  # characters of each
ERROR_LENGTH = 2000  # characters of the text of a failed start
REACTION_NS = 10 * 10**9  # how long after a signal an end still counts as its effect

SIGKILL = 9


class Reason(enum.StrEnum):
    """What ended a run; of several that apply, the first."""

    START_FAILED = "start-failed"
    REBOOT = "host-reboot"
    SHIM_KILLED = "shim-killed"
    UNSEEN = "unseen"  # while the daemon was down, and nothing recorded it
    OUT_OF_MEMORY = "out-of-memory"
    UNHEALTHY = "unhealthy"
    SHUTDOWN = "daemon-shutdown"
    REQUEST = "request"
    SIGNAL = "signal"  # from somebody we do not know: the program itself, the kernel, another program
    EXIT = "exit"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody asked for: ``action`` is the command's name, ``peer`` is None for the engine itself."""

    action: str
    time_ns: int
    peer: Peer | None = None
    signal: int = 0  # that was asked for or that a stop begins with
    timeout: int = -1  # seconds until a stop uses SIGKILL; -1: never


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the restart policy made of an end: ``delay`` seconds until the next start, or None and why not."""

    policy: str  # as the user writes it: on-failure:3
    delay: float | None = None
    reason: str = ""  # of not starting: no-policy, success, given-up, stopped, shutdown


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run, or a start that failed."""

    reason: Reason
    time_ns: int
    exit_code: int
    signal: int = 0  # that killed the first process; an exit code above 128 alone does not tell
    uptime: float = 0.0  # seconds
    restarts: int = 0  # by the policy, up to this run
    request: Request | None = None  # the last one of this run, its cause or not
    decision: Decision | None = None
    memory_limit: int = 0  # bytes, 0: none; like the next only for a lack of memory
    memory_peak: int = 0
    outputs: tuple[str, ...] = ()  # of the last failed probes, for an unhealthy container
    daemon_down: bool = False
    error: str = ""  # of a start that failed


def asked(action: str, *, signal: int = 0, timeout: int = -1) -> Request:
    """Return a request of whoever the API serves at this moment; only for code that a handler calls directly."""
    return Request(action=action, time_ns=clock.now_ns(), peer=peer.current.get(), signal=signal, timeout=timeout)


def own(action: str) -> Request:
    """Return a request of the engine itself."""
    return Request(action=action, time_ns=clock.now_ns())


def boot_id() -> str:
    """Return the kernel's name for the time since it was booted, "" where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def of_lost(boot: str, now: str) -> Reason:
    """Return why a run has neither a shim nor a record of its end: ``boot`` is the boot that it ran in."""
    if not boot:
        return Reason.UNSEEN  # its row is of a time that did not note this
    return Reason.REBOOT if boot != now else Reason.SHIM_KILLED


def of_end(
    record: Mapping[str, Any],
    *,
    request: Request | None,
    health: Health | None,
    unhealthy: bool,
    uptime: float,
    restarts: int,
    decision: Decision,
) -> Ending:
    """Return the note of an end from the shim's record, or from what stands in for a missing one (``reason``)."""
    memory = record.get("memory") or {}
    ending = Ending(
        reason=Reason.EXIT,
        time_ns=int(record["finished_at"]),
        exit_code=int(record["code"]),
        signal=int(record.get("signal", 0)),
        uptime=uptime,
        restarts=restarts,
        request=request,
        decision=decision,
        memory_limit=int(memory.get("limit", 0)),
        memory_peak=int(memory.get("peak", 0)),
        outputs=_outputs(health) if unhealthy else (),
        daemon_down=bool(record.get("daemon_down")),
    )
    reason = Reason(record["reason"]) if "reason" in record else _reason(ending, bool(record.get("oom")))
    return msgspec.structs.replace(ending, reason=reason)


def of_failed_start(error: str, exit_code: int, *, request: Request | None, restarts: int) -> Ending:
    """Return the note of a start that failed."""
    return Ending(
        reason=Reason.START_FAILED,
        time_ns=clock.now_ns(),
        exit_code=exit_code,
        error=error[:ERROR_LENGTH],
        request=request,
        restarts=restarts,
    )


def is_cause(ending: Ending) -> bool:
    """Return whether the run's last request is what ended it, as far as one can tell."""
    request = ending.request
    if request is None:
        return False
    if request.action != "kill":
        return True
    if ending.signal:
        return ending.signal == request.signal
    # The program may have handled the signal: then it ends with a code of its own choice.
    return 0 <= ending.time_ns - request.time_ns <= REACTION_NS


def _reason(ending: Ending, oom: bool) -> Reason:
    request = ending.request
    if request is not None and is_cause(ending):
        return {"unhealthy": Reason.UNHEALTHY, "shutdown": Reason.SHUTDOWN}.get(request.action, Reason.REQUEST)
    if oom and ending.exit_code != 0 and ending.signal in (0, SIGKILL):
        return Reason.OUT_OF_MEMORY
    return Reason.SIGNAL if ending.signal else Reason.EXIT


def _outputs(health: Health | None) -> tuple[str, ...]:
    failed = [result for result in (health.log if health else ()) if result.exit_code != 0]
    return tuple(result.output.strip()[:OUTPUT_LENGTH] for result in failed[-OUTPUTS_KEPT:])
