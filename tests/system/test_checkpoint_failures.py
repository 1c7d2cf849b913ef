"""Checkpoints that do not come about, and daemons that are killed meanwhile: with a program in CRIU's place, on any kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.row("RUN-50"), pytest.mark.timeout(300)]

PROGRAM = Path(__file__).parents[1] / "support" / "fake_criu.py"
WAIT = 60.0  # seconds
FAILED = "criu failed: something is wrong with it; FAILED."


class FakeCriu:
    """The program and where it is told what to do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        program = directory / "criu"
        program.write_text(f'#!/bin/sh\nFAKE_CRIU={directory} exec {sys.executable} -I {PROGRAM} "$@"\n')
        program.chmod(0o755)

    def does(self, mode: str) -> None:
        (self.directory / "mode").write_text(mode)
        (self.directory / "state").unlink(missing_ok=True)

    def stopped(self) -> int:
        """Wait until it has come to the place where it stops; return its pid."""
        until((self.directory / "state").exists, WAIT)
        return int((self.directory / "state").read_text())


@pytest.fixture(scope="module")
def criu(tmp_path_factory: pytest.TempPathFactory) -> FakeCriu:
    return FakeCriu(tmp_path_factory.mktemp("criu"))


@pytest.fixture(scope="module")
def engine(criu: FakeCriu) -> Iterator[Engine]:
    engine = Engine(options=["--experimental"])
    engine.isolate_cgroups()
    engine.environment["PATH"] = f"{criu.directory}:{os.environ['PATH']}"
    try:
        engine.start()
        import_busybox(engine, "busybox")
        yield engine
    finally:
        engine.close()


@pytest.fixture
def running(engine: Engine) -> str:
    return engine.docker(
        "run", "-d", "--name", "web", "--restart", "unless-stopped", "busybox", "sleep", "1000"
    ).stdout.strip()


def pid(engine: Engine) -> int:
    return int(engine.docker("inspect", "-f", "{{.State.Pid}}", "web").stdout)


def state(engine: Engine) -> str:
    return engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").stdout.strip()


def saved(engine: Engine) -> list[str]:
    return engine.docker("checkpoint", "ls", "web").stdout.splitlines()[1:]


def files(engine: Engine, id: str) -> list[str]:
    return os.listdir(engine.data_root / "containers" / id / "checkpoints")


def in_background(engine: Engine, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*engine.namespace.prefix(), "docker", *words],
        env=engine.client_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_failed_dump_leaves_the_container_running_and_nothing_else(
    engine: Engine, criu: FakeCriu, running: str
) -> None:
    before = pid(engine)
    for mode, words, reason in (
        ("fail", (), FAILED),
        ("end", ("--leave-running",), "criu ended without an answer"),
        ("garbage", (), "criu sent a message that is cut off"),
        ("save-fail", ("--leave-running",), "criu failed: late failure"),
        ("save-fail", (), "criu failed: late failure"),
    ):
        criu.does(mode)
        done = engine.docker("checkpoint", "create", *words, "web", "one", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error response from daemon: Cannot checkpoint container web: {reason}\n"
    assert (state(engine), pid(engine)) == ("running 0", before)
    assert files(engine, running) == []
    assert not (engine.exec_root / "shims" / running / "criu").exists()
    criu.does("save")
    engine.docker("checkpoint", "create", "--leave-running", "web", "one")
    assert (state(engine), pid(engine), saved(engine)) == ("running 0", before, ["one"])


def test_a_container_ends_with_its_checkpoint_and_its_restart_policy_does_not_start_it(
    engine: Engine, criu: FakeCriu, running: str
) -> None:
    criu.does("save")
    assert engine.docker("checkpoint", "create", "web", "one").stdout == "one\n"
    assert state(engine) == "exited 137"
    assert saved(engine) == ["one"]
    assert "checkpoint" in engine.boxship("why", "web").stdout
    told = engine.api("GET", f"/events?since=1&until={time.time():.9f}&type=container")[1]
    actions = [json.loads(line)["Action"] for line in told.splitlines() if running in line]
    assert actions[actions.index("die") :] == ["die", "disconnect", "checkpoint"]
    again = engine.docker("checkpoint", "create", "web", "two", check=False)
    assert again.stderr == "Error response from daemon: Container web not running\n"
    parts = [part["Kind"] for part in engine.api("GET", "/boxship/disk")[1]["Parts"] if running in part["Path"]]
    assert parts.count("checkpoint") == 1
    assert engine.boxship("system", "fsck").stdout == "nothing is wrong\n"
    engine.docker("checkpoint", "rm", "web", "one")
    assert files(engine, running) == []


@pytest.mark.usefixtures("running")
def test_bad_requests_are_refused_in_dockers_words(engine: Engine, criu: FakeCriu) -> None:
    criu.does("save")
    engine.docker("run", "-d", "--pid", "container:web", "--name", "peer", "busybox", "sleep", "1000")
    engine.docker("checkpoint", "create", "--leave-running", "web", "one")
    engine.docker("pause", "web")
    told = "Error response from daemon: "
    for words, error in {
        ("create", "web", "two"): "Container web is paused, unpause the container before the checkpoint",
        ("create", "peer", "one"): (
            "Cannot checkpoint container peer: "
            "checkpoint not supported on containers that share the pid namespace of another"
        ),
        ("create", "gone", "one"): "No such container: gone",
        ("ls", "gone"): "No such container: gone",
        ("rm", "gone", "one"): "No such container: gone",
        ("rm", "web", "gone"): "checkpoint gone does not exist for container web",
        ("ls", "--checkpoint-dir", "here", "web"): "checkpoint directory must be an absolute path: here",
    }.items():
        assert engine.docker("checkpoint", *words, check=False).stderr == f"{told}{error}\n"
    engine.docker("unpause", "web")
    for words, error in {
        ("create", "web", ".two"): "Invalid checkpoint ID (.two), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        (
            "create",
            "web",
            "one",
        ): "cannot checkpoint container web: checkpoint with name one already exists for container web",
    }.items():
        assert engine.docker("checkpoint", *words, check=False).stderr == f"{told}{error}\n"
    engine.docker("kill", "peer")
    started = engine.docker("start", "--checkpoint", "../peer", "peer", check=False)
    assert started.stderr == f"{told}checkpoint ../peer does not exist for container /peer\n"


