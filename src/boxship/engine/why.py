"""Puts into words why a container is in its state: the text and document of ``boxship why``. Pure but for user names."""

from __future__ import annotations

import pwd
import re
import signal as signals
from typing import Any

from boxship.base import clock
from boxship.base.moments import format_duration
from boxship.engine.causes import Decision, Ending, Reason, Request, is_cause
from boxship.engine.model import ContainerSpec, ContainerStatus, State
from boxship.engine.options import selinux
from boxship.http.peer import Peer

SECOND = 10**9

_CRASHES = frozenset(("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"))
_CODES = {
    125: "which the container's own tools use for a failure of theirs",
    126: "which shells use for a program that may not be run",
    127: "which shells use for a program that does not exist",
    255: "which many programs use for any failure",
}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\ud7ff\ue000-\uffff]+")
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def document(spec: ContainerSpec, status: ContainerStatus, *, now_ns: int) -> dict[str, Any]:
    """Return the answer of GET /boxship/containers/{id}/why; may block on looking up a user's name."""
    return {
        "Id": spec.id,
        "Name": f"/{spec.name}",
        "State": str(status.state),
        "RestartCount": status.restart_count,
        "StartedBy": _request_document(status.started_by),
        "Asked": _request_document(status.asked),
        "Ending": _ending_document(status.ending),
        "Text": text(spec, status, now_ns=now_ns),
    }


def text(spec: ContainerSpec, status: ContainerStatus, *, now_ns: int) -> str:
    """Return one paragraph."""
    ending = status.ending
    sentences = [_now(spec, status, now_ns)]
    if ending is not None:
        if ending.reason is Reason.START_FAILED:
            sentences.append(_failed_start(ending))
        else:
            before = status.alive
            sentences += _end(ending, subject="Its last run" if before else "It")
            if not before and ending.exit_code != 0 and (denied := selinux.hint(spec)):
                sentences.append(f"{denied}.")
            if not before:
                sentences += _decision(status, ending, now_ns, auto_remove=spec.host_config.auto_remove)
    elif status.state is State.EXITED:
        sentences.append(f"How it ended was not recorded; its exit code is {status.exit_code}.")
    return " ".join(sentence for sentence in sentences if sentence)


# -- what it is now ----------------------------------------------------------------------------------------------------


def _now(spec: ContainerSpec, status: ContainerStatus, now_ns: int) -> str:
    name, since = spec.name, _moment(status.started_ns)
    match status.state:
        case State.RUNNING | State.PAUSED:
            how = "running" if status.state is State.RUNNING else "paused; it has been running"
            times = status.restart_count
            again = f" Its restart policy has restarted it {_count(times, 'time')}." if times else ""
            return f"{name} is {how} since {since} ({_span(now_ns - status.started_ns)}){_started_by(status)}.{again}"
        case State.CREATED if status.ending is None:
            return f"{name} was never started. It was created at {_moment(spec.created_ns)}."
        case State.CREATED:
            return f"{name} has never run. It was created at {_moment(spec.created_ns)}."
        case State.RESTARTING:
            return f"{name} waits for its next start."
        case State.REMOVING | State.DEAD:
            return f"{name} is being removed."
        case _:
            return f"{name} is stopped."


def _started_by(status: ContainerStatus) -> str:
    request = status.started_by
    if request is None:
        return ""
    match request.action:
        case "restart-policy":
            return ", when its restart policy started it"
        case "daemon-start":
            return ", when Boxship itself started and its restart policy asked for it"
        case action:
            return f", when {_who(request.peer)} called {action}"


# -- how it ended ------------------------------------------------------------------------------------------------------


def _failed_start(ending: Ending) -> str:
    match ending.request:
        case Request(action="restart-policy"):
            by = " by its restart policy"
        case Request(action="daemon-start"):
            by = " when Boxship started"
        case Request() as request:
            by = f", which {_who(request.peer)} asked for,"
        case _:
            by = ""
    return (
        f"Its start{by} at {_moment(ending.time_ns)} failed with exit code {ending.exit_code}: {_clean(ending.error)}."
    )


