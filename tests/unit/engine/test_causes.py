"""What is noted down about the end of a run, and how it is put into words."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from boxship.engine import causes, why
from boxship.engine.causes import Decision, Ending, Reason, Request
from boxship.engine.health.policy import Health, ProbeResult
from boxship.engine.model import ContainerSpec, ContainerStatus, State
from boxship.engine.restart import policy_text, why_not
from boxship.http.peer import Peer
from boxship.spec.docker.container import ContainerConfig, HostConfig, RestartPolicy

SECOND = 10**9
BASE = 1_700_000_000 * SECOND  # 2023-11-14 22:13:20 UTC
ROOT = Peer(transport="unix", uid=0, pid=42, program="docker", agent="Docker-Client/28.0.0 (linux)")
NO_POLICY = Decision(policy="no", reason="no-policy")
SPEC = ContainerSpec(
    id="ab" * 32,
    name="web",
    created_ns=BASE,
    image_id="sha256:1",
    config=ContainerConfig(image="img"),
    host_config=HostConfig(),
    path="sh",
    args=[],
)


def request(action: str, **fields: Any) -> Request:
    return Request(**{"action": action, "time_ns": BASE + 299 * SECOND, "peer": ROOT, **fields})


def ended(record: dict[str, Any], asked: Request | None = None, **fields: Any) -> Ending:
    record = {"code": 0, "finished_at": BASE + 300 * SECOND, **record}
    given = {"health": None, "unhealthy": False, "uptime": 300.0, "restarts": 0, "decision": NO_POLICY, **fields}
    return causes.of_end(record, request=asked, **given)


def stopped(ending: Ending, **fields: Any) -> str:
    status = ContainerStatus(state=State.EXITED, started_ns=BASE, ending=ending, exit_code=ending.exit_code, **fields)
    return why.text(SPEC, status, now_ns=BASE + 400 * SECOND)


@pytest.mark.parametrize(
    ("record", "asked", "reason"),
    [
        ({}, None, Reason.EXIT),
        ({"code": 3}, None, Reason.EXIT),
        ({"code": 137, "signal": 9}, None, Reason.SIGNAL),
        ({"code": 137, "signal": 9, "oom": True}, None, Reason.OUT_OF_MEMORY),
        ({"code": 137, "oom": True}, None, Reason.OUT_OF_MEMORY),
        ({"code": 0, "oom": True}, None, Reason.EXIT),
        ({"code": 139, "signal": 11, "oom": True}, None, Reason.SIGNAL),
        ({"code": 0}, request("stop", signal=15), Reason.REQUEST),
        ({"code": 137, "signal": 9}, request("stop", signal=15), Reason.REQUEST),
        ({"code": 137, "signal": 9}, request("rm", signal=9), Reason.REQUEST),
        ({"code": 137, "signal": 9}, request("kill", signal=9), Reason.REQUEST),
        ({"code": 137, "signal": 9, "oom": True}, request("kill", signal=10), Reason.OUT_OF_MEMORY),
        ({"code": 137, "signal": 9}, request("kill", signal=1), Reason.SIGNAL),
        ({"code": 5}, request("kill", signal=1), Reason.REQUEST),
        ({"code": 5}, request("kill", signal=1, time_ns=BASE), Reason.EXIT),
        ({"code": 143, "signal": 15}, request("unhealthy", peer=None, signal=15), Reason.UNHEALTHY),
        ({"code": 143, "signal": 15}, request("shutdown", peer=None, signal=15), Reason.SHUTDOWN),
        ({"code": 137, "reason": "shim-killed"}, request("stop"), Reason.SHIM_KILLED),
    ],
)
def test_the_reason_of_an_end_follows_from_its_record_and_the_last_request(
    record: dict[str, Any], asked: Request | None, reason: Reason
) -> None:
    assert ended(record, asked).reason is reason


def test_a_run_without_record_was_cut_off_by_a_reboot_when_the_boot_is_another() -> None:
    assert causes.of_lost("a", "b") is Reason.REBOOT
    assert causes.of_lost("a", "a") is Reason.SHIM_KILLED
    assert causes.of_lost("", "a") is Reason.UNSEEN


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            ended({"code": 3}),
            "web is stopped. It ended at 2023-11-14 22:18:20 UTC, after 5 minutes, by itself with exit code 3. "
            "It has no restart policy, so it stays stopped.",
        ),
        (ended({"code": 127}), "with exit code 127, which shells use for a program that does not exist."),
        (ended({"code": 143}), "with exit code 143, which shells use when SIGTERM ended a program."),
        (
            ended({"code": 0}, request("stop", signal=15, timeout=10)),
            "It was stopped at 2023-11-14 22:18:20 UTC, after 5 minutes, by user root (uid 0) through docker (pid 42) "
            "with stop; it ended with exit code 0.",
        ),
        (
            ended({"code": 137, "signal": 9}, request("restart", signal=15, timeout=1)),
            "with restart; it did not end within 1 second of SIGTERM and was killed (exit code 137).",
        ),
        (
            ended({"code": 137, "signal": 9}, request("kill", signal=9)),
            "when user root (uid 0) through docker (pid 42) sent it SIGKILL with kill; SIGKILL ended it (exit code 137).",
        ),
        (
            ended({"code": 137, "signal": 9, "oom": True, "memory": {"limit": 64 << 20, "peak": 67104768}}),
            "It ran out of memory at 2023-11-14 22:18:20 UTC, after 5 minutes, and the kernel killed it "
            "(its limit is 64 MiB, its peak was 64 MiB; exit code 137).",
        ),
        (
            ended({"oom": True, "memory": {"limit": 64 << 20, "peak": 50 << 20}}),
            "The kernel had killed a process of it for want of memory (its limit is 64 MiB, its peak was 50 MiB).",
        ),
        (ended({"code": 139, "signal": 11}), "It crashed at 2023-11-14 22:18:20 UTC, after 5 minutes, with SIGSEGV"),
        (
            ended({"code": 137, "signal": 9}),
            "which came from itself or another program of the host, not through Boxship.",
        ),
        (
            ended({"code": 137, "signal": 9}, request("kill", signal=1)),
            "Before that, at 2023-11-14 22:18:19 UTC, user root (uid 0) through docker (pid 42) had sent it SIGHUP.",
        ),
        (ended({"code": 255, "reason": "host-reboot"}), "It was cut off when the host rebooted or lost power."),
        (ended({"code": 255, "reason": "unseen"}), "It ended while Boxship was not running, and nothing recorded how"),
        (
            ended({"code": 137, "reason": "shim-killed"}),
            "the process that looks after it (its shim) was killed from outside",
        ),
        (ended({"code": 0, "daemon_down": True}), "Boxship was not running at that time."),
        (
            ended({"code": 0}, request("stop", peer=Peer(transport="tcp", address="10.0.0.9:5", agent="curl/8"))),
            "by a TCP client at 10.0.0.9:5 (curl/8) with stop",
        ),
        (
            ended({"code": 0}, request("stop", peer=Peer(transport="tls", address="10.0.0.9:5", certificate="ann"))),
            'by the owner of certificate "ann" at 10.0.0.9:5 with stop',
        ),
        (
            ended({"code": 0}, request("stop", peer=Peer(transport="unix", uid=4_000_000, pid=0))),
            "by user without a name (uid 4000000) with stop",
        ),
        (
            ended({"code": 1}, decision=Decision(policy="on-failure:2", reason="given-up"), restarts=2),
            "Restart policy on-failure:2 has given up after 2 restarts.",
        ),
        (
            ended({"code": 0}, decision=Decision(policy="on-failure", reason="success")),
            "Restart policy on-failure leaves it stopped: exit code 0 is no failure.",
        ),
        (
            ended({"code": 0}, request("stop"), decision=Decision(policy="always", reason="stopped")),
            "leaves it stopped, since a user asked for that, until Boxship itself starts again.",
        ),
        (
            ended({}, request("shutdown", peer=None), decision=Decision(policy="always", reason="shutdown")),
            "since Boxship was shut down; it ended with exit code 0. "
            "Restart policy always is looked at when Boxship starts again.",
        ),
    ],
)
def test_a_stopped_container_is_explained(ending: Ending, words: str) -> None:
    assert words in stopped(ending)


def test_an_unhealthy_container_says_what_its_last_checks_said() -> None:
    log = tuple(
        ProbeResult(start_ns=0, end_ns=0, exit_code=int(n > 0), output=f"disk {n} is full\n\x1b[31m" + "x" * 500)
        for n in range(5)
    )
    ending = ended({"code": 143, "signal": 15}, request("unhealthy", peer=None), health=Health(log=log), unhealthy=True)
    assert [len(output) for output in ending.outputs] == [200] * 3
    said = stopped(ending)
    assert "since its health checks failed; SIGTERM ended it (exit code 143)." in said
    assert 'The last checks said: "disk 2 is full' in said
    assert "\x1b" not in said and "\n" not in said


def test_a_container_that_waits_for_its_restart_says_when_that_is() -> None:
    ending = ended({"code": 1}, decision=Decision(policy="always", delay=12.8), restarts=3)
    status = ContainerStatus(state=State.RESTARTING, started_ns=BASE, ending=ending, restart_count=3)
    assert why.text(SPEC, status, now_ns=BASE + 301 * SECOND).endswith(
        "Restart policy always starts it again at 2023-11-14 22:18:32 UTC (in 11 seconds), 12.8s after its end, as restart 4."
    )


def test_a_restart_that_was_called_off_says_by_whom() -> None:
    ending = ended({"code": 1}, decision=Decision(policy="always", delay=12.8))
    said = stopped(ending, asked=request("stop", time_ns=BASE + 302 * SECOND))
    assert said.endswith(
        "Its next start was called off by user root (uid 0) through docker (pid 42) with stop at 2023-11-14 22:18:22 UTC."
    )


def test_a_running_container_says_who_started_it_and_how_its_last_run_ended() -> None:
    status = ContainerStatus(
        state=State.RUNNING,
        started_ns=BASE + 301 * SECOND,
        restart_count=1,
        started_by=Request(action="restart-policy", time_ns=BASE + 301 * SECOND),
        ending=ended({"code": 1}, decision=Decision(policy="always", delay=0.1)),
    )
    assert why.text(SPEC, status, now_ns=BASE + 7501 * SECOND) == (
        "web is running since 2023-11-14 22:18:21 UTC (2 hours), when its restart policy started it. "
        "Its restart policy has restarted it 1 time. "
        "Its last run ended at 2023-11-14 22:18:20 UTC, after 5 minutes, by itself with exit code 1."
    )


def test_a_container_that_never_ran_says_so_and_why() -> None:
    assert why.text(SPEC, ContainerStatus(), now_ns=BASE) == (
        "web was never started. It was created at 2023-11-14 22:13:20 UTC."
    )
    ending = causes.of_failed_start("no such file.", 127, request=request("start"), restarts=0)
    said = why.text(SPEC, ContainerStatus(ending=ending), now_ns=BASE)
    assert said.startswith("web has never run.")
    assert re.search(r"which user root .* asked for, at .* failed with exit code 127: no such file\.$", said)


def test_the_end_of_before_this_was_noted_is_not_guessed_at() -> None:
    status = ContainerStatus(state=State.EXITED, exit_code=4, started_ns=BASE)
    assert why.text(SPEC, status, now_ns=BASE) == ("web is stopped. How it ended was not recorded; its exit code is 4.")


def test_the_notes_survive_the_store() -> None:
    status = ContainerStatus(ending=ended({"code": 0}, request("stop")), asked=request("stop"), boot_id="b")
    assert msgspec.json.decode(msgspec.json.encode(status), type=ContainerStatus) == status


def test_the_document_has_the_facts() -> None:
    ending = ended({"code": 137, "signal": 9}, request("stop", signal=15))
    found = why.document(SPEC, ContainerStatus(state=State.EXITED, ending=ending), now_ns=BASE)
    assert found["Ending"]["Reason"] == "request"
    assert found["Ending"]["Signal"] == "SIGKILL"
    assert found["Ending"]["Request"]["Peer"]["User"] == "root"
    assert found["Ending"]["Decision"] == {"Policy": "no", "Delay": None, "Reason": "no-policy"}


@pytest.mark.parametrize(
    ("policy", "fields", "reason"),
    [
        (RestartPolicy(name="no"), {}, "no-policy"),
        (RestartPolicy(name=""), {}, "no-policy"),
        (RestartPolicy(name="always"), {"stopped_by_user": True}, "stopped"),
        (RestartPolicy(name="always"), {"closing": True}, "shutdown"),
        (RestartPolicy(name="on-failure", maximum_retry_count=2), {"exit_code": 1}, "given-up"),
        (RestartPolicy(name="on-failure"), {}, "success"),
    ],
)
def test_a_policy_that_does_not_restart_has_a_reason(
    policy: RestartPolicy, fields: dict[str, Any], reason: str
) -> None:
    assert why_not(policy, **{"exit_code": 0, "stopped_by_user": False, "closing": False, **fields}) == reason


def test_a_policy_is_shown_as_it_is_typed() -> None:
    assert policy_text(RestartPolicy(name="on-failure", maximum_retry_count=3)) == "on-failure:3"
    assert policy_text(RestartPolicy(name="always")) == "always"
