"""Rows RUN and CLI of the feature table with both command lines: what a person types, and what comes back."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable

import pytest

from harness.engine import Engine
from harness.terminal import Terminal
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
Open = Callable[..., Terminal]


@pytest.mark.row("RUN-01")
def test_pull_options_of_run(cli: CLI) -> None:
    assert cli("run", "--rm", "--pull", "never", "busybox", "echo", "here").stdout == "here\n"
    assert "No such image: nosuch:latest" in cli("run", "--pull", "never", "nosuch", check=False).stderr
    bad = cli("run", "--pull", "bogus", "busybox", check=False)
    assert (bad.returncode, "invalid pull option: 'bogus'" in bad.stderr) == (125, True)


@pytest.mark.row("RUN-01", "NET-03")
@pytest.mark.parametrize("mode", ["nosuch", "container:nosuch"])
def test_a_missing_network_is_named_and_no_image_pulled(cli: CLI, mode: str) -> None:
    result = cli("run", "--name", "lost", "--network", mode, "busybox", "true", check=False)
    assert result.returncode == 125
    assert "Unable to find image" not in result.stderr
    assert ("network nosuch not found" if mode == "nosuch" else "No such container: nosuch") in result.stderr
    assert cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout == "lost Created\n"


@pytest.mark.row("RUN-06", "RUN-09", "RUN-10")
def test_a_shell_without_input_ends_at_once_and_takes_its_children_along(cli: CLI, engine: Engine) -> None:
    assert cli("run", "--name", "empty", "busybox").stdout == ""
    assert cli("ps", "-q").stdout == ""
    assert cli("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (0) ")
    cli("run", "--name", "parent", "busybox", "sh", "-c", "sleep 987 & exit 3", check=False)
    assert cli("inspect", "-f", "{{.State.ExitCode}} {{.State.Pid}}", "parent").stdout == "3 0\n"
    assert "sleep 987" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.row("RUN-07", "CLI-08", "RUN-10")
def test_a_killed_container_gives_137_and_a_terminated_one_143(cli: CLI) -> None:
    for signal, code in (("KILL", 137), ("TERM", 143)):
        cli(
            "run", "-d", "--name", signal, "busybox", "sh", "-c", "trap 'exit 143' TERM; while :; do usleep 20000; done"
        )
        cli("kill", "-s", signal, signal)
        assert cli("wait", signal).stdout == f"{code}\n"


@pytest.mark.row("RUN-11", "RUN-12")
def test_names_are_checked_or_made_up(cli: CLI) -> None:
    bad = cli("create", "--name", "bad name", "busybox", check=False)
    assert (
        bad.returncode,
        "Invalid container name (bad name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in bad.stderr,
    ) == (
        1,
        True,
    )
    names = {cli("inspect", "-f", "{{.Name}}", cli("create", "busybox").stdout.strip()).stdout for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"/[a-z]+_[a-z]+\d*\n", name) for name in names)


@pytest.mark.row("RUN-13")
def test_rm_takes_anonymous_volumes_along_and_conflicts_with_restart(cli: CLI) -> None:
    cli("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x")
    until(lambda: cli("ps", "-aq").stdout == "")
    assert cli("volume", "ls", "-q").stdout == ""
    both = cli("run", "--rm", "--restart", "always", "busybox", check=False)
    assert (both.returncode, "conflicting options: cannot specify both --restart and --rm" in both.stderr) == (
        125,
        True,
    )


@pytest.mark.row("RUN-14", "RUN-15")
def test_create_makes_no_process_and_start_prints_what_was_typed(cli: CLI) -> None:
    id = cli("create", "--name", "made", "busybox", "sleep", "100").stdout
    assert re.fullmatch("[0-9a-f]{64}\n", id)
    assert cli("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "made").stdout == "created 0\n"
    assert cli("start", "made", id[:12]).stdout == f"made\n{id[:12]}\n"
    wrong = cli("start", "nosuch", check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert (
        wrong.stderr
        == "Error response from daemon: No such container: nosuch\nError: failed to start containers: nosuch\n"
    )


@pytest.mark.row("RUN-15", "RUN-04")
def test_start_with_input_feeds_the_program(cli: CLI) -> None:
    cli("create", "-i", "--name", "asks", "busybox", "sh", "-c", "read name; echo hello $name; exit 5")
    result = cli("start", "-a", "-i", "asks", input="bob\n", check=False)
    assert (result.stdout, result.returncode) == ("hello bob\n", 5)


@pytest.mark.row("RUN-04")
def test_input_and_terminal_of_the_prompt_demo(engine: Engine, cli: CLI, terminal: Open) -> None:
    script = "[ -t 0 ] && printf 'Name: '; read name; echo Hello $name!"
    assert cli("run", "--rm", "busybox", "sh", "-c", script).stdout == "Hello !\n"
    assert cli("run", "--rm", "-i", "busybox", "sh", "-c", script, input="ann\n").stdout == "Hello ann!\n"
    shell = terminal(engine, "run", "--rm", "--interactive", "--tty", "busybox", "sh", "-c", script)
    shell.expect("Name: ")
    shell.send("ann\n")
    shell.expect("Hello ann!")
    assert shell.wait() == 0


@pytest.mark.row("RUN-05")
def test_own_detach_keys_leave_the_container_running(engine: Engine, terminal: Open) -> None:
    shell = terminal(engine, "run", "-ti", "--detach-keys", "ctrl-x", "--name", "stay", "busybox", "sh")
    shell.expect("/ # ")
    shell.send("\x18")
    shell.wait()
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "stay").stdout == "true\n"


@pytest.mark.row("RUN-05", "API-08")
def test_a_client_that_sends_the_keys_is_detached_and_it_shows_in_events(engine: Engine) -> None:
    begun = int(time.time())
    engine.docker("run", "-dit", "--name", "stay", "busybox", "sh")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.settimeout(20)
        path = "/containers/stay/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x"
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: v1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"\x18")
        while client.recv(4096):
            pass
    query = ("events", "--since", str(begun), "--until", str(int(time.time()) + 1), "-f", "event=detach")
    assert engine.docker(*query, "--format", "{{.Action}}").stdout == "detach\n"
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "stay").stdout == "true\n"


@pytest.mark.row("RUN-16", "RUN-17")
def test_stop_and_kill_choose_the_signal(cli: CLI) -> None:
    script = (
        'for s in INT USR1 HUP TERM; do trap "echo $s; exit 9" $s; done; echo ready; while :; do usleep 20000; done'
    )
    for stop, signal in (
        (("stop", "-s", "INT"), "INT"),
        (("stop",), "USR1"),
        (("kill", "-s", "1"), "HUP"),
        (("kill", "--signal=SIGTERM"), "TERM"),
    ):
        cli("run", "-d", "--name", "ears", "--stop-signal", "SIGUSR1", "busybox", "sh", "-c", script)
        until(lambda: "ready" in cli("logs", "ears").stdout)
        assert cli(*stop, "ears").stdout == "ears\n"
        assert cli("wait", "ears").stdout == "9\n"
        assert cli("logs", "--tail", "1", "ears").stdout == f"{signal}\n"
        cli("rm", "ears")
    for command in (("create", "--stop-signal", "BOGUS", "busybox"), ("kill", "-s", "BOGUS", "nosuch")):
        assert cli(*command, check=False).returncode == 1
    assert "invalid signal: BOGUS" in cli(
        "create", "--stop-signal", "BOGUS", "busybox", check=False
    ).stderr.lower().replace("bogus", "BOGUS")


@pytest.mark.row("RUN-16")
def test_the_default_time_of_stop_can_be_set_with_the_container(cli: CLI) -> None:
    cli("run", "-d", "--name", "deaf", "--stop-timeout", "1", "busybox", "sleep", "100")
    cli("stop", "deaf")
    assert cli("inspect", "-f", "{{.State.ExitCode}}", "deaf").stdout == "137\n"
    assert cli("stop", "deaf").stdout == "deaf\n"


@pytest.mark.row("RUN-18", "RUN-21", "RUN-15")
def test_changes_of_the_writable_layer_stay(cli: CLI) -> None:
    cli("run", "-d", "--name", "layer", "busybox", "sleep", "100")
    cli("exec", "layer", "sh", "-c", "echo kept > /kept")
    assert cli("restart", "-t", "0", "layer").stdout == "layer\n"
    assert cli("exec", "layer", "cat", "/kept").stdout == "kept\n"
    cli("stop", "-t", "0", "layer")
    assert "layer" in cli("ps", "-a").stdout
    cli("start", "layer")
    assert cli("exec", "layer", "cat", "/kept").stdout == "kept\n"


@pytest.mark.row("RUN-19")
def test_a_paused_container_refuses_exec_and_can_be_stopped(cli: CLI) -> None:
    id = cli("run", "-d", "--name", "frozen", "busybox", "sh", "-c", "while :; do usleep 10000; done").stdout.strip()
    assert cli("pause", "frozen").stdout == "frozen\n"
    result = cli("exec", "frozen", "true", check=False)
    assert (
        result.stderr == "Error response from daemon: Container frozen is paused, unpause the container before exec\n"
    )
    assert f"Container {id} is already paused" in cli("pause", "frozen", check=False).stderr
    assert re.fullmatch(r"Up .* \(Paused\)\n", cli("ps", "--format", "{{.Status}}").stdout)
    assert cli("unpause", "frozen").stdout == "frozen\n"
    assert f"Container {id} is not paused" in cli("unpause", "frozen", check=False).stderr
    cli("pause", "frozen")
    cli("rm", "-f", "frozen")


@pytest.mark.row("RUN-20", "CLI-02", "CLI-12")
def test_rm_of_several_with_the_flag_last(cli: CLI) -> None:
    for name in ("one", "two"):
        cli("run", "-d", "--name", name, "-v", "/v", "busybox", "sleep", "100")
    result = cli("container", "rm", "one", "nosuch", "two", "-f", "-v")
    assert (result.stdout, result.stderr) == ("one\ntwo\n", "Error response from daemon: No such container: nosuch\n")
    assert cli("volume", "ls", "-q").stdout == ""
    missing = cli("rm", "nosuch", check=False)
    assert (missing.returncode, missing.stderr) == (1, "Error response from daemon: No such container: nosuch\n")


@pytest.mark.row("RUN-20")
def test_many_running_containers_can_be_removed_by_force(engine: Engine) -> None:
    names = [f"victim{number}" for number in range(12)]
    for name in names:
        engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 1000; true")
    for name in names:
        assert engine.docker("rm", "-f", name).stdout == f"{name}\n"


@pytest.mark.row("RUN-22", "CLI-13", "CLI-14", "CLI-10")
def test_ps_shows_its_columns(cli: CLI) -> None:
    cli("create", "--name", "first", "busybox")
    cli("run", "-d", "--name", "last", "-p", "6379:6379", "busybox", "sleep", "100000000000000000")
    id = cli("ps", "-lq", "--no-trunc").stdout.strip()
    header, row = cli("ps").stdout.splitlines()
    assert re.split(r"\s{3,}", header) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    cells = re.split(r"\s{3,}", row)
    assert cells[:3] == [id[:12], "busybox", '"sleep 1000000000000…"']
    assert cells[5:] == ["0.0.0.0:6379->6379/tcp", "last"]
    assert row.index("busybox") == header.index("IMAGE")
    assert cli("ps", "--no-trunc").stdout.splitlines()[1].startswith(f"{id}   ")
    assert '"sleep 100000000000000000"' in cli("ps", "--no-trunc").stdout
    assert cli("container", "ls", "-l", "--format", "{{.Names}}").stdout == "last\n"
    assert cli("ps", "-n", "2", "--format", "{{.Names}}").stdout == "last\nfirst\n"
    assert re.fullmatch(r"0B \(virtual [\d.]+MB\)\n", cli("ps", "-s", "--format", "{{.Size}}").stdout)
    assert cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout.endswith("first Created\n")


@pytest.mark.row("RUN-23")
def test_exec_answers_for_users_and_programs_that_are_not_there(cli: CLI, tmp_path: object) -> None:
    cli("run", "-d", "--name", "host", "busybox", "sleep", "100")
    assert cli("exec", "host", "sh", "-c", "echo $PPID").stdout == "0\n"
    assert (
        cli("exec", "host", "readlink", "/proc/self/ns/pid").stdout
        == cli("exec", "host", "readlink", "/proc/1/ns/pid").stdout
    )
    unknown = cli("exec", "-u", "nosuch", "host", "true", check=False)
    assert (unknown.returncode, unknown.stdout.strip()) == (
        126,
        "unable to find user nosuch: no matching entries in passwd file",
    )
    assert cli("exec", "host", "/etc", check=False).returncode == 126
    file = f"{tmp_path}/env"
    with open(file, "w") as out:
        out.write("FROM_FILE=1\n")
    assert cli("exec", "--env-file", file, "host", "sh", "-c", "echo $FROM_FILE").stdout == "1\n"
    plain = int(cli("exec", "host", "sh", "-c", "grep CapEff /proc/self/status | cut -f2").stdout, 16)
    whole = int(cli("exec", "--privileged", "host", "sh", "-c", "grep CapEff /proc/self/status | cut -f2").stdout, 16)
    assert plain & whole == plain != whole


@pytest.mark.row("RUN-24")
def test_a_detached_exec_prints_nothing_and_appears_in_top(cli: CLI) -> None:
    cli("run", "-d", "--name", "host", "busybox", "sleep", "100")
    assert cli("exec", "-d", "host", "sh", "-c", "echo noise; exec sleep 77").stdout == ""
    until(lambda: "sleep 77" in cli("top", "host").stdout)
    assert cli("logs", "host").stdout == ""
    assert cli("exec", "-d", "host", "nosuch", check=False).returncode != 0


@pytest.mark.row("RUN-25")
def test_attach_refuses_what_does_not_run_and_passes_signals_on(cli: CLI, engine: Engine) -> None:
    cli("create", "--name", "idle", "busybox", "sleep", "100")
    stopped = cli("attach", "idle", check=False)
    assert (stopped.returncode, stopped.stderr) == (1, "You cannot attach to a stopped container, start it first\n")
    cli("start", "idle")
    cli("pause", "idle")
    assert "You cannot attach to a paused container, unpause it first" in cli("attach", "idle", check=False).stderr
    cli("unpause", "idle")
    script = "trap 'echo got; exit 8' INT; while :; do echo tick; usleep 20000; done"
    cli("run", "-d", "--name", "ears", "busybox", "sh", "-c", script)
    with subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "attach", "--no-stdin", "ears"],
        stdout=subprocess.PIPE,
        env=engine.client_environment(),
        text=True,
    ) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == "tick\n"
        attached.send_signal(2)
        assert attached.stdout.read().splitlines()[-1] == "got"
        assert attached.wait(20) == 8


@pytest.mark.row("RUN-26")
def test_wait_for_several_and_rename_conflicts(cli: CLI) -> None:
    for code in ("3", "4"):
        cli("run", "-d", "--name", f"c{code}", "busybox", "sh", "-c", f"exit {code}")
    assert cli("wait", "c3", "c4").stdout == "3\n4\n"
    taken = cli("rename", "c3", "c4", check=False)
    assert taken.returncode == 1
    assert 'Conflict. The container name "/c4" is already in use by container' in taken.stderr
    assert "Error: failed to rename container named c3" in taken.stderr


@pytest.mark.row("RUN-27", "CLI-15")
def test_inspect_has_every_key_and_its_flags(cli: CLI) -> None:
    import json

    cli("run", "-d", "--name", "seen", "-l", "k=v", "busybox", "sleep", "100")
    [document] = json.loads(cli("inspect", "seen").stdout)
    keys = "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform HostConfig GraphDriver Mounts Config NetworkSettings"
    assert set(keys.split()) <= document.keys()
    state = "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt"
    assert set(state.split()) <= document["State"].keys()
    assert (document["Name"], document["Path"], document["Args"]) == ("/seen", "sleep", ["100"])
    template = '{{.State.Status}} {{json .Args}} {{join .Config.Cmd ","}} {{upper .Name}} {{len .Args}} {{index .Config.Labels "k"}}'
    assert cli("inspect", "-f", template, "seen").stdout == 'running ["100"] sleep,100 /SEEN 1 v\n'
    sized = json.loads(cli("inspect", "-s", "seen").stdout)[0]
    assert sized["SizeRootFs"] > 1_000_000
    assert "SizeRw" in sized
    assert json.loads(cli("inspect", "--type", "image", "busybox").stdout)[0]["RepoTags"] == ["busybox:latest"]
    missing = cli("inspect", "nosuch", check=False)
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "[]\n", "Error: No such object: nosuch\n")
    wrong = cli("inspect", "-f", "{{.Bogus}}", "seen", check=False)
    assert (wrong.returncode, 'map has no entry for key "Bogus"' in wrong.stderr) == (1, True)


@pytest.mark.row("RUN-28")
def test_top_takes_options_of_ps(cli: CLI) -> None:
    cli("run", "-d", "--name", "busy", "busybox", "sleep", "100")
    assert cli("top", "busy", "aux").stdout.split()[:3] == ["USER", "PID", "%CPU"]
    pid, name = cli("top", "busy", "-o", "pid,comm").stdout.splitlines()[1].split()
    assert (name, pid) == ("sleep", cli("inspect", "-f", "{{.State.Pid}}", "busy").stdout.strip())
    wrong = cli("top", "busy", "bogus", check=False)
    assert (wrong.returncode, "unsupported option" in wrong.stderr) == (1, True)


@pytest.mark.row("RUN-29")
def test_port_lists_and_finds_ports(cli: CLI) -> None:
    cli("run", "-d", "--name", "web", "-p", "8080:80", "-p", "53:53/udp", "busybox", "sleep", "100")
    assert cli("port", "web").stdout == "53/udp -> 0.0.0.0:53\n80/tcp -> 0.0.0.0:8080\n"
    assert cli("port", "web", "80").stdout == cli("port", "web", "80/tcp").stdout == "0.0.0.0:8080\n"
    none = cli("port", "web", "81", check=False)
    assert (none.returncode, none.stderr) == (1, "Error: No public port '81' published for web\n")
    wrong = cli("port", "web", "http", check=False)
    assert wrong.stderr == 'Error: invalid port (http): strconv.ParseUint: parsing "http": invalid syntax\n'


@pytest.mark.row("CLI-01")
def test_both_forms_of_the_verbs_do_the_same(cli: CLI) -> None:
    assert cli("container", "run", "--rm", "busybox", "echo", "x").stdout == "x\n"
    cli("container", "create", "--name", "made", "busybox")
    for one, *others in (
        (("ps", "-a"), ("container", "ls", "-a"), ("container", "list", "-a"), ("container", "ps", "-a")),
        (("images",), ("image", "ls"), ("image", "list")),
        (("volume", "ls"), ("volume", "list")),
        (("network", "ls"), ("network", "list")),
    ):
        quiet = cli(*one, "-q").stdout
        assert all(cli(*other, "-q").stdout == quiet for other in others)
    for verb in (("rmi",), ("image", "rm"), ("image", "remove")):
        cli("tag", "busybox", "extra")
        assert cli(*verb, "extra").stdout == "Untagged: extra:latest\n"


@pytest.mark.row("CLI-02")
def test_flags_may_stand_after_the_container_but_not_after_the_image(cli: CLI, engine: Engine) -> None:
    cli("run", "--name", "talk", "busybox", "sh", "-c", "echo a; echo b")
    assert cli("logs", "talk", "--tail", "1").stdout == "b\n"
    cli("export", "talk", "-o", str(engine.root / "out.tar"))
    assert (engine.root / "out.tar").stat().st_size > 1_000_000
    (engine.root / "out.tar").unlink()
    late = cli("run", "--rm", "busybox", "--network=none", check=False)
    assert late.returncode == 127
    assert 'exec: "--network=none": executable file not found in $PATH' in late.stderr


@pytest.mark.row("CLI-07", "CLI-09")
def test_versions_help_and_unknown_words(cli: CLI) -> None:
    assert re.fullmatch(r"\w+ version \S+, build \S+\n", cli("--version").stdout)
    help = cli("run", "--help").stdout
    assert "Create and run a new container from an image" in help
    assert "--detach-keys string" in help
    group = cli("container")
    assert "Commands:" in group.stdout + group.stderr
    for words in (("bogus",), ("container", "bogus"), ("volume", "cerate")):
        result = cli(*words, check=False)
        assert (result.returncode, "unknown command: " in result.stderr) == (1, True)
        assert result.stderr.splitlines()[0].endswith(" ".join(words))
        assert "--help' for more information" in result.stderr
    short = cli("-i", "run", check=False)
    assert (short.returncode, short.stderr.splitlines()[0]) == (125, "unknown shorthand flag: 'i' in -i")


@pytest.mark.row("CLI-10", "CLI-11")
def test_prefixes_and_names_of_all_kinds_are_found(cli: CLI, engine: Engine) -> None:
    ids = [cli("create", "--name", f"c{number}", "busybox").stdout.strip() for number in range(17)]
    firsts = [id[0] for id in ids]
    double = next(first for first in firsts if firsts.count(first) > 1)
    several = cli("container", "inspect", double, check=False)
    assert (
        several.returncode,
        "multiple IDs found with provided prefix" in several.stderr.replace("Multiple", "multiple"),
    ) == (1, True)
    assert cli("inspect", "-f", "{{.Name}}", ids[3][:11]).stdout == "/c3\n"
    image = cli("images", "-q", "--no-trunc").stdout.strip().removeprefix("sha256:")
    for reference in ("busybox", "busybox:latest", image[:12], f"sha256:{image}"):
        assert cli("image", "inspect", "-f", "{{.Id}}", reference).stdout == f"sha256:{image}\n"
    network = cli("network", "ls", "-q", "-f", "name=bridge").stdout.strip()
    assert cli("network", "inspect", "-f", "{{.Name}}", network).stdout == "bridge\n"
    for row in engine.api("GET", "/containers/json?all=1")[1]:
        engine.api("DELETE", f"/containers/{row['Id']}?force=1")


@pytest.mark.row("CLI-12")
@pytest.mark.parametrize(
    ("before", "command"),
    [
        ((), "start"),
        (("start",), "kill"),
        (("start",), "pause"),
        (("start", "pause"), "unpause"),
        (("start",), "restart"),
        ((), "rm"),
        (("start",), "stop"),
        ((), "update --cpus=1"),
        ((), "inspect --format={{slice .Name 1}}"),
    ],
)
def test_every_target_is_done_and_every_missing_one_named(cli: CLI, before: tuple[str, ...], command: str) -> None:
    for name in ("aa", "bb"):
        cli("create", "--name", name, "--stop-timeout", "0", "busybox", "sleep", "100")
    for verb in before:
        cli(verb, "aa", "bb")
    verb, *options = command.split(maxsplit=1)
    result = cli(verb, *options, "aa", "nosuch", "bb", check=False)
    assert (result.returncode, result.stdout) == (1, "aa\nbb\n")
    assert result.stderr.startswith(
        ("Error response from daemon: No such container: nosuch", "Error: No such object: nosuch")
    )


@pytest.mark.row("CLI-15")
def test_formats_of_lists(cli: CLI) -> None:
    import json

    cli("run", "-d", "--name", "one", "-l", "a=b", "busybox", "sleep", "100")
    row = json.loads(cli("ps", "--format", "json").stdout)
    assert (row["Names"], row["State"], row["Labels"], row["Command"]) == ("one", "running", "a=b", '"sleep 100"')
    table = cli("ps", "--format", "table {{.Names}}\t{{.Image}}").stdout
    assert table == "NAMES     IMAGE\none       busybox\n"
    assert cli("ps", "--format", '{{if eq .State "running"}}{{upper .Names}}{{end}}').stdout == "ONE\n"
    assert (
        cli(
            "inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{println $n $e.IPPrefixLen}}{{end}}", "one"
        ).stdout
        == "bridge 16\n\n"
    )
    bad = cli("ps", "--format", "{{.Bogus}}", check=False)
    assert (bad.returncode, "can't evaluate field Bogus in type" in bad.stderr) == (1, True)
    torn = cli("ps", "--format", "{{.Names", check=False)
    assert (torn.returncode, "unclosed action" in torn.stderr) == (1, True)


@pytest.mark.row("CLI-16")
def test_filters_of_lists(cli: CLI) -> None:
    run = ("run", "-d", "--name")
    cli("run", "--name", "dead", "busybox", "sh", "-c", "exit 3", check=False)
    cli(*run, "web", "-l", "tier=front", "-p", "8080:80", "--expose", "90", "-v", "/data", "busybox", "sleep", "100")
    cli(*run, "db", "-l", "tier=back", "--network", "none", "busybox", "sleep", "100")

    def names(*filters: str) -> list[str]:
        words = [word for filter in filters for word in ("-f", filter)]
        return cli("ps", "-a", *words, "--format", "{{.Names}}").stdout.split()

    assert names("status=exited") == ["dead"]
    assert names("exited=3") == ["dead"]
    assert names("label=tier=front") == ["web"]
    assert names("label=tier") == ["db", "web"]
    assert names("label=tier", "label=tier=back") == ["db"]
    assert names("name=web", "name=db") == ["db", "web"]
    assert names("name=^/db$") == ["db"]
    assert names("ancestor=busybox") == ["db", "web", "dead"]
    assert names("before=web") == ["dead"]
    assert names("since=web") == ["db"]
    assert names("publish=8080/tcp") == names("expose=90") == names("volume=/data") == ["web"]
    assert names("network=none") == ["db"]
    assert names("health=none", "is-task=false", "id=" + cli("ps", "-q", "-f", "name=db").stdout.strip()) == ["db"]
    assert "nvalid filter 'bogus'" in cli("ps", "-f", "bogus=1", check=False).stderr
    cli("tag", "busybox", "other:1")
    assert cli("images", "-q", "-f", "reference=other:*").stdout == cli("images", "-q", "busybox").stdout
    assert cli("images", "-q", "-f", "dangling=true").stdout == ""
    assert "nvalid filter 'bogus'" in cli("images", "-f", "bogus=1", check=False).stderr
    cli("rmi", "other:1")


@pytest.mark.row("CLI-17", "CLI-08")
def test_output_of_q_goes_into_other_commands(cli: CLI) -> None:
    for _ in range(2):
        cli("run", "busybox", "true")
    ids = cli("ps", "-a", "--no-trunc", "-q").stdout.split()
    assert cli("rm", *ids).stdout.split() == ids
    empty = cli("rm", *cli("ps", "-aq").stdout.split(), check=False)
    assert (empty.returncode, "requires at least 1 argument" in empty.stderr) == (1, True)


@pytest.mark.row("CLI-21")
def test_ctrl_c_reaches_the_program_or_not(engine: Engine, terminal: Open) -> None:
    script = "trap 'echo caught; exit 6' INT; echo ready; while :; do usleep 20000; done"
    on_tty = terminal(engine, "run", "--rm", "-it", "busybox", "sh", "-c", script)
    on_tty.expect("ready")
    on_tty.send("\x03")
    on_tty.expect("caught")
    assert on_tty.wait() == 6
    proxied = terminal(engine, "run", "--rm", "busybox", "sh", "-c", script)
    proxied.expect("ready")
    proxied.send("\x03")
    proxied.expect("caught")
    assert proxied.wait() == 6


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--security-opt=foo=bar", 'invalid --security-opt 2: "foo=bar"'),
        ("--ipc=bogus", "Invalid IPC mode: bogus"),
        ("--isolation=foo", "Invalid isolation: \"foo\" - linux only supports 'default'"),
        ("--cap-add=FOO", 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ("--device=/dev/nosuch", 'custom device "/dev/nosuch": no such file or directory'),
        ("--ip=172.17.0.9", "user specified IP address is supported on user defined networks only"),
        ("--user=nosuch", "Error response from daemon: unable to find user nosuch: no matching entries in passwd file"),
        ("--runtime=nosuch", "unknown or invalid runtime name: nosuch"),
        (
            "--volume=/a:b",
            "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
    ],
)
@pytest.mark.row("CLI-08")
def test_options_that_cannot_be_met_are_refused(cli: CLI, option: str, text: str) -> None:
    result = cli("run", "--rm", option, "busybox", "true", check=False)
    code = 127 if "no such file or directory" in text else 125  # the client judges by these words
    assert (result.returncode, text in result.stderr) == (code, True), result.stderr
