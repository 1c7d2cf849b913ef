"""Further processes in a running container."""

from __future__ import annotations

import threading

import pytest

pytestmark = pytest.mark.system

USER = {"uid": 0, "gid": 0}


@pytest.fixture
def container(host):
    container = host.container("sleep", "1000")
    container.launch().event("running")
    return container


@pytest.mark.row("RUN-23")
def test_output_and_exit_code_come_back(container):
    answer, client = container.control.exec("sh", "-c", "echo out; echo err >&2; exit 7", exec_id="e1")
    assert answer["ok"]
    assert client.read() == (b"out\n", b"err\n")
    event = container.control.event("exec-exited")
    assert (event["exec_id"], event["code"]) == ("e1", 7)


@pytest.mark.row("RUN-23")
def test_the_end_is_reported_before_the_client_sees_it(container):
    """A client that asks for the exit code when its stream has ended must get it."""
    _, client = container.control.exec("sh", "-c", "exit 3")
    client.read()
    container.control.sock.setblocking(False)
    assert container.control.event("exec-exited")["code"] == 3


@pytest.mark.row("RUN-23")
def test_input_is_kept_whole_and_its_end_arrives(container):
    data = b"0123456789abcdef" * 65536
    _, client = container.control.exec("cat", stdin=True, leftover="eHl6")
    client.sock.settimeout(None)

    def send() -> None:
        client.send(data)
        client.half_close()

    thread = threading.Thread(target=send)
    thread.start()
    out, _ = client.read()
    thread.join()
    assert out == b"xyz" + data
    assert container.control.event("exec-exited")["code"] == 0


@pytest.mark.row("RUN-23")
def test_a_terminal_has_its_size_and_takes_a_new_one(container):
    _, client = container.control.exec(
        "sh", "-c", "stty size; read x; stty size", exec_id="tty", tty=True, stdin=True, console_size=[33, 77]
    )
    client.read_until(b"33 77\r\n")
    assert container.control.request("resize", height=44, width=88, exec_id="tty")["ok"]
    client.send(b"\n")
    assert b"44 88\r\n" in client.read_raw()
    assert container.control.event("exec-exited")["code"] == 0
    assert container.control.request("resize", height=1, width=1, exec_id="tty")["ok"] is False


@pytest.mark.row("RUN-24")
def test_a_detached_exec_runs_without_anybody(container, wait_for):
    answer, _ = container.control.exec("sh", "-c", "echo discarded; echo hi > /tmp/out", client=False)
    assert answer["ok"]
    assert container.control.event("exec-exited")["code"] == 0
    assert (container.rootfs.parent / "upper/tmp/out").read_text() == "hi\n"


@pytest.mark.row("RUN-23")
@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc", 126)])
def test_a_program_that_cannot_run_is_an_answer(container, program, code):
    answer, client = container.control.exec(program)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert program in answer["error"]
    assert client.read_raw() == b""
    assert container.control.request("status")["execs"] == {}


def test_several_run_at_once(container):
    started = [container.control.exec("sh", "-c", f"read x; echo {n}", stdin=True) for n in range(10)]
    assert len(container.control.request("status")["execs"]) == 10
    for number, (_, client) in enumerate(started):
        client.send(b"\n")
        assert client.read() == (b"%d\n" % number, b"")
    for _ in started:
        assert container.control.event("exec-exited")["code"] == 0


def test_an_exec_that_leaves_a_child_behind_ends(container):
    _, client = container.control.exec("sh", "-c", "sleep 1000 & echo hi")
    assert client.read() == (b"hi\n", b"")
    assert container.control.event("exec-exited")["code"] == 0


def test_execs_end_with_the_container(container):
    _, client = container.control.exec("sh", "-c", "echo hi; sleep 1000", tty=True)
    client.read_until(b"hi")
    assert container.control.request("kill", signal=9)["ok"]
    client.read_raw()
    assert container.control.event("exec-exited")["code"] == 137
    assert container.control.event("exited")["code"] == 137


@pytest.mark.row("RUN-05")
def test_detach_keys_leave_the_exec_running(container):
    _, client = container.control.exec(
        "sh", "-c", "echo up; cat", exec_id="e", tty=True, stdin=True, detach_keys=[16, 17]
    )
    client.read_until(b"up")
    client.send(b"\x10\x11")
    client.read_raw()
    assert container.control.event("detached")["exec_id"] == "e"
    assert list(container.control.request("status")["execs"]) == ["e"]


def test_a_short_lived_exec_is_never_lost(container):
    """Its end may be seen before the helper process has told its pid."""
    for _ in range(50):
        answer, _ = container.control.exec("true", client=False)
        assert answer["ok"]
        assert container.control.event("exec-exited")["code"] == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "nosuch"},
        {"op": "attach"},
        {"op": "exec"},
        {"op": "exec", "exec_id": "x", "process": 7},
        {"op": "exec", "exec_id": "x", "process": {}},
        {"op": "kill"},
        {"op": "kill", "signal": 999},
        {"op": "resize", "height": "x", "width": None},
        {"op": "resize", "height": 1, "width": 1, "exec_id": "nosuch"},
        {"op": "status", "v": 9},
    ],
)
def test_a_bad_request_is_an_answer(container, request_):
    answer = container.control.request(**request_)
    assert answer["ok"] is False
    assert answer["error"]
    assert container.control.request("status")["state"] == "running"
