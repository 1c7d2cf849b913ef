"""From the start document to the exit record."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from boxship.wire import jsonlog, messages

pytestmark = pytest.mark.system


def logged(path: Path, stream: str = "stdout") -> bytes:
    records = jsonlog.parse_lines(path.read_bytes().splitlines())
    return b"".join(record.log for record in records if record.stream == stream)


@pytest.mark.row("RUN-07", "RUN-08", "LOG-01", "LOG-03")
def test_output_is_logged_by_stream_and_the_exit_code_recorded(host):
    container = host.container("sh", "-c", "echo out; echo err >&2; printf partial; exit 42")
    exited = container.run()
    assert (exited["event"], exited["code"], exited["signal"], exited["oom"]) == ("exited", 42, 0, False)
    assert logged(container.log) == b"out\npartial"
    assert logged(container.log, "stderr") == b"err\n"
    record = json.loads((container.state_dir / "exit.json").read_text())
    assert record["code"] == 42
    assert record["finished_at"] == exited["finished_at"]
    assert record["log_dropped"] == 0


@pytest.mark.row("RUN-07")
@pytest.mark.parametrize(("script", "code", "number"), [("true", 0, 0), ("false", 1, 0), ("kill -9 $$", 0, 0)])
def test_exit_codes(host, script, code, number):
    exited = host.container("sh", "-c", script).run()
    # A kill of itself does nothing to PID 1.
    assert (exited["code"], exited["signal"]) == (code, number)


@pytest.mark.row("RUN-07")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143)])
def test_death_by_signal_is_128_and_the_signal(host, wait_for, number, code):
    container = host.container("sh", "-c", "trap 'exit 143' TERM; echo up; while :; do sleep 0.01; done")
    control = container.launch()
    control.event("running")
    wait_for(lambda: container.log.read_bytes(), "the trap")
    assert control.request("kill", signal=int(number), all=False)["ok"]
    assert control.event("exited")["code"] == code


@pytest.mark.row("RUN-10")
def test_children_die_with_the_first_process(host):
    container = host.container("sh", "-c", "sleep 1000 & sleep 1000 & exit 3")
    assert container.run()["code"] == 3


@pytest.mark.row("RUN-10")
def test_children_in_the_host_s_pid_namespace_die_too(host):
    container = host.container(
        "sh", "-c", "sleep 1000 & echo hi; exit 3", namespaces=("mount", "network", "ipc", "uts")
    )
    assert container.run()["code"] == 3
    assert logged(container.log) == b"hi\n"


def test_state_names_container_and_shim_without_doubt(host):
    container = host.container("sleep", "1000")
    control = container.launch()
    running = control.event("running")
    state = json.loads((container.state_dir / "state.json").read_text())
    assert state["v"] == 1
    assert state["pid"] == running["pid"]
    assert state["shim_pid"] == container.shim_pid
    for pid, key in ((state["pid"], "pid_start_time"), (state["shim_pid"], "shim_start_time")):
        assert state[key] == int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert (container.state_dir / "shim.sock").stat().st_mode & 0o777 == 0o600
    status = control.request("status")
    assert (status["pid"], status["started_at"], status["state"]) == (running["pid"], running["started_at"], "running")
    control.request("kill", signal=9)
    assert control.event("exited")["signal"] == 9


def test_an_init_with_a_user_namespace_outlives_its_starter(host):
    container = host.container("sh", "-c", "cat /proc/self/uid_map; sleep 0.2; exit 7")
    linux = container.start_document["spec"]["linux"]
    linux["namespaces"].append({"type": "user"})
    for mappings in ("uidMappings", "gidMappings"):
        linux[mappings] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    assert container.run()["code"] == 7
    assert logged(container.log).split() == [b"0", b"0", b"65536"]


@pytest.mark.row("RUN-46")
@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc", 126)])
def test_a_failed_start_leaves_nothing(host, program, code):
    container = host.container(program)
    failed = container.run()
    assert (failed["event"], failed["code"]) == ("failed", code)
    assert failed["error"]
    assert container.left_behind() == []
    assert sorted(path.name for path in container.state_dir.iterdir()) == []


@pytest.mark.parametrize("broken", ["rootfs", "log", "seccomp", "resources"])
def test_a_start_that_fails_anywhere_leaves_nothing(host, broken):
    container = host.container("true")
    start = container.start_document
    if broken == "rootfs":
        start["rootfs"]["lower"] = ["/nonexistent"]
    elif broken == "log":
        start["log"]["path"] = "/nonexistent/log"
    elif broken == "seccomp":
        start["seccomp"] = "/nonexistent"
    else:
        start["spec"]["linux"]["resources"] = {"cpu": {"cpus": "999"}}
    failed = container.run()
    assert (failed["event"], failed["code"]) == ("failed", 128)
    assert container.left_behind() == []


def test_the_same_container_starts_again_at_once(host):
    container = host.container("sh", "-c", "echo run >> /count; wc -l < /count")
    for count in range(1, 6):
        assert container.run()["code"] == 0
        assert logged(container.log).split()[-1] == str(count).encode()


@pytest.mark.row("LOG-09")
def test_without_a_log_nothing_is_written(host):
    container = host.container("echo", "hi", log={"driver": "none"})
    assert container.run()["code"] == 0
    assert not container.log.exists()


def test_a_bind_root_filesystem_is_used_as_it_is(host, busybox):
    container = host.container("ls", "/bin/busybox")
    container.start_document["rootfs"] |= {"type": "bind", "upper": str(busybox), "lower": [], "work": ""}
    assert container.run()["code"] == 0


def test_hundreds_of_layers_fit(host, tmp_path):
    container = host.container("sh", "-c", "cat /l0 /l399")
    layers = []
    for number in range(400):
        layer = tmp_path / f"a-layer-with-a-rather-long-name-{number}"
        layer.mkdir()
        (layer / f"l{number}").write_text(f"{number}\n")
        layers.append(str(layer))
    container.start_document["rootfs"]["lower"] = [*layers, *container.start_document["rootfs"]["lower"]]
    assert container.run()["code"] == 0
    assert logged(container.log) == b"0\n399\n"


def test_the_program_holds_three_descriptors_only(host):
    container = host.container("ls", "/proc/self/fd")
    assert container.run()["code"] == 0
    # 3 is the directory that ls reads.
    assert logged(container.log).split() == [b"0", b"1", b"2", b"3"]


def test_the_launcher_survives_bad_requests(host):
    for message, fds in [
        ({}, 0),
        ({"op": "nosuch"}, 0),
        ({"op": "shim"}, 1),
        ({"op": "shim", "start": []}, 1),
        ({"op": "shim", "start": {}}, 1),
        ({"op": "shim", "start": {"state_dir": "relative"}}, 1),
        ({"op": "shim", "start": {"state_dir": "/nonexistent"}}, 0),
        ({"op": "netns"}, 0),
        ({"op": "netns", "path": "/nonexistent/netns"}, 0),
        ({"op": "ping", "v": 2}, 0),
    ]:
        with open(os.devnull) as file:
            answer, _ = host.request(message, (file.fileno(),) * fds)
        assert answer["ok"] is False
        assert answer["error"]
    assert host.request({"op": "ping"})[0]["ok"] is True


def test_a_shim_with_a_broken_start_document_says_so(host, tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answer, _ = host.request({"op": "shim", "start": {"state_dir": str(tmp_path / "s")}}, (theirs.fileno(),))
        theirs.close()
        ours.settimeout(30)
        assert answer["ok"]
        message, _ = messages.receive(ours)
        assert message["event"] == "failed"
        with pytest.raises(EOFError):
            messages.receive(ours)


def test_a_network_namespace_has_its_loopback_up(host, tmp_path):
    path = tmp_path / "netns"
    answer, fds = host.request({"op": "netns", "path": str(path)})
    try:
        assert answer["ok"]
        with socket.socket(fileno=fds[0]) as route:
            assert (route.family, route.proto) == (socket.AF_NETLINK, 0)
        container = host.container("sh", "-c", "ip addr show lo; readlink /proc/self/ns/net")
        for namespace in container.start_document["spec"]["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = str(path)
        assert container.run()["code"] == 0
        assert b"LOOPBACK,UP" in logged(container.log)
        assert str(path.stat().st_ino).encode() in logged(container.log)
    finally:
        os.system(f"umount {path}")
    path.unlink()
    answer, fds = host.request({"op": "netns", "path": str(tmp_path)})
    assert (answer["ok"], fds) == (False, [])
