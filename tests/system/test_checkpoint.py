"""Processes that are saved and come back, with a real CRIU where one works on this kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from harness import criu
from harness.engine import Engine
from harness.images import import_busybox
from harness.terminal import Terminal
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.row("RUN-50"), pytest.mark.timeout(300)]

Open = Callable[..., Terminal]
Cli = Callable[..., subprocess.CompletedProcess[str]]
WAIT = 60.0  # seconds
COUNT = "n=0; while [ ! -e /tmp/end ]; do n=$((n+1)); echo $n; sleep 0.05; done; exit 7"
# Two processes beside the first one, with a pipe between them; a signal handler; a file that is open and one in memory.
FAMILY = """
trap 'echo caught' USR1
echo kept >/dev/shm/kept
exec 5>/data/open
(while :; do echo x; sleep 0.05; done) | (n=0; while read x; do n=$((n+1)); echo $n; done) &
while [ ! -e /data/end ]; do sleep 0.05; done
echo closing >&5
exit 7
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        directory = criu.directory()
    except criu.NoCriu as exc:
        pytest.skip(str(exc))
    engine = Engine(options=["--experimental"])
    engine.isolate_cgroups()
    engine.environment["PATH"] = f"{directory}:{os.environ['PATH']}"
    try:
        engine.start()
        import_busybox(engine, "busybox")
        yield engine
    finally:
        engine.close()


def counted(engine: Engine, name: str = "web") -> list[int]:
    """Return the numbers in the container's log."""
    return [int(line) for line in engine.docker("logs", name).stdout.split() if line.isdecimal()]


def counts_on(engine: Engine, name: str = "web") -> None:
    """Wait until the container has counted further, and check that it never started anew nor lost a number."""
    before = counted(engine, name)
    until(lambda: len(counted(engine, name)) > len(before) + 2, WAIT)
    numbers = counted(engine, name)
    assert numbers == list(range(1, len(numbers) + 1))


def state(engine: Engine, name: str = "web") -> str:
    return engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name).stdout.strip()


