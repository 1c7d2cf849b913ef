"""Containers on another OCI runtime, for which runc stands."""

from __future__ import annotations

import json
import shutil

import pytest

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")

pytestmark = [pytest.mark.system, pytest.mark.skipif(RUNC is None, reason="runc is not installed")]

RUNTIME = {"path": RUNC, "args": []}
PROCESS = {"args": [], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


@pytest.mark.row("RUN-07")
def test_output_and_exit_code_come_back(host):
    container = host.container("sh", "-c", "echo out; echo err >&2; exit 42", runtime=RUNTIME)
    exited = container.run()
    assert (exited["event"], exited["code"]) == ("exited", 42), exited
    assert b"out\\n" in container.log.read_bytes()
    assert json.loads((container.state_dir / "exit.json").read_text())["code"] == 42


@pytest.mark.row("RUN-04")
def test_input_and_a_terminal_work(host):
    container = host.container("cat", runtime=RUNTIME, stdio={"stdin": True, "stdin_once": True})
    control = container.launch()
    client = control.attach(stdin=True)
    client.send(b"hello")
    client.half_close()
    assert client.read() == (b"hello", b"")
    assert control.event("exited")["code"] == 0

    container = host.container(
        "sh", "-c", "read x; stty size", runtime=RUNTIME, stdio={"tty": True, "stdin": True, "stdin_once": True}
    )
    control = container.launch()
    client = control.attach(stdin=True)
    control.request("resize", height=50, width=132)
    client.send(b"\n")
    assert b"50 132\r\n" in client.read_raw()


@pytest.mark.row("RUN-23")
def test_exec_and_kill_go_through_the_runtime(host):
    container = host.container("sleep", "1000", runtime=RUNTIME)
    control = container.launch()
    control.event("running")
    answer, client = control.exec("sh", "-c", "echo hi; exit 7")
    assert answer["ok"], answer
    assert client.read() == (b"hi\n", b"")
    assert control.event("exec-exited")["code"] == 7
    answer, client = control.exec("stty", "size", tty=True, console_size=[33, 77])
    assert answer["ok"], answer
    assert b"33 77" in client.read_raw()
    answer, _ = control.exec("nosuch", client=False)
    assert (answer["ok"], answer["code"]) == (False, 127)
    assert "executable file not found" in answer["error"]
    assert control.request("kill", signal=9)["ok"]
    assert control.event("exited")["code"] == 137
    control.wait_closed()
    assert container.left_behind() == []


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc", 126)])
def test_a_failed_start_has_the_runtime_s_words(host, program, code):
    container = host.container(program, runtime=RUNTIME)
    failed = container.run()
    assert (failed["event"], failed["code"]) == ("failed", code), failed
    assert program in failed["error"]
    assert container.left_behind() == []


def test_a_runtime_that_is_not_there_is_named(host):
    container = host.container("true", runtime={"path": "/nonexistent/runtime", "args": ["--flag"]})
    failed = container.run()
    assert failed["event"] == "failed"
    assert "/nonexistent/runtime" in failed["error"]