def _end(ending: Ending, *, subject: str) -> list[str]:
    """Return the sentences about an end."""
    at = f"at {_moment(ending.time_ns)}, after {_span(round(ending.uptime * SECOND))},"
    sentences = [f"{subject} {_verb(ending, at)}."]
    request = ending.request
    if request is not None and not is_cause(ending):
        sentences.append(
            f"Before that, at {_moment(request.time_ns)}, {_who(request.peer)} had sent it {signal_name(request.signal)}."
        )
    if ending.reason is Reason.UNHEALTHY and any(ending.outputs):
        said = "; ".join(f'"{_clean(output)}"' for output in ending.outputs if output)
        sentences.append(f"The last checks said: {said}.")
    if ending.memory_peak and ending.reason is not Reason.OUT_OF_MEMORY:
        sentences.append(f"The kernel had killed a process of it for want of memory ({_memory(ending)}).")
    if ending.daemon_down and ending.reason not in (Reason.UNSEEN, Reason.SHIM_KILLED):
        sentences.append("Boxship was not running at that time.")
    return sentences


def _verb(ending: Ending, at: str) -> str:
    code = f"exit code {ending.exit_code}"
    match ending.reason:
        case Reason.REBOOT:
            return "was cut off when the host rebooted or lost power"
        case Reason.SHIM_KILLED:
            down = " while Boxship was not running" if ending.daemon_down else ""
            return f"ended {at} since the process that looks after it (its shim) was killed from outside{down} ({code})"
        case Reason.UNSEEN:
            return f"ended while Boxship was not running, and nothing recorded how ({code})"
        case Reason.OUT_OF_MEMORY:
            return f"ran out of memory {at} and the kernel killed it ({_memory(ending)}; {code})"
        case Reason.UNHEALTHY:
            return f"was stopped {at} since its health checks failed; {_effect(ending)}"
        case Reason.SHUTDOWN:
            return f"was stopped {at} since Boxship was shut down; {_effect(ending)}"
        case Reason.REQUEST:
            assert ending.request is not None
            return _requested(ending, ending.request, at)
        case Reason.SIGNAL:
            name = signal_name(ending.signal)
            if name in _CRASHES:
                return f"crashed {at} with {name} ({code})"
            return f"was killed {at} by {name} ({code}), which came from itself or another program of the host, not through Boxship"
        case _:
            return f"ended {at} by itself with {code}{_code_meaning(ending.exit_code)}"


def _requested(ending: Ending, request: Request, at: str) -> str:
    who = _who(request.peer)
    if request.action == "kill":
        return f"ended {at} when {who} sent it {signal_name(request.signal)} with kill; {_effect(ending)}"
    if request.action == "rm":
        return f"was killed {at} to be removed by {who}; {_effect(ending)}"
    return f"was stopped {at} by {who} with {request.action}; {_effect(ending)}"


def _effect(ending: Ending) -> str:
    """Return what a request to stop led to."""
    request, code = ending.request, ending.exit_code
    if ending.signal == signals.SIGKILL and request and request.signal not in (0, signals.SIGKILL):
        name = signal_name(request.signal)
        return f"it did not end within {_count(request.timeout, 'second')} of {name} and was killed (exit code {code})"
    if ending.signal:
        return f"{signal_name(ending.signal)} ended it (exit code {code})"
    return f"it ended with exit code {code}"


def _memory(ending: Ending) -> str:
    limit = (
        f"its limit is {_size(ending.memory_limit)}"
        if ending.memory_limit
        else "it has no limit: the host had none left"
    )
    return f"{limit}, its peak was {_size(ending.memory_peak)}" if ending.memory_peak else limit


def _code_meaning(code: int) -> str:
    if code in _CODES:
        return f", {_CODES[code]}"
    if 128 < code <= 192:
        return f", which shells use when {signal_name(code - 128)} ended a program"
    return ""


# -- what comes next ---------------------------------------------------------------------------------------------------


def _decision(status: ContainerStatus, ending: Ending, now_ns: int, *, auto_remove: bool) -> list[str]:
    decision, asked = ending.decision, status.asked
    if decision is None or status.state in (State.REMOVING, State.DEAD):
        return []
    if decision.delay is None:
        return [_stays(decision, ending, auto_remove=auto_remove)]
    if status.state is State.RESTARTING:
        due = ending.time_ns + round(decision.delay * SECOND)
        left = f" (in {_span(due - now_ns)})" if due > now_ns else ""
        return [
            f"Restart policy {decision.policy} starts it again at {_moment(due)}{left}, "
            f"{format_duration(round(decision.delay * SECOND))} after its end, as restart {ending.restarts + 1}."
        ]
    if asked is not None and asked.time_ns > ending.time_ns:
        return [f"Its next start was called off by {_who(asked.peer)} with {asked.action} at {_moment(asked.time_ns)}."]
    return []