def test_without_criu_its_absence_is_told(engine: Engine, criu: FakeCriu, running: str) -> None:
    engine.kill()
    program = criu.directory / "criu"
    program.rename(criu.directory / "hidden")
    # What is installed on this host is hidden in the daemon's own mount namespace.
    places = "/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin"
    hide = f'for d in {places}; do [ ! -e $d/criu ] || mount --bind /dev/null $d/criu; done; exec "$@"'
    engine.wrapper = ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", hide, "sh"]
    try:
        engine.start()
        done = engine.docker("checkpoint", "create", "web", "one", check=False)
        assert done.stderr.startswith(
            'Error response from daemon: Cannot checkpoint container web: exec: "criu": executable file not found in $PATH'
        )
        assert state(engine) == "running 0"
        assert files(engine, running) == []
    finally:
        engine.kill()
        engine.wrapper = []
        (criu.directory / "hidden").rename(program)
        engine.start()


def test_a_failed_restore_leaves_the_container_as_it_was(engine: Engine, criu: FakeCriu, running: str) -> None:
    criu.does("save")
    engine.docker("checkpoint", "create", "web", "one")
    for mode, reason in (("fail", FAILED), ("end", "criu ended without an answer")):
        criu.does(mode)
        done = engine.docker("start", "--checkpoint", "one", "web", check=False)
        assert done.returncode == 1
        assert f"OCI runtime restore failed: {reason}" in done.stderr
        assert state(engine).startswith("exited")
        assert engine.cgroups() == []
        assert str(engine.data_root) not in Path("/proc/self/mountinfo").read_text()
    description = engine.data_root / "containers" / running / "checkpoints" / "one" / "boxship.json"
    for text in ("", "[]", '{"v": 9}', json.dumps({"v": 1, "stdio": ["x"], "mounts": [], "network": 0})):
        description.write_text(text)
        done = engine.docker("start", "--checkpoint", "one", "web", check=False)
        assert "OCI runtime restore failed: " in done.stderr
        assert state(engine).startswith("exited")
    engine.docker("start", "web")
    assert state(engine) == "running 0"


