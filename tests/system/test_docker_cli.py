"""The unmodified docker CLI against Boxship: run, exec, attach, logs, exit codes and Docker's words."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from harness.engine import Engine
from harness.terminal import Terminal

pytestmark = pytest.mark.system
Open = Callable[..., Terminal]


@pytest.fixture(params=["docker", "boxship"])
def cli(request: pytest.FixtureRequest, engine: Engine) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Both command lines: the same words must have the same effect."""
    return engine.docker if request.param == "docker" else engine.boxship


@pytest.mark.row("RUN-02", "RUN-08", "RUN-13")
def test_run_prints_what_the_program_prints_on_the_right_streams(
    cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


@pytest.mark.row("RUN-07", "CLI-08")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -15 $$; sleep 1"), 143),
        (("nosuch",), 127),
        (("/etc",), 126),
        (("/nosuch/program",), 127),
    ],
)
def test_exit_codes_are_the_programs(
    cli: Callable[..., subprocess.CompletedProcess[str]], command: tuple[str, ...], code: int
) -> None:
    if command == ("sh", "-c", "kill -9 $$"):
        command = ("sh", "-c", "sh -c 'kill -9 $$'; exit $?")  # PID 1 itself cannot be killed from inside
    if code == 143:
        command = ("sh", "-c", "sh -c 'kill -15 $$'; exit $?")
    assert cli("run", "--rm", "busybox", *command, check=False).returncode == code


