"""A shell with tools beside containers that have none, without changing them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.terminal import Terminal
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.row("PRM-12")]

BOXSHIP = (sys.executable, "-c", "import sys; from boxship.cli.main import main; sys.exit(main())")


@pytest.fixture(scope="module")
def scratch(engine: Engine) -> str:
    """An image without any program but one: it sleeps."""
    from harness.images import busybox

    root = engine.root / "scratch"
    root.mkdir()
    (root / "busybox").write_bytes(busybox().read_bytes())
    (root / "busybox").chmod(0o755)
    (root / "etc").mkdir()
    (root / "etc/motd").write_text("inside\n")
    tar = subprocess.run(["tar", "-C", str(root), "-c", "."], check=True, capture_output=True).stdout
    command = [*engine.namespace.prefix(), "docker", "import", "-c", 'ENTRYPOINT ["/busybox","sleep"]', "-", "scratch"]
    subprocess.run(command, input=tar, check=True, capture_output=True, env=engine.client_environment())
    return "scratch"


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    document: dict[str, Any] = engine.api("GET", f"/containers/{name}/json")[1]
    return document


def names(engine: Engine) -> set[str]:
    return set(engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split())


@pytest.fixture
def target(engine: Engine, scratch: str) -> Iterator[str]:
    """A running container without a shell, which is the same afterwards."""
    options = ["-e", "WORD=seen", "--hostname", "target", "--tmpfs", "/run", "-p", "8088:80"]
    engine.docker("run", "-d", "--name", "target", *options, scratch, "1000")
    before, diff = inspect(engine, "target"), engine.docker("diff", "target").stdout
    mounts = Path(f"/proc/{before['State']['Pid']}/mountinfo").read_text()
    yield "target"
    assert inspect(engine, "target") == before
    assert Path(f"/proc/{before['State']['Pid']}/mountinfo").read_text() == mounts
    assert engine.docker("diff", "target").stdout == diff
    assert names(engine) == {"target"}
    until(lambda: len(engine.docker("top", "target").stdout.splitlines()) == 2)


def test_a_running_container_is_seen_from_within(engine: Engine, target: str) -> None:
    script = "echo $WORD; hostname; cat /etc/motd; ps | grep -c '[s]leep 1000'; ip -o addr | grep -c eth0; mount | grep -c /run; id -u"
    assert engine.boxship("debug", "-c", script, target).stdout.splitlines() == [
        *("seen", "target", "inside", "1", "1", "1", "0"),
    ]


def test_files_written_in_a_running_container_are_its_own(engine: Engine, target: str) -> None:
    engine.boxship("debug", "-c", "echo x > /run/file", target)
    pid = inspect(engine, target)["State"]["Pid"]
    assert Path(f"/proc/{pid}/root/run/file").read_text() == "x\n"


def test_the_targets_rights_hold_but_for_tracing(engine: Engine, target: str) -> None:
    status = engine.boxship("debug", "-c", "cat /proc/self/status", target).stdout
    own = Path(f"/proc/{inspect(engine, target)['State']['Pid']}/status").read_text()
    held, theirs = (
        int(next(line.split()[1] for line in text.splitlines() if line.startswith("CapEff")), 16)
        for text in (status, own)
    )
    assert held == theirs | 1 << 19  # CAP_SYS_PTRACE
    assert "Seccomp:\t2" in status
    assert engine.boxship("debug", "-c", "touch /sys/firmware/bin/x", target, check=False).returncode == 1


@pytest.mark.parametrize(
    ("words", "code"), [(["-c", "exit 7", "target"], 7), (["target", "nothing-of-that-name"], 127)]
)
def test_exit_codes_pass_through(engine: Engine, target: str, words: list[str], code: int) -> None:
    assert engine.boxship("debug", *words, check=False).returncode == code


def test_input_reaches_the_shell(engine: Engine, target: str) -> None:
    assert engine.boxship("debug", target, input="echo $WORD\nexit 4\n", check=False).stdout == "seen\n"
    assert engine.boxship("debug", target, "wc", "-c", input="12345").stdout == "5\n"


def test_a_shell_on_a_terminal(engine: Engine, target: str) -> None:
    shell = Terminal([*engine.namespace.prefix(), *BOXSHIP, "debug", target], env=engine.client_environment(), rows=31)
    try:
        shell.expect(r"debug target / # ")
        shell.send("stty size\n")
        shell.expect("31 80")
        shell.resize(40, 100)
        shell.send("sleep 1000 &\n")
        shell.expect("# ")
        shell.send("until stty size | grep '40 100'; do sleep 0.05; done; exit 3\n")
        assert shell.wait() == 3
    finally:
        shell.close()


@pytest.mark.parametrize("tty", [False, True])
def test_a_killed_client_takes_its_shell_along(engine: Engine, target: str, tty: bool) -> None:
    command = [*engine.namespace.prefix(), *BOXSHIP, "debug", target, "sleep", "4321"]
    environment = engine.client_environment()
    if tty:
        terminal = Terminal(command, env=environment)
        process, close = terminal.process, terminal.close
    else:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        close = process.stdin.close if process.stdin else process.wait
    until(lambda: "4321" in engine.docker("top", target).stdout)
    process.kill()
    process.wait()
    until(lambda: "4321" not in engine.docker("top", target).stdout)
    close()


def stopped(engine: Engine, scratch: str) -> None:
    engine.docker("create", "--name", "stopped", "-e", "WORD=seen", "-v", "kept:/data", scratch, "0.01")
    engine.docker("cp", "/etc/hostname", "stopped:/written")
    engine.docker("start", "-a", "stopped", check=False)


def test_a_stopped_container_shows_its_files_and_is_not_changed(engine: Engine, scratch: str) -> None:
    stopped(engine, scratch)
    before, diff = inspect(engine, "stopped"), engine.docker("diff", "stopped").stdout
    script = "ls /written /etc/motd; echo $WORD; echo x > /new; rm /etc/motd; echo y > /data/x || echo refused; ls /"
    lines = engine.boxship("debug", "-c", script, "stopped").stdout.split()
    assert lines[:4] == ["/etc/motd", "/written", "seen", "refused"]
    assert {"new", "busybox", "written"} <= set(lines[4:])
    until(lambda: names(engine) == {"stopped"})
    assert inspect(engine, "stopped") == before
    assert engine.docker("diff", "stopped").stdout == diff
    assert engine.docker("cp", "stopped:/etc/motd", "-").stdout != ""


def test_a_crashing_container_can_be_looked_at_between_its_restarts(engine: Engine, scratch: str) -> None:
    engine.docker("run", "-d", "--name", "crash", "--restart", "always", scratch, "nonsense")
    until(
        lambda: (
            inspect(engine, "crash")["State"]["Status"] == "restarting" and inspect(engine, "crash")["RestartCount"] > 3
        )
    )
    assert engine.boxship("debug", "-c", "cat /etc/motd", "crash").stdout == "inside\n"


def test_an_image_shows_its_files(engine: Engine, scratch: str) -> None:
    images = engine.docker("images", "-q", "--no-trunc").stdout
    assert (
        engine.boxship("debug", "-c", "cat /etc/motd; echo x > /new; ip -o link | grep -c eth0", scratch).stdout
        == "inside\n1\n"
    )
    assert engine.boxship("debug", "-c", "exit 9", scratch, check=False).returncode == 9
    until(lambda: names(engine) == set())
    assert engine.docker("images", "-q", "--no-trunc").stdout == images
    assert engine.docker("volume", "ls", "-q").stdout.split() in ([], ["kept"])


def test_tools_of_another_image_beside_a_running_container(engine: Engine, target: str) -> None:
    script = "cat /proc/1/root/etc/motd; hostname; ps | grep -c '[s]leep 1000'; test -e /bin/busybox && echo own"
    assert engine.boxship("debug", "--image", "busybox", "-c", script, target).stdout.split()[0] == "inside"
    assert "own" in engine.boxship("debug", "--image", "busybox", "-c", script, target).stdout
    until(lambda: names(engine) == {target})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "No such container or image: nobody"),
        (["-c", "true", "scratch", "true"], "a command is given twice"),
        (["--image", "busybox", "idle", "true"], "tools of an image need a running container"),
        (["--image", "missing", "up", "true"], "No such image: missing"),
    ],
)
def test_what_cannot_be_debugged_is_refused(engine: Engine, scratch: str, words: list[str], message: str) -> None:
    engine.docker("create", "--name", "idle", scratch, "1")
    engine.docker("run", "-d", "--name", "up", scratch, "1000")
    done = engine.boxship("debug", *words, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert names(engine) == {"idle", "up"}


def test_a_shell_outlives_the_engine_and_leaves_nothing(
    fresh_engine: Engine, terminal: Callable[..., Terminal]
) -> None:
    engine = fresh_engine
    engine.docker("create", "--name", "stopped", "busybox", "true")
    shells = [
        subprocess.Popen(
            [*engine.namespace.prefix(), *BOXSHIP, "debug", "stopped"],
            env=engine.client_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for shell in shells:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write("echo ready\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "ready\n"
    engine.kill()
    for shell, word in ((shells[0], "exit"), (shells[1], "echo still")):
        assert shell.stdin is not None
        shell.stdin.write(f"{word}\n")
        shell.stdin.flush()
    assert shells[1].stdout is not None
    assert shells[1].stdout.readline() == "still\n"
    shells[0].communicate()
    engine.start()
    until(lambda: len(names(engine)) == 2)
    shells[1].send_signal(signal.SIGKILL)
    shells[1].communicate()
    until(lambda: names(engine) == {"stopped"})
    assert sorted(os.listdir(engine.exec_root / "shims")) == []


@pytest.mark.parametrize("point", ["create.after-row", "create.done", "start.after-running"])
def test_a_throw_away_container_without_a_shell_is_removed_at_the_next_start(fresh_engine: Engine, point: str) -> None:
    engine = fresh_engine
    engine.docker("create", "--name", "stopped", "busybox", "true")
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": point}
    engine.start()
    engine.boxship("debug", "-c", "true", "stopped", check=False)
    assert engine.process is not None
    engine.process.wait(20)
    engine.process = None
    engine.environment = {}
    engine.start()
    until(lambda: names(engine) == {"stopped"})
