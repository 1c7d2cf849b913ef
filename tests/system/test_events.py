"""Events: what is told of each kind of object, the history over restarts, readers that are slow, both command lines."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


def told(engine: Engine, since: float, *filters: str) -> list[dict[str, Any]]:
    options = [option for filter in filters for option in ("--filter", filter)]
    span = ("--since", f"{since:.9f}", "--until", f"{time.time():.9f}")
    output = engine.docker("events", *span, *options, "--format", "{{json .}}").stdout
    return [json.loads(line) for line in output.splitlines()]


def words(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['Type']} {event['Action']}" for event in events]


@pytest.mark.row("MON-08", "MON-17")
def test_a_containers_life_is_told_in_dockers_order_with_dockers_attributes(engine: Engine) -> None:
    begun = time.time()
    engine.docker("volume", "create", "vol1")
    id = engine.docker(
        *("run", "-d", "--name", "ev", "--label", "l1=v1", "-v", "vol1:/data:ro", "busybox", "sleep", "100")
    ).stdout.strip()
    engine.docker("exec", "ev", "true")
    engine.docker("exec", "ev", "sh", "-c", "exit 3", check=False)
    engine.docker("exec", "ev", "nosuch", check=False)
    for command in ("pause", "unpause", "top", "stop"):
        engine.docker(command, *(("-t", "0") if command == "stop" else ()), "ev")
    engine.docker("rename", "ev", "ev2")
    engine.docker("rm", "-f", "ev2")
    engine.docker("volume", "rm", "vol1")
    events = told(engine, begun)
    assert words(events) == [
        *("volume create", "container create", "network connect", "volume mount", "container start"),
        *("container exec_create: true ", "container exec_start: true ", "container exec_die"),
        *("container exec_create: sh -c exit 3", "container exec_start: sh -c exit 3", "container exec_die"),
        *("container exec_create: nosuch ", "container exec_start: nosuch "),
        *("container pause", "container unpause", "container top", "container kill", "container kill"),
        *("container die", "network disconnect", "volume unmount", "container stop"),
        *("container rename", "container destroy", "volume destroy"),
    ]
    by_action = {word: event["Actor"] for word, event in zip(words(events), events, strict=True)}
    common = {"image": "busybox", "name": "ev", "l1": "v1"}
    assert by_action["container create"] == {"ID": id, "Attributes": common}
    die = by_action["container die"]["Attributes"]
    assert (die["exitCode"], die["execDuration"].isdecimal()) == ("137", True)
    assert by_action["container rename"]["Attributes"] == {**common, "name": "ev2", "oldName": "/ev"}
    bridge = engine.docker("network", "inspect", "-f", "{{.Id}}", "bridge").stdout.strip()
    network = {"ID": bridge, "Attributes": {"container": id, "name": "bridge", "type": "bridge"}}
    assert by_action["network connect"] == by_action["network disconnect"] == network
    mount = {"container": id, "destination": "/data", "driver": "local", "propagation": "", "read/write": "false"}
    assert by_action["volume mount"] == {"ID": "vol1", "Attributes": mount}
    assert by_action["volume unmount"] == {"ID": "vol1", "Attributes": {"container": id, "driver": "local"}}
    assert by_action["volume create"] == {"ID": "vol1", "Attributes": {"driver": "local"}}


@pytest.mark.row("MON-08")
def test_a_forced_removal_is_no_stop_and_networks_of_all_modes_are_told(engine: Engine) -> None:
    begun = time.time()
    for mode in ("host", "none"):
        engine.docker("run", "-d", "--name", mode, "--network", mode, "busybox", "sleep", "100")
        engine.docker("rm", "-f", mode)
    events = told(engine, begun)
    one = ["container create", "network connect", "container start"]
    one += ["container kill", "container die", "network disconnect", "container destroy"]
    assert words(events) == [*one, *one]
    networks = [event["Actor"]["Attributes"] for event in events if event["Type"] == "network"]
    assert [(n["name"], n["type"]) for n in networks] == [("host", "host")] * 2 + [("none", "null")] * 2


@pytest.mark.row("MON-08")
def test_a_start_that_fails_leaves_its_networks_and_volumes(engine: Engine) -> None:
    begun = time.time()
    engine.docker("run", "--name", "bad", "-v", "/anon", "busybox", "nosuch", check=False)
    assert words(told(engine, begun, "type=network", "type=volume"))[1:] == [
        *("network connect", "volume mount", "network disconnect", "volume unmount"),
    ]


@pytest.mark.row("MON-08")
def test_prunes_are_told_with_what_they_freed(engine: Engine) -> None:
    engine.docker("create", "-v", "/anon", "busybox")
    begun = time.time()
    engine.docker("container", "prune", "-f")
    engine.docker("volume", "prune", "-f")
    pruned = told(engine, begun, "event=prune")
    assert words(pruned) == ["container prune", "volume prune"]
    assert all(event["Actor"] == {"ID": "", "Attributes": {"reclaimed": "0"}} for event in pruned)


@pytest.mark.row("MON-16", "MON-08")
def test_a_lack_of_memory_is_told_while_the_container_goes_on(engine: Engine) -> None:
    begun = time.time()
    limits = ("-m", "20m", "--memory-swap", "20m")
    command = "tail /dev/zero; exec sleep 100"
    engine.docker("run", "-d", "--name", "lean", *limits, "busybox", "sh", "-c", command)
    until(lambda: told(engine, begun, "event=oom"))
    state = engine.api("GET", "/containers/lean/json")[1]["State"]
    assert (state["Status"], state["OOMKilled"]) == ("running", True)
    engine.docker("kill", "lean")
    until(lambda: told(engine, begun, "event=die"))
    assert len(told(engine, begun, "event=oom", "container=lean")) == 1


@pytest.mark.row("MON-16", "MON-17")
def test_an_end_for_want_of_memory_is_told_once(engine: Engine) -> None:
    begun = time.time()
    limits = ("-m", "20m", "--memory-swap", "20m")
    result = engine.docker("run", "--name", "lean", *limits, "busybox", "tail", "/dev/zero", check=False)
    assert result.returncode == 137
    assert engine.api("GET", "/containers/lean/json")[1]["State"]["OOMKilled"] is True
    events = told(engine, begun, "container=lean", "event=oom", "event=die")
    assert words(events) == ["container oom", "container die"]
    assert events[1]["Actor"]["Attributes"]["exitCode"] == "137"


def test_probes_do_not_fill_the_history(fresh_engine: Engine) -> None:
    begun = time.time()
    check = ("--health-cmd", "true", "--health-interval", "50ms")
    fresh_engine.docker("run", "-d", "--name", "probed", *check, "busybox", "sleep", "100")
    until(lambda: len(told(fresh_engine, begun, "event=exec_die")) > 5)  # they are in memory
    fresh_engine.docker("exec", "probed", "echo")
    fresh_engine.docker("rm", "-f", "probed")
    fresh_engine.stop()
    fresh_engine.start()
    left = words(told(fresh_engine, begun, "container=probed"))
    assert [word for word in left if "exec" in word] == [
        *("container exec_create: echo ", "container exec_start: echo ", "container exec_die"),
    ]
    assert "container health_status: healthy" in left


@pytest.mark.row("MON-09")
def test_the_history_survives_a_killed_daemon_and_goes_on(fresh_engine: Engine) -> None:
    begun = time.time()
    fresh_engine.docker("run", "--name", "one", "busybox", "true")
    before = told(fresh_engine, begun)
    assert words(before)[-1] == "network disconnect"
    fresh_engine.kill()
    fresh_engine.start()
    fresh_engine.docker("rm", "one")
    after = told(fresh_engine, begun)
    assert after[: len(before)] == before
    assert words(after[len(before) :]) == ["container destroy"]


@pytest.mark.row("MON-09", "MON-10")
def test_a_reader_that_sleeps_gets_every_event_when_it_wakes(engine: Engine) -> None:
    id = engine.docker("run", "-d", "-t", "busybox", "sleep", "100").stdout.strip()
    with socket.socket(socket.AF_UNIX) as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.connect(str(engine.socket))
        sleeper.sendall(b"GET /v1.41/events?filters={%22event%22:[%22resize%22]} HTTP/1.1\r\nHost: x\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += sleeper.recv(1)
        rounds = 1200  # more than fit into the sockets
        resize(engine, id, rounds)
        heights: list[str] = []
        with sleeper.makefile("rb") as reading:
            while len(heights) < rounds:
                size = int(reading.readline(), 16)
                lines = reading.read(size + 2).strip().splitlines()
                heights += [json.loads(line)["Actor"]["Attributes"]["height"] for line in lines]
        assert heights == [str(n) for n in range(1, rounds + 1)]


def resize(engine: Engine, id: str, rounds: int) -> None:
    """Give a container's terminal a new height so many times, over one connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(engine.socket))
        with sock.makefile("rb") as answers:
            for n in range(1, rounds + 1):
                request = f"POST /containers/{id}/resize?h={n}&w=80 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                sock.sendall(request.encode())
                assert answers.readline().split()[1] == b"200"
                while answers.readline() != b"\r\n":
                    pass


