"""``boxship why``: each way in which a container ends is explained, also when no daemon saw it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from typing import Any

import pytest

from boxship.engine.model import STATUS_KIND
from boxship.store import Store
from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
ME = "user root (uid 0) through docker (pid "


def why(engine: Engine, name: str) -> str:
    return engine.boxship("why", name).stdout.strip()


def document(engine: Engine, name: str) -> dict[str, Any]:
    status, found = engine.api("GET", f"/v1.51/boxship/containers/{name}/why")
    assert status == 200, found
    return dict(found)


def status(engine: Engine, name: str) -> str:
    return str(engine.api("GET", f"/containers/{name}/json")[1]["State"]["Status"])


def run(engine: Engine, name: str, *words: str, options: tuple[str, ...] = ()) -> str:
    return engine.docker("run", "-d", "--name", name, *options, "busybox", *words).stdout.strip()


def shim_of(engine: Engine, id: str) -> int:
    return int(json.loads((engine.exec_root / "shims" / id / "state.json").read_text())["shim_pid"])


def removed(cgroup: str) -> bool:
    with contextlib.suppress(OSError):  # its processes are still ending
        os.rmdir(cgroup)
    return not os.path.exists(cgroup)


def test_a_container_that_never_ran_and_one_that_could_not(engine: Engine) -> None:
    engine.docker("create", "--name", "idle", "busybox")
    assert why(engine, "idle").startswith("idle was never started. It was created at ")
    engine.docker("run", "--name", "bad", "busybox", "nosuch", check=False)
    said = why(engine, "bad")
    assert said.startswith("bad has never run. ") and f"which {ME}" in said
    assert "failed with exit code 127: " in said and '"nosuch": executable file not found' in said


def test_an_exit_by_itself(engine: Engine) -> None:
    engine.docker("run", "--name", "done", "busybox", "sh", "-c", "exit 3", check=False)
    assert "by itself with exit code 3. It has no restart policy, so it stays stopped." in why(engine, "done")
    found = document(engine, "done")["Ending"]
    assert (found["Reason"], found["ExitCode"], found["Signal"], found["Request"]) == ("exit", 3, "", None)


def test_who_stopped_killed_and_restarted_it(engine: Engine) -> None:
    run(engine, "web", "sleep", "1000")
    assert f", when {ME}" in why(engine, "web")
    engine.docker("stop", "-t", "0", "web")
    assert f"by {ME}" in why(engine, "web") and "with stop; it did not end within 0 seconds of SIGTERM" in why(
        engine, "web"
    )
    engine.docker("start", "web")
    assert "Its last run was stopped at" in why(engine, "web")
    engine.docker("restart", "-t", "0", "web")
    found = document(engine, "web")
    assert (found["State"], found["Ending"]["Request"]["Action"]) == ("running", "restart")
    assert found["StartedBy"]["Action"] == "restart"
    engine.docker("kill", "web")
    until(lambda: status(engine, "web") == "exited")
    assert "sent it SIGKILL with kill; SIGKILL ended it (exit code 137)." in why(engine, "web")
    peer = document(engine, "web")["Ending"]["Request"]["Peer"]
    assert (peer["Transport"], peer["Uid"], peer["User"], peer["Program"]) == ("unix", 0, "root", "docker")
    assert peer["UserAgent"].startswith("Docker-Client/") and peer["Pid"] > 0


def test_a_signal_from_elsewhere_is_not_blamed_on_the_last_caller(engine: Engine) -> None:
    run(engine, "shot", "sleep", "1000")
    engine.docker("kill", "-s", "WINCH", "shot")
    os.kill(int(engine.docker("inspect", "-f", "{{.State.Pid}}", "shot").stdout), signal.SIGKILL)
    until(lambda: status(engine, "shot") == "exited")
    said = why(engine, "shot")
    assert "by SIGKILL (exit code 137), which came from itself or another program of the host" in said
    assert "had sent it SIGWINCH." in said


@pytest.mark.row("MON-16")
def test_a_lack_of_memory_names_limit_and_peak(engine: Engine) -> None:
    limits = ("-m", "20m", "--memory-swap", "20m")
    engine.docker("run", "--name", "lean", *limits, "busybox", "tail", "/dev/zero", check=False)
    assert "the kernel killed it (its limit is 20 MiB, its peak was 20 MiB; exit code 137)" in why(engine, "lean")
    found = document(engine, "lean")["Ending"]
    assert (found["Reason"], found["MemoryLimit"]) == ("out-of-memory", 20 << 20)


def test_what_the_restart_policy_does(engine: Engine) -> None:
    run(engine, "loop", "sh", "-c", "exit 4", options=("--restart", "always"))
    # After the seventh end the next start is 6 seconds away. The count of restarts alone would not do: it is there before
    # the start that it counts has begun.
    dies = ("events", "--since", "0", "--until", "0s", "--filter", "container=loop", "--filter", "event=die")
    until(lambda: engine.docker(*dies).stdout.count("\n") >= 7 and status(engine, "loop") == "restarting")
    engine.docker("stop", "loop")
    assert f"Its next start was called off by {ME}" in why(engine, "loop")
    run(engine, "tries", "false", options=("--restart", "on-failure:1"))
    until(lambda: status(engine, "tries") == "exited" and document(engine, "tries")["RestartCount"] == 1)
    assert why(engine, "tries").endswith("Restart policy on-failure:1 has given up after 1 restart.")


def test_failed_health_checks_that_led_to_a_restart(engine: Engine) -> None:
    options = ("--restart", "always", "--label", "io.boxship.restart-on-unhealthy=true", "--stop-signal", "KILL")
    check = ("--health-cmd", "echo disk full; false", "--health-interval", "100ms", "--health-retries", "2")
    run(engine, "sick", "sleep", "1000", options=(*options, *check))
    until(lambda: document(engine, "sick")["RestartCount"] >= 1 and document(engine, "sick")["Ending"] is not None)
    said = why(engine, "sick")
    assert "since its health checks failed; SIGKILL ended it (exit code 137)." in said
    assert 'The last checks said: "disk full"' in said


def test_a_shim_that_was_killed(engine: Engine) -> None:
    id = run(engine, "orphan", "sleep", "1000")
    os.kill(shim_of(engine, id), signal.SIGKILL)
    until(lambda: status(engine, "orphan") == "exited")
    assert "since the process that looks after it (its shim) was killed from outside (exit code 137)" in why(
        engine, "orphan"
    )


def test_ends_that_no_daemon_saw(fresh_engine: Engine) -> None:
    engine = fresh_engine
    short = run(engine, "short", "sleep", "1000")
    shims = {name: run(engine, name, "sleep", "1000") for name in ("orphan", "rebooted")}
    init = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "short").stdout)
    pids = {name: shim_of(engine, id) for name, id in shims.items()}
    engine.kill()
    os.kill(init, signal.SIGKILL)
    until(lambda: (engine.exec_root / "shims" / short / "exit.json").exists())
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    # As after a reboot: another boot, and nothing left of the state directory and of cgroups.
    for path in engine.cgroups():
        if path.endswith(shims["rebooted"]):
            until(lambda path=path: removed(path))
    store = Store(str(engine.data_root / "boxship.db"))
    with store.read() as tx:
        row = json.loads(tx.get(STATUS_KIND, shims["rebooted"]) or b"")
    row["boot_id"] = "another"
    store.write_now(lambda tx: tx.put(STATUS_KIND, shims["rebooted"], json.dumps(row).encode()))
    store.close()
    shutil.rmtree(engine.exec_root / "shims" / shims["rebooted"])
    engine.start()
    assert "by SIGKILL (exit code 137)" in why(engine, "short")
    assert "Boxship was not running at that time." in why(engine, "short")
    assert "was killed from outside while Boxship was not running (exit code 255)" in why(engine, "orphan")
    assert "It was cut off when the host rebooted or lost power." in why(engine, "rebooted")


def test_a_daemon_that_was_shut_down_and_one_killed_while_it_stopped_a_container(fresh_engine: Engine) -> None:
    engine = fresh_engine
    run(engine, "kept", "sleep", "1000", options=("--restart", "always", "--stop-signal", "KILL"))
    engine.stop()
    engine.start()
    until(lambda: status(engine, "kept") == "running")
    said = why(engine, "kept")
    assert "when Boxship itself started and its restart policy asked for it." in said
    assert "Its last run was stopped at" in said and "since Boxship was shut down" in said
    run(engine, "stubborn", "sh", "-c", "trap : TERM; while :; do sleep 0.1; done", options=("--restart", "always"))
    stop = "POST /containers/stubborn/stop?t=100 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(stop.encode())
        until(lambda: document(engine, "stubborn")["Asked"])
        engine.kill()
    engine.start()
    found = document(engine, "stubborn")
    assert (found["State"], found["Asked"]["Action"]) == ("running", "stop")


def test_formats_and_errors(engine: Engine) -> None:
    engine.docker("run", "--name", "one", "busybox", "true")
    for words in (("--json",), ("--format", "json")):
        found = json.loads(engine.boxship("why", *words, "one").stdout)
        assert (found["Name"], found["Ending"]["Reason"]) == ("/one", "exit")
    assert engine.boxship("why", "--format", "{{.Ending.Reason}}: {{.State}}", "one").stdout == "exit: exited\n"
    bad = engine.boxship("why", "nosuch", "one", check=False)
    assert (bad.returncode, bad.stderr) == (1, "Error response from daemon: No such container: nosuch\n")
    assert bad.stdout.startswith("one is stopped.")
    odd = engine.boxship("why", "--format", "{{.Nope}}", "one", check=False)
    assert odd.returncode == 1 and odd.stderr.startswith("template:")