def test_a_dump_goes_on_without_its_daemon(engine: Engine, criu: FakeCriu, running: str) -> None:
    criu.does("hang")
    before = pid(engine)
    client = in_background(engine, "checkpoint", "create", "web", "one")
    stopped = criu.stopped()
    engine.kill()
    client.wait(WAIT)
    engine.start()
    assert (state(engine), pid(engine), saved(engine)) == ("running 0", before, [])
    assert files(engine, running) == [".one.partial"]  # somebody works on it
    other = engine.docker("checkpoint", "create", "web", "two", check=False)
    assert "another checkpoint of the container is being made" in other.stderr
    os.kill(stopped, signal.SIGKILL)
    until(lambda: files(engine, running) == [], WAIT)
    assert (state(engine), pid(engine)) == ("running 0", before)
    criu.does("save")
    engine.docker("checkpoint", "create", "web", "one")
    assert (state(engine), saved(engine)) == ("exited 137", ["one"])


def test_a_container_that_was_saved_without_a_daemon_is_not_lost(engine: Engine, criu: FakeCriu, running: str) -> None:
    criu.does("save-hang")
    init = pid(engine)
    client = in_background(engine, "checkpoint", "create", "web", "one")
    stopped = criu.stopped()
    engine.kill()
    client.wait(WAIT)
    os.kill(init, signal.SIGKILL)  # CRIU's last step
    os.kill(stopped, signal.SIGKILL)
    record = engine.exec_root / "shims" / running / "exit.json"
    until(record.exists, WAIT)
    engine.start()
    assert (state(engine), saved(engine)) == ("exited 137", ["one"])
    assert json.loads(record.read_text())["checkpoint"] == "one"


def test_a_checkpoint_whose_container_lives_on_by_accident_is_none(
    engine: Engine, criu: FakeCriu, running: str
) -> None:
    criu.does("save-hang")
    before = pid(engine)
    client = in_background(engine, "checkpoint", "create", "web", "one")
    os.kill(criu.stopped(), signal.SIGKILL)
    assert client.wait(WAIT) == 1
    assert (state(engine), pid(engine)) == ("running 0", before)
    assert files(engine, running) == []


def test_a_shim_that_is_killed_takes_the_dump_along(engine: Engine, criu: FakeCriu, running: str) -> None:
    criu.does("hang")
    shim = json.loads((engine.exec_root / "shims" / running / "state.json").read_text())["shim_pid"]
    client = in_background(engine, "checkpoint", "create", "web", "one")
    stopped = criu.stopped()
    os.kill(shim, signal.SIGKILL)
    assert client.wait(WAIT) == 1
    until(lambda: not Path(f"/proc/{stopped}").exists(), WAIT)
    engine.kill()
    engine.start()
    assert files(engine, running) == []


def test_a_restore_ends_with_its_daemon(engine: Engine, criu: FakeCriu, running: str) -> None:
    criu.does("save")
    engine.docker("checkpoint", "create", "web", "one")
    criu.does("hang")
    client = in_background(engine, "start", "--checkpoint", "one", "web")
    stopped = criu.stopped()
    engine.kill()
    client.wait(WAIT)
    until(lambda: not Path(f"/proc/{stopped}").exists(), WAIT)
    engine.start()
    assert state(engine).startswith("exited")
    until(lambda: engine.cgroups() == [], WAIT)
    assert str(engine.data_root) not in Path("/proc/self/mountinfo").read_text()
    engine.docker("start", "web")
    assert (state(engine), saved(engine)) == ("running 0", ["one"])
    assert running in engine.docker("ps", "-q", "--no-trunc").stdout


@pytest.mark.parametrize("place", ["shim", "criu"])
def test_a_restore_whose_parts_are_killed_leaves_nothing(
    engine: Engine, criu: FakeCriu, running: str, place: str
) -> None:
    criu.does("save")
    engine.docker("checkpoint", "create", "web", "one")
    criu.does("hang")
    client = in_background(engine, "start", "--checkpoint", "one", "web")
    stopped = criu.stopped()
    victims: dict[str, Callable[[], int]] = {
        "criu": lambda: stopped,
        "shim": lambda: int(Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2].split()[1]),
    }
    os.kill(victims[place](), signal.SIGKILL)
    assert client.wait(WAIT) == 1
    until(lambda: not Path(f"/proc/{stopped}").exists(), WAIT)
    until(lambda: engine.cgroups() == [], WAIT)
    until(lambda: str(engine.data_root) not in Path("/proc/self/mountinfo").read_text(), WAIT)
    assert state(engine).startswith("exited")
    assert files(engine, running) == ["one"]