@pytest.mark.row("MON-10")
def test_old_versions_of_the_api_have_the_old_fields(engine: Engine) -> None:
    begun = time.time()
    id = engine.docker("create", "busybox").stdout.strip()
    query = f"since={begun:.9f}&until={time.time():.9f}&filters=" + '{"event":["create"]}'.replace('"', "%22")
    old = engine.api("GET", f"/v1.51/events?{query}")[1]
    assert (old["status"], old["id"], old["from"]) == ("create", id, "busybox")
    assert list(old) == ["status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"]
    new = engine.api("GET", f"/v1.52/events?{query}")[1]
    assert list(new) == ["Type", "Action", "Actor", "scope", "time", "timeNano"]


@pytest.mark.row("MON-07")
@pytest.mark.parametrize("form", ["unix", "fraction", "rfc3339", "duration", "date"])
def test_both_command_lines_show_the_same_for_all_forms_of_times(engine: Engine, form: str) -> None:
    engine.docker("run", "--rm", "--label", "a=b c", "busybox", "true")
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 5))
    since = {
        "unix": str(int(now) - 5),
        "fraction": f"{now - 5:.3f}",
        "rfc3339": f"{stamp}.5Z",
        "duration": "5h",
        "date": stamp[:10],
    }[form]
    span = ("--since", since, "--until", f"{now:.9f}")
    for format in ((), ("--format", "{{.Type}} {{.Action}} {{.Actor.ID}} {{.TimeNano}}"), ("--format", "json")):
        theirs, ours = engine.docker("events", *span, *format), engine.boxship("events", *span, *format)
        assert ours.stdout == theirs.stdout != ""


@pytest.mark.row("MON-07", "MON-10")
def test_a_client_that_follows_sees_an_event_as_it_happens(engine: Engine, cli: CLI) -> None:
    words = ("docker", "events", "--filter", "event=create", "--format", "{{.Actor.ID}}")
    with subprocess.Popen(
        [*engine.namespace.prefix(), *words], stdout=subprocess.PIPE, env=engine.client_environment()
    ) as following:
        try:
            assert following.stdout is not None
            until(lambda: engine.api("GET", "/info")[1]["NEventsListener"] >= 1)
            id = cli("create", "busybox").stdout
            ready, _, _ = select.select([following.stdout], [], [], 20)
            assert ready and os.read(following.stdout.fileno(), 1000).decode() == id
        finally:
            following.kill()