def test_a_container_comes_back_as_it_was(engine: Engine, cli: Cli) -> None:
    cli("run", "-d", "--name", "web", "-v", "/data", "--memory", "64m", "busybox", "sh", "-c", FAMILY)
    counts_on(engine)
    assert cli("checkpoint", "create", "web", "one").stdout == "one\n"
    assert state(engine) == "exited 137"
    assert cli("checkpoint", "ls", "web").stdout.split() == ["CHECKPOINT", "NAME", "one"]
    assert cli("start", "--checkpoint", "one", "web").stdout == ""
    assert state(engine) == "running 0"
    counts_on(engine)
    inside = (
        "cat /dev/shm/kept /etc/hostname; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    )
    words = cli("exec", "web", "sh", "-c", inside, check=False).stdout.split()
    assert words[0] == "kept"
    assert words[2:] == [str(64 << 20)]
    assert len(cli("top", "web", "-o", "pid").stdout.split()) > 3
    cli("kill", "-s", "USR1", "web")
    until(lambda: "caught" in engine.docker("logs", "web").stdout, WAIT)
    cli("exec", "web", "touch", "/data/end", check=False)  # it may be killed by the end that it brings
    assert cli("wait", "web").stdout == "7\n"
    assert [path.read_text() for path in engine.data_root.glob("volumes/*/_data/open")] == ["closing\n"]
    assert cli("checkpoint", "rm", "web", "one").stdout == ""
    assert cli("checkpoint", "ls", "web").stdout.split() == ["CHECKPOINT", "NAME"]


def test_a_container_may_run_on_and_be_set_back(engine: Engine, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNT)
    counts_on(engine)
    directory = tmp_path / "saved"
    elsewhere = ("--checkpoint-dir", str(directory))
    engine.docker("checkpoint", "create", "--leave-running", *elsewhere, "web", "two")
    assert state(engine) == "running 0"
    counts_on(engine)
    assert engine.docker("checkpoint", "ls", *elsewhere, "web").stdout.split()[2:] == ["two"]
    assert engine.docker("checkpoint", "ls", "web").stdout.split()[2:] == []
    for _ in range(2):
        engine.docker("kill", "web")
        engine.docker("start", "--checkpoint", "two", *elsewhere, "web")
        before = len(counted(engine))
        until(lambda before=before: len(counted(engine)) > before + 2, WAIT)  # type: ignore[misc]  # early binding
    numbers = counted(engine)
    set_back = [number for last, number in pairwise(numbers) if number != last + 1]
    assert len(set_back) == 2
    assert set_back[0] == set_back[1] > 1
    engine.docker("exec", "web", "touch", "/tmp/end", check=False)  # it may be killed by the end that it brings
    assert engine.docker("wait", "web").stdout == "7\n"
    directory.chmod(0o777)
    refused = engine.docker("start", "--checkpoint", "two", *elsewhere, "web", check=False)
    assert refused.stderr == "Error response from daemon: checkpoint two can be written by others than root\n"
    engine.docker("checkpoint", "rm", *elsewhere, "web", "two")
    assert list(directory.iterdir()) == []


def capable(number: int) -> bool:
    """Return whether root has the capability (linux/capability.h) here."""
    words = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()
    return bool(int(words[0], 16) >> number & 1)


OPTIONS = (
    ("--cgroupns", "private", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
    ("--init", "--network", "host", "--hostname", "other"),
    ("--privileged", "--ipc", "host"),
    ("--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    ("-i", "--security-opt", "seccomp=unconfined", "--log-opt", "max-size=1m", "-v", "/usr/share:/host:ro"),
)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda words: words[0].strip("-"))
def test_what_a_container_may_do_and_see_comes_back(engine: Engine, options: tuple[str, ...]) -> None:
    if "--user" in options and not capable(24):  # CAP_SYS_RESOURCE
        pytest.skip("CRIU needs CAP_SYS_RESOURCE to save processes of other users")
    engine.docker("run", "-d", "--name", "web", *options, "busybox", "sh", "-c", COUNT)
    look = "hostname; grep -E '^(Cap|Seccomp|NoNew|Uid)' /proc/1/status; cut -d' ' -f4,5,6 /proc/1/mountinfo; cat /proc/1/cgroup"
    shown = engine.docker("exec", "web", "sh", "-c", look).stdout
    engine.docker("checkpoint", "create", "web", "one")
    engine.docker("start", "--checkpoint", "one", "web")
    counts_on(engine)
    # CRIU mounts the same in another order.
    assert sorted(engine.docker("exec", "web", "sh", "-c", look).stdout.split("\n")) == sorted(shown.split("\n"))


def test_input_and_network_are_new_and_work(engine: Engine) -> None:
    engine.docker("run", "-d", "-i", "--name", "echo", "busybox", "cat")
    serve = "echo hello >/tmp/page; exec httpd -f -p 80 -h /tmp"
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c", serve)
    fetch = (
        "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/page', timeout=5).read().decode())"
    )

    def page() -> str:
        done = engine.namespace.run("/usr/bin/python3", "-c", fetch, check=False)
        return str(done.stdout)

    until(lambda: page() == "hello\n\n", WAIT)
    for name in ("echo", "web"):
        engine.docker("checkpoint", "create", name, "one")
    assert page() == ""
    for name in ("echo", "web"):
        engine.docker("start", "--checkpoint", "one", name)
    until(lambda: page() == "hello\n\n", WAIT)
    attached = subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "attach", "--sig-proxy=false", "echo"],
        env=engine.client_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write(b"and back\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == b"and back\n"
    engine.docker("kill", "echo")
    attached.communicate(timeout=WAIT)


def test_a_terminal_comes_back(engine: Engine, terminal: Open) -> None:
    engine.docker("run", "-d", "-i", "-t", "--name", "shell", "busybox", "sh")
    until(lambda: "built-in commands" in engine.docker("logs", "shell").stdout, WAIT)
    engine.docker("checkpoint", "create", "shell", "one")
    engine.docker("start", "--checkpoint", "one", "shell")
    attached = terminal(engine, "attach", "shell", rows=31, columns=101)
    attached.send("tty && echo f''ound\r")
    attached.expect("/dev/pts/0\r\nfound", WAIT)
    attached.send("until [ \"$(stty size)\" = '31 101' ]; do sleep 0.1; done; exit 9\r")
    assert attached.wait(WAIT) == 9


def test_what_criu_cannot_save_runs_on(engine: Engine) -> None:
    connected = "nc -l -p 5000 -e cat & sleep 1; (echo ready; sleep 1000) | nc 127.0.0.1 5000"
    engine.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", connected)
    until(lambda: "ready" in engine.docker("logs", "web").stdout, WAIT)
    done = engine.docker("checkpoint", "create", "web", "one", check=False)
    assert done.returncode == 1
    assert "Cannot checkpoint container web: criu failed: " in done.stderr
    assert "--tcp-established" in done.stderr
    assert state(engine) == "running 0"
    assert engine.docker("checkpoint", "ls", "web").stdout.split()[2:] == []


def test_a_restored_container_ends_with_its_shim_and_outlives_its_daemon(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNT).stdout.strip()
    engine.docker("checkpoint", "create", "web", "one")
    engine.kill()
    # Killed as soon as the shim has been asked: it restores or it does not, and nothing in between.
    engine.environment["BOXSHIP_FAILPOINT"] = "start.after-launch"
    engine.start()
    engine.docker("start", "--checkpoint", "one", "web", check=False)
    assert engine.process is not None
    engine.process.wait(WAIT)
    engine.process = None
    del engine.environment["BOXSHIP_FAILPOINT"]
    engine.start()
    if state(engine) == "running 0":
        engine.docker("kill", "web")
    until(lambda: engine.cgroups() == [], WAIT)
    engine.docker("start", "--checkpoint", "one", "web")
    engine.kill()
    engine.start()
    assert state(engine) == "running 0"
    counts_on_after_a_daemon = len(counted(engine))
    until(lambda: len(counted(engine)) > counts_on_after_a_daemon, WAIT)
    record = json.loads((engine.exec_root / "shims" / id / "state.json").read_text())
    os.kill(record["shim_pid"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{record['pid']}").exists(), WAIT)
    until(lambda: state(engine) == "exited 137", WAIT)
    until(lambda: engine.cgroups() == [], WAIT)
