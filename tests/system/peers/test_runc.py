"""``docker run --runtime runc`` on boxshipd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.terminal import Terminal

pytestmark = pytest.mark.system

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

LOOP = "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.1; done"
EXEC = "cat; until [ -e /ready ]; do :; done; cat /proc/1/comm; exit 5"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if RUNC is None:
        pytest.skip("runc is not installed")
    engine = Engine(options=["--add-runtime", f"runc={RUNC}"])
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def run(engine: Engine) -> Run:
    return lambda *args, **more: engine.docker("run", "--runtime", "runc", *args, check=False, **more)


@pytest.mark.row("ENG-21")
def test_streams_and_exit_codes_come_back(run: Run) -> None:
    done = run("-i", "--rm", "busybox", "sh", "-c", "cat; echo err >&2; exit 42", input="through\n")
    assert (done.returncode, done.stdout, done.stderr) == (42, "through\n", "err\n")


@pytest.mark.row("ENG-21", "RUN-46")
@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 127, "/nosuch: no such file or directory"),
        ("/etc", 126, "permission denied"),
    ],
)
def test_a_program_that_does_not_start_is_named(run: Run, program: str, code: int, words: str) -> None:
    done = run("--rm", "busybox", program)
    assert done.returncode == code
    assert "docker: Error response from daemon: " in done.stderr
    assert words in done.stderr


@pytest.mark.row("ENG-21")
def test_an_unknown_runtime_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--runtime", "nosuch", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "unknown or invalid runtime name: nosuch" in done.stderr


@pytest.mark.row("ENG-21")
def test_a_shell_on_a_terminal_follows_the_windows_size(engine: Engine) -> None:
    command = ["docker", "run", "-it", "--rm", "--runtime", "runc", "busybox"]
    terminal = Terminal([*engine.namespace.prefix(), *command], env=engine.client_environment())
    try:
        terminal.expect("/ # ")
        terminal.send("stty size\n")
        terminal.expect("24 80")
        terminal.resize(50, 132)
        # The size arrives after the window's signal went through CLI and engine.
        terminal.send('until [ "$(stty size)" = "50 132" ]; do :; done; echo res""ized\n')
        terminal.expect("resized")
        terminal.send("exit 9\n")
        assert terminal.wait() == 9
    finally:
        terminal.close()


@pytest.mark.row("ENG-21", "RUN-23")
def test_exec_joins_and_stop_and_kill_end(engine: Engine, run: Run) -> None:
    run("-d", "--name", "waits", "busybox", "sh", "-c", LOOP)
    done = engine.docker("exec", "-i", "waits", "sh", "-c", EXEC, input="in ", check=False)
    assert (done.returncode, done.stdout) == (5, "in sh\n")
    assert "executable file not found" in engine.docker("exec", "waits", "nosuch", check=False).stdout
    engine.docker("stop", "waits")
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "waits").stdout == "3\n"
    engine.docker("start", "waits")
    engine.docker("kill", "waits")
    assert engine.docker("wait", "waits").stdout == "137\n"
    engine.docker("rm", "waits")


@pytest.mark.row("ENG-21", "ENG-12")
def test_a_container_outlives_a_killed_daemon_and_leaves_nothing(engine: Engine, run: Run) -> None:
    id = run("-d", "--name", "survivor", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done").stdout.strip()
    pid = engine.api("GET", "/containers/survivor/json")[1]["State"]["Pid"]
    engine.kill()
    os.kill(pid, 0)
    engine.start()
    state = engine.api("GET", "/containers/survivor/json")[1]["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert engine.docker("exec", "survivor", "echo", "hello").stdout == "hello\n"
    ended = exit_while_the_daemon_is_away(engine, pid)
    assert (ended["Status"], ended["ExitCode"]) == ("exited", 137)
    engine.docker("rm", "survivor")
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{id}"))
    assert id not in Path("/proc/self/mountinfo").read_text()
    assert not (engine.exec_root / "shims" / id).exists()


def exit_while_the_daemon_is_away(engine: Engine, pid: int) -> dict[str, object]:
    engine.kill()
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    engine.start()
    engine.docker("wait", "survivor")
    state: dict[str, object] = engine.api("GET", "/containers/survivor/json")[1]["State"]
    return state
