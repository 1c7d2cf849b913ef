"""The engine may die at any line: containers live on, nothing is lost, the next start repairs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.base import failpoints
from harness import waiting
from harness.engine import Engine
from harness.terminal import Terminal

pytestmark = pytest.mark.system
Open = Callable[..., Terminal]

WRITER = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); usleep 10000; done; exit 11"


def fetch(engine: Engine, url: str) -> str:
    program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).read().decode(), end='')"
    return engine.namespace.run("/usr/bin/python3", "-c", program).stdout


@pytest.mark.row("ENG-13", "ENG-14")
def test_ten_containers_outlive_a_killed_engine(fresh_engine: Engine, terminal: Open) -> None:
    engine = fresh_engine
    shell = terminal(engine, "run", "-it", "--name", "tty", "busybox", "sh")
    shell.expect("/ # ")
    site = engine.root / "site"
    site.mkdir()
    (site / "index.html").write_text("served")
    engine.docker(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-v",
        f"{site}:/srv",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "80",
        "-h",
        "/srv",
    )
    for number in range(3):
        engine.docker("run", "-d", "--name", f"log{number}", "busybox", "sh", "-c", WRITER)
    ending = "while [ ! -e /site/end ]; do usleep 10000; done; exit 23"
    engine.docker("run", "-d", "--name", "brief", "-v", f"{site}:/site", "busybox", "sh", "-c", ending)
    attached = subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "run", "-i", "--name", "pipe", "busybox", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=engine.client_environment(),
        text=True,
    )
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("before\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "before\n"
    for number in range(3):
        engine.docker("run", "-d", "--name", f"idle{number}", "busybox", "sleep", "1000")
    pids = {
        row["Id"]: engine.api("GET", f"/containers/{row['Id']}/json")[1]["State"]["Pid"]
        for row in engine.api("GET", "/containers/json?all=1")[1]
    }
    assert len(pids) == 10
    brief = engine.api("GET", "/containers/brief/json")[1]["State"]["Pid"]

    engine.kill()

    assert fetch(engine, "http://127.0.0.1:8080/") == "served"
    attached.stdin.write("meanwhile\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "meanwhile\n"
    shell.send("echo still$((40+2))\n")
    shell.expect("still42")
    (site / "end").touch()
    waiting.until(lambda: not Path(f"/proc/{brief}").exists(), 30)  # it ends while nobody looks
    engine.start()

    assert fetch(engine, "http://127.0.0.1:8080/") == "served"
    for id, pid in pids.items():
        state = engine.api("GET", f"/containers/{id}/json")[1]["State"]
        if state["Running"]:
            assert state["Pid"] == pid
    assert engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "brief").stdout == "exited 23\n"
    assert engine.docker("exec", "idle0", "echo", "alive").stdout == "alive\n"
    for number in range(3):
        assert engine.docker("wait", f"log{number}").stdout == "11\n"
        lines = engine.docker("logs", f"log{number}").stdout.splitlines()
        assert lines == [f"line {i}" for i in range(400)]
    again = terminal(engine, "attach", "tty")
    again.send("echo again$((1+1))\n")
    again.expect("again2")
    again.send("exit 7\n")
    assert again.wait() == 7
    engine.docker("stop", "-t", "1", "web", "idle1")
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "idle1").stdout == "137\n"
    attached.stdin.close()
    attached.wait(10)
    attached.stdout.close()
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "pipe").stdout == "0\n"


@pytest.mark.row("ENG-13")
def test_a_clean_restart_keeps_names_ids_logs_and_settings(fresh_engine: Engine) -> None:
    engine = fresh_engine
    id = (
        engine.docker("run", "--name", "kept", "-e", "A=1", "busybox", "echo", "hello").stdout
        and engine.docker("inspect", "-f", "{{.Id}}", "kept").stdout
    )
    before = engine.api("GET", "/containers/kept/json")[1]
    assert engine.stop() == 0
    engine.start()
    after = engine.api("GET", "/containers/kept/json")[1]
    assert after == before
    assert after["Id"] == id.strip()
    assert engine.docker("logs", "kept").stdout == "hello\n"
    assert engine.docker("start", "-a", "kept").stdout == "hello\n"


@pytest.mark.row("RUN-41", "ENG-15")
def test_shutdown_stops_containers_and_start_applies_restart_policies(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for policy in ("no", "always", "unless-stopped"):
        engine.docker(
            "run", "-d", "--name", policy, "--restart", policy, "--stop-timeout", "1", "busybox", "sleep", "1000"
        )
    engine.docker("run", "-d", "--name", "stopped", "--restart", "unless-stopped", "busybox", "sleep", "1000")
    engine.docker("stop", "-t", "0", "stopped")
    assert engine.stop() == 0
    engine.start()
    _until(lambda: set(engine.docker("ps", "--format", "{{.Names}}").stdout.split()) == {"always", "unless-stopped"})


# Those of other operations are met by their own tests: test_update, test_user_networks, registry/test_collection.
ELSEWHERE = ("change.", "connect.", "disconnect.", "network.", "registry.", "still.", "volume.")


@pytest.mark.parametrize("name", sorted(n for n in failpoints.NAMES if not n.startswith(ELSEWHERE)))
def test_a_kill_at_each_failpoint_leaves_nothing_that_the_next_start_does_not_repair(
    fresh_engine: Engine, name: str
) -> None:
    engine = fresh_engine
    engine.docker("run", "-d", "--name", "bystander", "-p", "9000:80", "busybox", "sleep", "1000")
    engine.kill()
    before = kernel_state(engine)
    engine.environment = {"BOXSHIP_FAILPOINT": name}
    engine.start()
    engine.docker(
        "run", "-d", "--name", "victim", "-p", "9001:80", "busybox", "sh", "-c", "sleep 0.2; exit 5", check=False
    )
    engine.docker("wait", "victim", check=False)
    engine.docker("rm", "-f", "victim", check=False)
    assert engine.process is not None
    engine.process.wait(20)
    assert engine.process.returncode == -9, engine.log_text()[-2000:]
    engine.process = None
    engine.environment = {}
    engine.start()

    # Whatever the failpoint left is a whole container or none: it can be looked at, stopped and removed.
    names = engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
    assert "bystander" in names
    if "victim" in names:
        engine.docker("rm", "-f", "victim")
    assert engine.docker("exec", "bystander", "echo", "alive").stdout == "alive\n"
    _until(lambda: kernel_state(engine) == before, lambda: f"{before}\n{kernel_state(engine)}")
    id = engine.docker("inspect", "-f", "{{.Id}}", "bystander").stdout.strip()
    assert [p.name for p in (engine.data_root / "containers").iterdir()] == [id]
    assert [p.name for p in (engine.exec_root / "shims").iterdir()] == [id]
    assert engine.docker("run", "--rm", "-p", "9001:80", "busybox", "echo", "fine").stdout == "fine\n"


def test_a_killed_shim_takes_its_container_along_and_is_cleaned_up(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "victim", "busybox", "sleep", "1000")
    id = engine.docker("inspect", "-f", "{{.Id}}", "victim").stdout.strip()
    record = json.loads((engine.exec_root / "shims" / id / "state.json").read_text())
    shim = next(int(value) for key, value in record.items() if key in ("shim_pid", "shim"))
    os.kill(shim, 9)
    _until(lambda: engine.docker("inspect", "-f", "{{.State.Status}}", "victim").stdout == "exited\n")
    assert engine.docker("start", "victim").stdout == "victim\n"
    assert engine.docker("exec", "victim", "echo", "back").stdout == "back\n"


def test_a_killed_launcher_is_replaced_and_nobody_notices(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    assert engine.process is not None
    daemon = int((engine.root / "boxshipd.pid").read_text())
    children = [
        pid for task in Path(f"/proc/{daemon}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    launchers = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("boxship-launch")]
    assert len(launchers) == 1
    os.kill(launchers[0], 9)
    assert engine.docker("run", "--rm", "busybox", "echo", "fine").stdout == "fine\n"
    assert engine.docker("exec", "stays", "echo", "alive").stdout == "alive\n"


@pytest.mark.row("ENG-10")
def test_a_second_engine_on_the_same_data_root_refuses(engine: Engine) -> None:
    second = Engine(namespace=engine.namespace)
    second.root.joinpath("data").symlink_to(engine.data_root)
    try:
        with pytest.raises(RuntimeError, match="boxshipd ended with 1"):
            second.start()
    finally:
        second.process = None
        subprocess.run(["rm", "-r", str(second.root)], check=True)


def kernel_state(engine: Engine) -> dict[str, object]:
    """What of ours the kernel holds, without the names that differ from run to run."""
    mounts = [
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.root) in line
    ]
    rules = engine.namespace.run("nft", "list", "ruleset").stdout
    links = json.loads(engine.namespace.run("ip", "-json", "link").stdout)
    return {
        "merged": sorted(re.sub(".*/overlay2/", "", m) for m in mounts if m.endswith("/merged")),
        "cgroups": engine.cgroups(),
        "ports": sorted(re.findall(r"\b90\d\d\b", rules)),
        "veths": sorted(link["ifname"] for link in links if link["ifname"].startswith("veth")),
        "snapshots": len(list((engine.data_root / "overlay2").iterdir())),
    }


def _until(holds: Callable[[], bool], explain: Callable[[], str] = str, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"that did not happen in time {explain()}"
        time.sleep(0.05)