@pytest.mark.row("RUN-46")
def test_a_missing_program_is_named_as_docker_does(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = cli("run", "--name", "broken", "busybox", "nosuch", check=False)
    assert 'exec: "nosuch": executable file not found in $PATH' in result.stderr
    assert result.stderr.startswith(("docker: Error response from daemon: ", "boxship: Error response from daemon: "))
    assert cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout == "broken Created\n"


@pytest.mark.row("RUN-46")
def test_a_directory_is_no_program(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = cli("run", "--rm", "busybox", "/etc", check=False)
    assert '"/etc"' in result.stderr
    assert "permission denied" in result.stderr


@pytest.mark.row("RUN-03", "RUN-22")
def test_detached_containers_show_in_ps(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("run", "-d", "--name", "web", "busybox", "sleep", "100").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", id)
    header, row = cli("ps").stdout.splitlines()
    assert header.split("   ")[0] == "CONTAINER ID"
    assert row.startswith(id[:12])
    assert '"sleep 100"' in row
    assert "Up " in row


@pytest.mark.row("RUN-11")
def test_a_name_is_given_once(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("create", "--name", "only", "busybox").stdout.strip()
    result = cli("run", "--name", "only", "busybox", check=False)
    assert result.returncode == 125
    assert (
        f'Conflict. The container name "/only" is already in use by container "{id}". '
        "You have to remove (or rename) that container to be able to reuse that name." in result.stderr
    )


@pytest.mark.row("RUN-20", "CLI-12")
def test_a_running_container_is_not_removed_without_force(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("run", "-d", "--name", "busy", "busybox", "sleep", "100").stdout.strip()
    result = cli("rm", "nosuch", "busy", check=False)
    assert result.returncode == 1
    assert "No such container: nosuch" in result.stderr
    assert (
        f"You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
        in result.stderr
    )
    assert cli("rm", "-f", "busy").stdout == "busy\n"


@pytest.mark.row("RUN-01")
def test_a_missing_image_is_looked_for_and_reported(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = cli("run", "nosuchimage", check=False)
    assert result.returncode == 125
    assert result.stderr.startswith("Unable to find image 'nosuchimage:latest' locally\n")
    assert (
        'Error response from daemon: Get "https://registry-1.docker.io/v2/": ' in result.stderr
    )  # no way out of there


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("run", "--bogus", "busybox"), 125, "unknown flag: --bogus"),
        (("run", "-p", "80:bogus", "busybox"), 125, "nvalid containerPort: bogus"),
        (("run", "UPPER"), 125, "repository name (library/UPPER) must be lowercase"),
        (("inspect", "nosuch"), 1, "No such object: nosuch"),
        (("logs", "nosuch"), 1, "No such container: nosuch"),
        (("rm",), 1, "requires at least 1 argument"),
        (
            ("tag", "busybox", "Bad:Ref"),
            1,
            "is not a valid repository/tag: invalid reference format: repository name (library/Bad) must be lowercase",
        ),
        (("run", "-it", "busybox"), 1, "the input device is not a TTY"),
    ],
)
@pytest.mark.words_of_docker_28
@pytest.mark.row("CLI-08", "CLI-22")
def test_bad_input_gets_dockers_errors(
    cli: Callable[..., subprocess.CompletedProcess[str]], args: tuple[str, ...], code: int, text: str
) -> None:
    result = cli(*args, check=False)
    assert (result.returncode, text in result.stderr) == (code, True), result.stderr


@pytest.mark.words_of_docker_28
@pytest.mark.row("CLI-09")
def test_an_unknown_command_is_refused(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = cli("volume", "cerate", check=False)
    assert result.returncode == 1
    assert "unknown command: " in result.stderr
    assert "volume cerate" in result.stderr


@pytest.mark.row("RUN-14", "RUN-15", "RUN-21")
def test_create_start_stop_start_keeps_the_writable_layer(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("create", "--name", "keep", "busybox", "sh", "-c", "echo run >> /runs; cat /runs")
    assert cli("start", "-a", "keep").stdout == "run\n"
    assert cli("start", "--attach", "keep").stdout == "run\nrun\n"
    assert cli("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (0) ")


@pytest.mark.row("RUN-16")
def test_stop_of_a_program_that_ignores_term_ends_in_137(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "-d", "--name", "deaf", "busybox", "sleep", "100")
    assert cli("stop", "-t", "1", "deaf").stdout == "deaf\n"
    assert cli("inspect", "-f", "{{.State.ExitCode}}", "deaf").stdout == "137\n"


@pytest.mark.row("RUN-17")
def test_kill_sends_the_signal_that_was_asked_for(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    script = "trap 'echo hup' HUP; trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done"
    cli("run", "-d", "--name", "signals", "busybox", "sh", "-c", script)
    _until(lambda: "ready" in cli("logs", "signals").stdout)
    cli("kill", "-s", "HUP", "signals")
    _until(lambda: "hup" in cli("logs", "signals").stdout)
    cli("kill", "--signal", "SIGUSR1", "signals")
    assert cli("wait", "signals").stdout == "5\n"
    result = cli("kill", "signals", check=False)
    assert result.returncode == 1
    assert "is not running" in result.stderr


@pytest.mark.row("RUN-18")
def test_restart_gives_a_new_start_time_and_the_same_id(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("run", "-d", "--name", "again", "busybox", "sleep", "100").stdout.strip()
    before = cli("inspect", "-f", "{{.State.StartedAt}}", "again").stdout
    cli("restart", "-t", "0", "again")
    after = cli("inspect", "-f", "{{.Id}} {{.State.Running}} {{.State.StartedAt}}", "again").stdout.split()
    assert after[:2] == [id, "true"]
    assert after[2] != before.strip()


@pytest.mark.row("RUN-19")
def test_pause_freezes_and_unpause_resumes(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "-d", "--name", "frozen", "busybox", "sleep", "100")
    cli("pause", "frozen")
    assert "(Paused)" in cli("ps", "--format", "{{.Status}}").stdout
    result = cli("exec", "frozen", "true", check=False)
    assert "is paused, unpause the container before exec" in result.stderr
    cli("unpause", "frozen")
    assert cli("exec", "frozen", "echo", "alive").stdout == "alive\n"


@pytest.mark.row("RUN-23", "RUN-24")
def test_exec_runs_in_the_container_with_its_own_settings(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("run", "-d", "--name", "host", "-e", "A=1", "busybox", "sleep", "100").stdout.strip()
    assert cli("exec", "host", "hostname").stdout == f"{id[:12]}\n"
    assert (
        cli("exec", "-e", "B=2", "-w", "/tmp", "-u", "app", "host", "sh", "-c", "echo $A$B $(pwd) $(id -u)").stdout
        == "12 /tmp 1000\n"
    )
    assert cli("exec", "host", "sh", "-c", "exit 9", check=False).returncode == 9
    assert cli("exec", "host", "nosuch", check=False).returncode == 127
    cli("exec", "-d", "host", "touch", "/made")
    _until(lambda: cli("exec", "host", "ls", "/made", check=False).returncode == 0)
    cli("kill", "host")
    result = cli("exec", "host", "true", check=False)
    assert result.returncode == 1
    assert f"Container {id} is not running" in result.stderr.replace("container ", "Container ")


@pytest.mark.row("RUN-23")
def test_exec_takes_input_until_its_end(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "host", "busybox", "sleep", "100")
    assert engine.docker("exec", "-i", "host", "cat", input="one\ntwo").stdout == "one\ntwo"


@pytest.mark.row("API-08", "RUN-04")
def test_the_end_of_input_reaches_the_program(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert cli("run", "-i", "--rm", "busybox", "cat", input="hi\n").stdout == "hi\n"
    assert cli("run", "-i", "--rm", "busybox", "wc", "-c", input="").stdout.strip() == "0"


@pytest.mark.parametrize("program", ["docker", "boxship"])
def test_a_hundred_megabytes_pass_unchanged(engine: Engine, program: str) -> None:
    data = os.urandom(1 << 20) * 100
    words = ("docker",) if program == "docker" else (sys.executable, "-c", "from boxship.cli.main import main; main()")
    result = subprocess.run(
        [*engine.namespace.prefix(), *words, "run", "-i", "--rm", "busybox", "cat"],
        input=data,
        capture_output=True,
        env=engine.client_environment(),
        timeout=110,
        check=True,
    )
    assert hashlib.sha256(result.stdout).hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.row("LOG-02", "RUN-26")
def test_logs_have_tail_since_and_timestamps(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "--name", "talk", "busybox", "sh", "-c", "for i in 1 2 3; do echo line $i; done; echo oops >&2")
    result = cli("logs", "talk")
    assert (result.stdout, result.stderr) == ("line 1\nline 2\nline 3\n", "oops\n")
    assert cli("logs", "talk", "--tail", "2").stdout == "line 3\n"
    assert cli("logs", "--since", "2002-10-02", "--until", "2002-10-03", "talk").stdout == ""
    stamped = cli("logs", "-t", "--tail", "2", "talk").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 3\n", stamped)


@pytest.mark.row("LOG-02")
def test_logs_follow_until_the_end(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert cli("logs", "-f", "slow").stdout == "1\n2\n3\n"


@pytest.mark.row("RUN-26")
def test_wait_and_rename(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    id = cli("run", "-d", "--name", "old", "busybox", "sh", "-c", "sleep 0.3; exit 7").stdout.strip()
    cli("rename", "old", "new")
    assert cli("wait", "new").stdout == "7\n"
    assert cli("inspect", "-f", "{{.Id}} {{.Name}}", "new").stdout == f"{id} /new\n"


@pytest.mark.row("RUN-28")
def test_top_lists_the_processes(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "-d", "--name", "top", "busybox", "sleep", "100")
    header, row = cli("top", "top").stdout.splitlines()
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert row.endswith("sleep 100")


@pytest.mark.row("MON-07")
def test_events_tell_the_life_of_a_container(
    cli: Callable[..., subprocess.CompletedProcess[str]], engine: Engine
) -> None:
    begun = int(time.time())
    cli("run", "--rm", "--name", "short", "busybox", "true")
    lines = cli(
        "events",
        "--since",
        str(begun),
        "--until",
        str(int(time.time()) + 1),
        "--filter",
        "container=short",
        "--format",
        "{{.Action}}",
    ).stdout
    words = [word for word in lines.split() if word in ("create", "attach", "start", "die", "destroy")]
    assert words == ["create", "attach", "start", "die", "destroy"]


def test_events_since_zero_are_all_that_are_kept(engine: Engine) -> None:
    engine.docker("create", "--name", "remembered", "busybox")
    lines = engine.docker(
        "events", "--since", "0", "--until", str(int(time.time()) + 1), "--filter", "container=remembered"
    )
    assert "container create" in lines.stdout


@pytest.mark.row("MON-05")
def test_stats_measure_a_busy_container(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    cli("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    line = cli("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}").stdout.split()
    assert line[0] == "busy"
    assert float(line[1].rstrip("%")) > 5
    assert line[2] == "1"


@pytest.mark.row("RUN-04", "RUN-06", "CLI-21")
def test_a_shell_on_a_terminal_follows_the_windows_size(engine: Engine, terminal: Open) -> None:
    shell = terminal(engine, "run", "--rm", "-it", "busybox", "sh", rows=30, columns=100)
    shell.expect("/ # ")
    shell.send("stty size\n")
    shell.expect("30 100")
    shell.resize(40, 120)
    shell.send('until [ "$(stty size)" = "40 120" ]; do :; done; echo res""ized\n')
    shell.expect("resized")
    shell.send("tty; exit 3\n")
    shell.expect("/dev/pts/0|/dev/console")
    assert shell.wait() == 3


@pytest.mark.row("RUN-23")
def test_exec_on_a_terminal_follows_the_windows_size(engine: Engine, terminal: Open) -> None:
    engine.docker("run", "-d", "--name", "host", "busybox", "sleep", "100")
    shell = terminal(engine, "exec", "-it", "host", "sh", rows=31, columns=101)
    shell.expect("/ # ")
    shell.send("stty size\n")
    shell.expect("31 101")
    shell.resize(41, 121)
    shell.send('until [ "$(stty size)" = "41 121" ]; do :; done; echo res""ized\n')
    shell.expect("resized")
    shell.send("exit 4\n")
    assert shell.wait() == 4


@pytest.mark.row("RUN-05", "RUN-25")
def test_detach_keys_leave_the_container_running_and_attach_rejoins(engine: Engine, terminal: Open) -> None:
    first = terminal(engine, "run", "-it", "--name", "stay", "busybox", "sh")
    first.expect("/ # ")
    first.send("\x10\x11")
    assert first.wait() == 0
    assert engine.docker("ps", "--format", "{{.Names}}").stdout == "stay\n"
    second = terminal(engine, "attach", "--detach-keys", "ctrl-a,x", "stay")
    second.send("echo again$((1+1))\n")
    second.expect("again2")
    second.send("\x01x")
    second.wait()
    assert engine.docker("ps", "--format", "{{.Names}}").stdout == "stay\n"
    engine.docker("rm", "-f", "stay")


@pytest.mark.row("RUN-25")
def test_attach_without_a_terminal_sees_output_and_gives_the_exit_code(engine: Engine) -> None:
    engine.docker("run", "-d", "-i", "--name", "echo", "busybox", "sh", "-c", "read line; echo got $line; exit 6")
    with subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "attach", "echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=engine.client_environment(),
        text=True,
    ) as attached:
        assert attached.stdin is not None
        attached.stdin.write("word\n")
        attached.stdin.flush()  # its end would end the attachment, as in Docker
        assert attached.stdout is not None
        assert attached.stdout.read() == "got word\n"
        assert attached.wait(20) == 6


@pytest.mark.row("IMG-14", "IMG-15", "IMG-25")
def test_save_and_load_keep_the_id(engine: Engine) -> None:
    before = engine.docker("images", "-q", "--no-trunc", "busybox").stdout
    path = engine.root / "saved.tar"
    engine.docker("save", "-o", str(path), "busybox")
    engine.docker("tag", "busybox", "keep")
    engine.docker("rmi", "busybox", "keep")
    assert engine.docker("load", "-i", str(path)).stdout == "Loaded image: busybox:latest\n"
    assert engine.docker("images", "-q", "--no-trunc", "busybox").stdout == before
    path.unlink()


@pytest.mark.row("RUN-27")
def test_inspect_has_the_fields_tools_read(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "seen", "-e", "A=1", "-l", "k=v", "busybox", "sleep", "100")
    status, document = engine.api("GET", "/containers/seen/json")
    assert status == 200
    assert document["Name"] == "/seen"
    assert document["State"]["Status"] == "running"
    assert document["State"]["Pid"] > 0
    assert document["Config"]["Labels"] == {"k": "v"}
    assert "A=1" in document["Config"]["Env"]
    assert document["GraphDriver"]["Name"] == "overlay2"
    assert document["GraphDriver"]["Data"]["MergedDir"].startswith(str(engine.data_root))
    for key in ("HostsPath", "HostnamePath", "ResolvConfPath", "LogPath"):
        assert os.path.exists(document[key]), key
    assert os.path.exists(document["GraphDriver"]["Data"]["MergedDir"] + "/bin/busybox")


@pytest.mark.row("CLI-07", "ENG-25", "ENG-26")
def test_version_and_info_print(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert "Server:" in cli("version").stdout
    info = cli("info").stdout
    for text in ("Storage Driver: overlay2", "Cgroup Driver: cgroupfs", "Docker Root Dir: ", "Swarm: inactive"):
        assert text in info


def _until(holds: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "that did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "words", ["rm ..", "rm -f ..", "volume rm ..", "network rm ..", "rmi ..", "start ..", "inspect .."]
)
def test_a_name_that_the_router_takes_for_a_path_is_not_there(engine: Engine, words: str) -> None:
    ours, theirs = engine.boxship(*words.split(), check=False), engine.docker(*words.split(), check=False)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert "page not found" in ours.stderr or "No such object" in ours.stderr