def _stays(decision: Decision, ending: Ending, *, auto_remove: bool) -> str:
    policy = decision.policy
    match decision.reason:
        case "success":
            return f"Restart policy {policy} leaves it stopped: exit code 0 is no failure."
        case "given-up":
            return f"Restart policy {policy} has given up after {_count(ending.restarts, 'restart')}."
        case "stopped":
            when = "Boxship itself starts again" if policy == "always" else "it is started"
            return f"Restart policy {policy} leaves it stopped, since a user asked for that, until {when}."
        case "shutdown":
            return f"Restart policy {policy} is looked at when Boxship starts again."
        case _:
            return "" if auto_remove else "It has no restart policy, so it stays stopped."


# -- words -------------------------------------------------------------------------------------------------------------


def signal_name(number: int) -> str:
    """Return a signal's name: SIGKILL, SIGRTMIN+3."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if 34 <= number <= 64 else f"signal {number}"


def _who(peer: Peer | None) -> str:
    if peer is None:
        return "somebody"
    program = _clean(peer.program)
    match peer.transport:
        case "unix":
            through = f" through {program or 'a program'} (pid {peer.pid})" if peer.pid > 0 else ""
            return f"user {_user_name(peer.uid)} (uid {peer.uid}){through}"
        case "tls":
            owner = f'the owner of certificate "{_clean(peer.certificate)}"' if peer.certificate else "a TLS client"
            return f"{owner} at {peer.address}{_agent(peer)}"
        case _:
            return f"a TCP client at {peer.address}{_agent(peer)}"


def _agent(peer: Peer) -> str:
    return f" ({_clean(peer.agent)})" if peer.agent else ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return "without a name"


def _clean(text: str) -> str:
    """Return text of a stranger on one line, without what terminals act upon."""
    return _UNPRINTABLE.sub(" ", text).strip().rstrip(".")


def _moment(time_ns: int) -> str:
    """Return a time for people: 2025-11-22 14:03:05 UTC."""
    return clock.rfc3339(time_ns // SECOND * SECOND).replace("T", " ").replace("Z", " UTC")


def _span(duration_ns: int) -> str:
    """Return a duration with no more precision than people want."""
    seconds = max(0, duration_ns) / SECOND
    if seconds < 10:
        return f"{seconds:.1f} seconds"
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return _count(int(seconds // size), unit)
    return _count(int(seconds), "second")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(size: float) -> str:
    for unit in _BYTES:
        if size < 1024 or unit == _BYTES[-1]:
            break
        size /= 1024
    return f"{size:.4g} {unit}"


# -- documents ---------------------------------------------------------------------------------------------------------


def _request_document(request: Request | None) -> dict[str, Any] | None:
    if request is None:
        return None
    peer = request.peer
    return {
        "Action": request.action,
        "Time": clock.rfc3339(request.time_ns),
        "Signal": signal_name(request.signal) if request.signal else "",
        "Peer": None
        if peer is None
        else {
            "Transport": peer.transport,
            "Uid": peer.uid,
            "User": _user_name(peer.uid) if peer.uid >= 0 else "",
            "Pid": peer.pid,
            "Program": peer.program,
            "Address": peer.address,
            "Certificate": peer.certificate,
            "UserAgent": peer.agent,
        },
    }


def _ending_document(ending: Ending | None) -> dict[str, Any] | None:
    if ending is None:
        return None
    decision = ending.decision
    return {
        "Reason": str(ending.reason),
        "Time": clock.rfc3339(ending.time_ns),
        "ExitCode": ending.exit_code,
        "Signal": signal_name(ending.signal) if ending.signal else "",
        "Seconds": round(ending.uptime, 3),
        "RestartCount": ending.restarts,
        "Error": ending.error,
        "MemoryLimit": ending.memory_limit,
        "MemoryPeak": ending.memory_peak,
        "HealthOutputs": list(ending.outputs),
        "DaemonDown": ending.daemon_down,
        "Request": _request_document(ending.request),
        "Decision": None
        if decision is None
        else {"Policy": decision.policy, "Delay": decision.delay, "Reason": decision.reason},
    }
