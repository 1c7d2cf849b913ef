"""What the first process of a container is answerable for, the states a container goes through, and ends by the dozen."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.engine import Engine
from harness.storm import Storm
from harness.waiting import until

pytestmark = pytest.mark.system

CLI = Callable[..., subprocess.CompletedProcess[str]]
ORPHANS = (
    "for n in 1 2 3; do (until [ -e /go ]; do usleep 20000; done &) ; done; exec sleep 1000"  # end after their parents
)


def state(engine: Engine, name: str) -> dict[str, object]:
    return dict(engine.api("GET", f"/containers/{name}/json")[1]["State"])


def processes(engine: Engine, name: str) -> list[str]:
    """Return state and command of each process, as the container sees them, but for the one that looks."""
    script = 'for d in /proc/[0-9]*; do [ "${d#/proc/}" = $$ ] || cut -d" " -f2,3 $d/stat 2>/dev/null; done'
    lines = engine.docker("exec", name, "sh", "-c", script).stdout.splitlines()
    return sorted(line for line in lines if not line.startswith("(cut)"))


@pytest.mark.row("RUN-43")
def test_a_first_process_that_does_not_wait_keeps_zombies_and_stats_counts_them(engine: Engine, cli: CLI) -> None:
    cli("run", "-d", "--name", "careless", "busybox", "sh", "-c", ORPHANS)
    until(lambda: "(sleep) S" in processes(engine, "careless"))
    engine.docker("exec", "careless", "touch", "/go")
    until(lambda: processes(engine, "careless") == [*["(sh) Z"] * 3, "(sleep) S"])
    assert cli("stats", "--no-stream", "--format", "{{.PIDs}}", "careless").stdout == "4\n"


@pytest.mark.row("RUN-43")
def test_an_init_takes_zombies_away_and_passes_signals_on(engine: Engine, cli: CLI) -> None:
    cli("run", "-d", "--init", "--name", "careful", "busybox", "sh", "-c", ORPHANS)
    until(lambda: "(sleep) S" in processes(engine, "careful"))
    engine.docker("exec", "careful", "touch", "/go")
    until(lambda: [line for line in processes(engine, "careful") if "init" not in line] == ["(sleep) S"])
    assert cli("stats", "--no-stream", "--format", "{{.PIDs}}", "careful").stdout == "2\n"
    cli("kill", "-s", "TERM", "careful")
    assert cli("wait", "careful").stdout == "143\n"


@pytest.mark.row("RUN-43")
def test_a_process_manager_of_the_image_works_as_first_process(engine: Engine) -> None:
    script = "echo '::respawn:/bin/sh -c \"echo up; exec sleep 1000\"' > /etc/inittab; exec init"
    engine.docker("run", "-d", "--name", "managed", "--stop-signal", "SIGTERM", "busybox", "sh", "-c", script)
    until(lambda: engine.docker("logs", "managed").stdout.count("up") == 1)
    engine.docker("exec", "managed", "killall", "sleep")
    until(lambda: engine.docker("logs", "managed").stdout.count("up") == 2)
    assert all(" Z" not in line for line in processes(engine, "managed"))
    engine.docker("kill", "managed")


def test_a_first_process_without_a_handler_does_not_feel_a_signal_that_is_not_kill(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "deaf", "busybox", "sleep", "1000")
    for signal in ("TERM", "INT", "HUP", "USR1"):
        engine.docker("kill", "-s", signal, "deaf")
    assert engine.docker("exec", "deaf", "echo", "here").stdout == "here\n"
    assert state(engine, "deaf")["Status"] == "running"
    engine.docker("kill", "deaf")
    assert state(engine, "deaf")["ExitCode"] == 137


def test_a_busy_container_that_is_paused_can_be_killed(cli: CLI, engine: Engine) -> None:
    cli("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    cli("pause", "busy")
    refused = cli("exec", "busy", "true", check=False)
    assert refused.returncode == 1
    assert "is paused, unpause the container before exec" in refused.stderr
    cli("kill", "busy")
    assert (state(engine, "busy")["Status"], state(engine, "busy")["ExitCode"]) == ("exited", 137)


@pytest.mark.row("RUN-47")
@pytest.mark.parametrize("name", ["created", "running", "paused", "restarting", "exited"])
def test_a_container_in_each_state_shows_it_and_is_removed_by_force(engine: Engine, name: str) -> None:
    arguments = {"restarting": ["--restart", "always", "busybox", "false"], "exited": ["busybox", "true"]}
    engine.docker("create", "--name", name, *arguments.get(name, ["busybox", "sleep", "1000"]))
    if name != "created":
        engine.docker("start", name)
    if name == "paused":
        engine.docker("pause", name)
    flags = {"running": {"Running"}, "paused": {"Paused", "Running"}, "restarting": {"Restarting", "Running"}}

    def shown() -> bool:
        found = state(engine, name)
        return found["Status"] == name and {k for k, v in found.items() if v is True} == flags.get(name, set())

    until(shown)
    listing = ("ps", "-a", "--filter", f"status={name}", "--format", "{{.Names}} {{.State}}")
    until(lambda: engine.docker(*listing).stdout == f"{name} {name}\n")
    assert engine.docker("rm", "-f", name).stdout == f"{name}\n"
    assert engine.api("GET", f"/containers/{name}/json")[0] == 404


@pytest.mark.row("RUN-47")
def test_a_container_that_is_being_removed_is_removed_once(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: engine.api("DELETE", "/containers/one?force=1"), range(6)))
    assert {status for status, _ in answers} <= {204, 404, 409}
    assert 204 in {status for status, _ in answers}
    assert all("is already in progress" in body["message"] for status, body in answers if status == 409)
    assert engine.api("GET", "/containers/one/json")[0] == 404


@pytest.mark.row("RUN-41")
def test_tries_of_a_restart_policy_are_counted_and_ever_further_apart(engine: Engine, cli: CLI) -> None:
    cli("run", "-d", "--name", "failing", "--restart", "on-failure:3", "busybox", "false")
    until(lambda: state(engine, "failing")["Status"] == "exited")
    assert engine.api("GET", "/containers/failing/json")[1]["RestartCount"] == 3
    assert cli("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (1) ")
    id = engine.api("GET", "/containers/failing/json")[1]["Id"]
    filters = f'{{"container":["{id}"],"event":["start","die"]}}'
    _, lines = engine.api("GET", f"/events?since=0&until={int(time.time()) + 1}&filters={filters}")
    moments = [(event["Action"], event["timeNano"]) for event in map(json.loads, lines.splitlines())]
    assert [action for action, _ in moments] == ["start", "die"] * 4
    pauses = [(later - earlier) / 1e9 for (_, earlier), (_, later) in itertools.pairwise(moments[1:])][::2]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True))


@pytest.mark.row("RUN-41")
def test_ps_says_that_a_container_is_restarting_and_stop_ends_that(engine: Engine, cli: CLI) -> None:
    cli("run", "-d", "--name", "again", "--restart", "always", "busybox", "false")
    seen: list[str] = []

    def restarting() -> bool:
        seen[:] = [cli("ps", "-a", "--format", "{{.Status}}").stdout.strip()]
        return bool(re.fullmatch(r"Restarting \(1\) (Less than a second|\d+ seconds?) ago", seen[0]))

    until(restarting)
    cli("stop", "again")
    assert state(engine, "again")["Status"] == "exited"


def test_inspect_names_the_execs_that_live(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    def live() -> object:
        return engine.api("GET", "/containers/one/json")[1]["ExecIDs"]

    assert live() is None
    id = engine.api("POST", "/containers/one/exec", {"Cmd": ["sleep", "1000"]})[1]["Id"]
    assert live() == [id]
    assert engine.api("POST", f"/exec/{id}/start", {"Detach": True})[0] == 200
    engine.docker("exec", "one", "true")
    assert live() == [id]
    inside = engine.docker("exec", "one", "pidof", "sleep").stdout.split()
    engine.docker("exec", "one", "kill", *(pid for pid in inside if pid != "1"))
    until(lambda: live() is None)
    ended = engine.api("GET", f"/exec/{id}/json")[1]
    assert (ended["Running"], ended["ExitCode"]) == (False, 143)


def test_containers_that_end_in_one_moment_have_their_own_exit_codes(fresh_engine: Engine) -> None:
    storm = Storm(fresh_engine, 60)
    storm.start()
    wanted, ended, _ = storm.let_go()
    assert ended == wanted
    assert storm.shown() == wanted
    assert storm.told() == wanted
    assert storm.untouched()
    storm.clear()
    until(lambda: not fresh_engine.cgroups())
