"""Health checks: states, flags, probes that fail in every way, daemons that restart, restarts of the unhealthy."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]

MS = 1_000_000  # nanoseconds
HOUR = 3_600_000 * MS
BAD_FILE = ["CMD-SHELL", "test ! -e /bad && echo fine"]


def launch(engine: Engine, name: str, check: dict[str, Any], **config: Any) -> str:
    """Start a container that is probed ten times a second, unless ``check`` has it otherwise; return its id."""
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL", **config}
    body["Healthcheck"] = {"Interval": 100 * MS, "Retries": 2, **check}
    status, answer = engine.api("POST", f"/containers/create?name={name}", body)
    assert status == 201, answer
    assert engine.api("POST", f"/containers/{name}/start")[0] == 204
    return str(answer["Id"])


def state(engine: Engine, name: str) -> dict[str, Any]:
    document: dict[str, Any] = engine.api("GET", f"/containers/{name}/json")[1]["State"]
    return document


def await_health(engine: Engine, name: str, status: str) -> dict[str, Any]:
    until(lambda: state(engine, name)["Health"]["Status"] == status)
    health: dict[str, Any] = state(engine, name)["Health"]
    return health


def events(engine: Engine, name: str, *actions: str) -> list[str]:
    options = [option for action in actions for option in ("-f", f"event={action}")]
    until_now = f"{time.time():.9f}"
    output = engine.docker(
        "events", "--since", "10m", "--until", until_now, "-f", f"container={name}", *options, "--format", "{{json .}}"
    )
    return [json.loads(line)["Action"] for line in output.stdout.splitlines()]


@pytest.mark.row("MON-01", "MON-04", "CLI-16")
def test_health_is_shown_everywhere_and_an_unhealthy_container_goes_on(engine: Engine) -> None:
    launch(engine, "web", {"Test": BAD_FILE})
    first = await_health(engine, "web", "healthy")["Log"][0]
    assert (first["ExitCode"], first["Output"]) == (0, "fine\n")
    assert first["Start"] < first["End"]
    assert "(healthy)" in engine.docker("ps").stdout
    assert engine.api("GET", "/v1.52/containers/json")[1][0]["Health"] == {"Status": "healthy", "FailingStreak": 0}
    engine.docker("exec", "web", "touch", "/bad")
    await_health(engine, "web", "unhealthy")
    until(lambda: state(engine, "web")["Health"]["FailingStreak"] > 5)
    assert len(state(engine, "web")["Health"]["Log"]) == 5
    assert state(engine, "web")["Running"] is True
    assert "(unhealthy)" in engine.docker("ps", "-f", "health=unhealthy").stdout
    assert engine.docker("ps", "-q", "-f", "health=healthy").stdout == ""
    engine.docker("exec", "web", "rm", "/bad")
    await_health(engine, "web", "healthy")
    changes = ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    assert events(engine, "web", "health_status") == changes
    assert {"exec_create", "exec_start", "exec_die"} <= {action.partition(":")[0] for action in events(engine, "web")}


@pytest.mark.row("MON-01")
def test_a_container_is_starting_until_the_first_probe_and_again_after_a_restart(engine: Engine) -> None:
    launch(engine, "slow", {"Test": ["CMD", "true"], "Interval": HOUR, "StartPeriod": HOUR, "StartInterval": 100 * MS})
    launch(engine, "slower", {"Test": ["CMD", "true"], "Interval": HOUR})
    await_health(engine, "slow", "healthy")
    assert "(health: starting)" in engine.docker("ps", "-f", "health=starting").stdout
    engine.docker("stop", "slow")
    assert state(engine, "slow")["Health"]["Status"] == "unhealthy"  # so has Docker what it does not probe
    engine.docker("start", "slow")
    assert state(engine, "slow")["Health"]["Status"] in ("starting", "healthy")
    await_health(engine, "slow", "healthy")
    assert events(engine, "slow", "health_status") == ["health_status: healthy"] * 2


@pytest.mark.row("MON-02")
def test_the_flags_fill_the_configuration_and_can_switch_an_images_check_off(cli: CLI, engine: Engine) -> None:
    path = engine.root / "with-check.tar"
    if not path.exists():
        box = engine.docker("create", "busybox").stdout.strip()
        engine.docker("export", "-o", str(path), box)
        change = "HEALTHCHECK --interval=100ms --retries=9 CMD test -e /image"
        engine.docker("import", "--change", change, "--change", 'CMD ["sleep", "1000"]', str(path), "checked")
    flags = [
        "--health-cmd=x y", "--health-interval=2s", "--health-timeout=1m", "--health-retries=4",
        "--health-start-period=1h", "--health-start-interval=500ms",
    ]  # fmt: skip
    cli("create", "--name", "all", *flags, "busybox")
    config = engine.api("GET", "/containers/all/json")[1]["Config"]["Healthcheck"]
    assert config == {
        "Test": ["CMD-SHELL", "x y"], "Interval": 2000 * MS, "Timeout": 60_000 * MS, "Retries": 4,
        "StartPeriod": HOUR, "StartInterval": 500 * MS,
    }  # fmt: skip
    cli("create", "--name", "some", "--health-retries=1", "checked")
    merged = engine.api("GET", "/containers/some/json")[1]["Config"]["Healthcheck"]
    assert merged == {"Test": ["CMD-SHELL", "test -e /image"], "Interval": 100 * MS, "Retries": 1}
    cli("run", "-d", "--name", "off", "--no-healthcheck", "checked")
    assert "Health" not in state(engine, "off")
    assert "health" not in cli("ps", "--format", "{{.Status}}").stdout
    cli("run", "-d", "--name", "on", "checked")
    assert cli("inspect", "-f", "{{.State.Health.Status}}", "on").stdout == "starting\n"
    bad = cli("create", "--health-cmd", "x", "--health-interval", "1us", "busybox", check=False)
    assert "Interval in Healthcheck cannot be less than 1ms" in bad.stderr


@pytest.mark.row("MON-03")
@pytest.mark.parametrize(
    ("check", "code", "output"),
    [
        ({"Test": ["CMD-SHELL", "echo no; echo bad >&2; exit 3"]}, 3, "no\nbad\n"),
        ({"Test": ["CMD", "/nosuch"]}, -1, "OCI runtime exec failed: exec failed: "),
        ({"Test": ["CMD-SHELL", "kill -9 $$"]}, 137, ""),
        ({"Test": ["CMD-SHELL", "echo wait; exec sleep 77"], "Timeout": 200 * MS}, -1, "(200ms): wait\n"),
        ({"Test": ["CMD-SHELL", "yes | head -c 300000; exit 1"]}, 1, "y\n" * 2048 + "..."),
        ({"Test": ["CMD-SHELL", "exec >/dev/null 2>&1; exit 1"]}, 1, ""),
        ({"Test": ["CMD-SHELL", "sleep 77 & echo left; exit 1"]}, 1, "left\n"),
    ],
    ids=["code", "missing", "killed", "timeout", "long", "silent", "background"],
)
def test_whatever_is_not_zero_is_unhealthy_and_says_why(
    engine: Engine, check: dict[str, Any], code: int, output: str
) -> None:
    launch(engine, "odd", check)
    last = await_health(engine, "odd", "unhealthy")["Log"][-1]
    assert (last["ExitCode"], output in last["Output"]) == (code, True)
    assert len(last["Output"]) < 5000


def test_a_probe_that_took_too_long_is_killed(engine: Engine) -> None:
    launch(engine, "long", {"Test": ["CMD", "sleep", "77"], "Timeout": 100 * MS, "Retries": 1})
    health = await_health(engine, "long", "unhealthy")
    assert health["Log"][0]["Output"] == "Health check exceeded timeout (100ms)"
    until(lambda: "exec_die" in events(engine, "long", "exec_die"))
    engine.docker("exec", "long", "true")  # and its end is still told apart from that of other execs
    assert len(engine.api("GET", "/containers/long/json")[1]["ExecIDs"] or []) <= 2


@pytest.mark.row("MON-01")
def test_a_paused_container_is_not_probed(engine: Engine) -> None:
    launch(engine, "frozen", {"Test": BAD_FILE})
    await_health(engine, "frozen", "healthy")
    engine.docker("pause", "frozen")
    assert "(Paused)" in engine.docker("ps").stdout
    log = state(engine, "frozen")["Health"]["Log"]
    launch(engine, "beside", {"Test": BAD_FILE})
    until(lambda: len(state(engine, "beside")["Health"]["Log"]) == 5)
    assert state(engine, "frozen")["Health"]["Log"] == log
    engine.docker("unpause", "frozen")
    await_health(engine, "frozen", "healthy")


def test_a_probe_that_hangs_delays_neither_others_nor_the_stop(engine: Engine) -> None:
    launch(engine, "hanging", {"Test": ["CMD-SHELL", "while :; do sleep 77; done"]})
    until(lambda: events(engine, "hanging", "exec_start"))
    launch(engine, "fine", {"Test": BAD_FILE})
    await_health(engine, "fine", "healthy")
    engine.docker("stop", "hanging")
    assert state(engine, "hanging")["Health"]["Log"] == []
    engine.docker("rm", "hanging")


@pytest.mark.row("MON-01")
def test_a_restarted_daemon_knows_the_health_and_goes_on_probing(fresh_engine: Engine) -> None:
    launch(fresh_engine, "kept", {"Test": BAD_FILE})
    launch(fresh_engine, "left", {"Test": BAD_FILE})
    for name in ("kept", "left"):
        await_health(fresh_engine, name, "healthy")
    fresh_engine.docker("exec", "left", "touch", "/bad")
    await_health(fresh_engine, "left", "unhealthy")
    fresh_engine.kill()
    fresh_engine.start()
    assert state(fresh_engine, "kept")["Health"]["Status"] == "healthy"
    assert state(fresh_engine, "left")["Health"]["Status"] == "unhealthy"
    fresh_engine.docker("exec", "kept", "touch", "/bad")
    fresh_engine.docker("exec", "left", "rm", "/bad")
    await_health(fresh_engine, "kept", "unhealthy")
    await_health(fresh_engine, "left", "healthy")
    assert fresh_engine.api("GET", "/containers/kept/json")[1]["RestartCount"] == 0


MENDED_BY_RESTART = ["sh", "-c", "rm -f /bad; trap 'exit 0' TERM; while :; do usleep 20000; done"]


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_an_unhealthy_container_is_restarted_where_its_user_asked_for_it(engine: Engine, policy: str) -> None:
    name = f"mended-{policy}"  # events are found by name, also those of containers that are gone
    launch(
        engine,
        name,
        {"Test": BAD_FILE},
        Cmd=MENDED_BY_RESTART,
        StopSignal="SIGTERM",
        Labels={"io.boxship.restart-on-unhealthy": "true"},
        HostConfig={"RestartPolicy": {"Name": policy}},
    )
    await_health(engine, name, "healthy")
    engine.docker("exec", name, "touch", "/bad")
    until(lambda: engine.api("GET", f"/containers/{name}/json")[1]["RestartCount"] == 1)
    await_health(engine, name, "healthy")
    told = events(engine, name, "health_status", "kill", "die", "stop", "start")
    assert told == [
        "start", "health_status: healthy", "health_status: unhealthy", "kill", "die", "stop", "start",
        "health_status: healthy",
    ]  # fmt: skip
    engine.docker("stop", name)
    assert state(engine, name)["Status"] == "exited"


def test_without_a_restart_policy_the_label_changes_nothing(engine: Engine) -> None:
    launch(engine, "alone", {"Test": ["CMD", "false"]}, Labels={"io.boxship.restart-on-unhealthy": "true"})
    until(lambda: state(engine, "alone")["Health"]["FailingStreak"] > 3)
    assert events(engine, "alone", "kill", "die") == []


def test_an_unhealthy_container_is_restarted_as_often_as_its_policy_allows(engine: Engine) -> None:
    launch(
        engine,
        "hopeless",
        {"Test": ["CMD", "false"], "Retries": 1},
        Labels={"io.boxship.restart-on-unhealthy": "true"},
        HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}},
    )
    until(lambda: state(engine, "hopeless")["Health"]["FailingStreak"] > 2)
    assert engine.api("GET", "/containers/hopeless/json")[1]["RestartCount"] == 2
    assert state(engine, "hopeless")["Running"] is True
