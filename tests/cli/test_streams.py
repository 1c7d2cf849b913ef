"""Attached containers: both directions, half-close, exit codes, signals, terminals."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import termios

import pytest

from harness.fake_engine import CONTAINER, FakeEngine, frame, hijacked
from harness.terminal import Terminal

STDOUT, STDERR = 1, 2


def prepare(engine: FakeEngine, attach, *, status: int = 0) -> None:
    engine.answers["POST", "/containers/create"] = (201, {"Id": CONTAINER})
    engine.answers["POST", f"/containers/{CONTAINER}/attach"] = attach
    engine.answers["POST", f"/containers/{CONTAINER}/wait"] = (200, {"StatusCode": status})
    for verb in ("start", "resize", "kill"):
        engine.answers["POST", f"/containers/{CONTAINER}/{verb}"] = (204, None)


@pytest.mark.row("RUN-02", "RUN-07")
def test_output_goes_to_its_own_stream_and_the_exit_code_is_the_containers(engine, boxship) -> None:
    prepare(engine, hijacked(frame(STDOUT, b"out\n") + frame(STDERR, b"err\n")), status=42)
    assert boxship("run", "busybox", "x") == (42, "out\n", "err\n")
    assert [(r.method, r.path.rpartition("/")[2]) for r in engine.requests] == [
        ("HEAD", "_ping"),
        ("POST", "create"),
        ("POST", "attach"),
        ("POST", "wait"),
        ("POST", "start"),
    ]


@pytest.mark.row("RUN-02")
def test_frames_may_come_in_any_pieces(engine, boxship) -> None:
    whole = b"".join(frame(1 + i % 2, f"line {i}\n".encode()) for i in range(50))
    prepare(engine, hijacked(*(whole[i : i + 1] for i in range(len(whole)))))
    status, out, err = boxship("run", "busybox")
    assert (status, len(out.splitlines()), len(err.splitlines())) == (0, 25, 25)


@pytest.mark.row("RUN-04")
def test_megabytes_pass_both_ways_unchanged_and_the_end_of_input_closes_one_half(engine, boxship) -> None:
    data = random.Random(1).randbytes(5 << 20)
    prepare(engine, hijacked(echo=True))
    done = subprocess.run(
        [*boxship.command, "run", "-i", "busybox", "cat"],
        input=data,
        capture_output=True,
        env=boxship.environment,
        timeout=60,
        check=True,
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


@pytest.mark.row("RUN-02")
def test_an_error_frame_ends_the_command(engine, boxship) -> None:
    prepare(engine, hijacked(frame(3, b"disk on fire")))
    assert boxship("run", "busybox") == (1, "", "error from daemon in stream: disk on fire\n")


@pytest.mark.row("RUN-23")
def test_exec_returns_the_commands_exit_code(engine, boxship) -> None:
    engine.answers["GET", "/containers/web/json"] = (200, {"Id": CONTAINER})
    engine.answers["POST", "/containers/web/exec"] = (201, {"Id": "e1"})
    engine.answers["POST", "/exec/e1/start"] = hijacked(frame(STDOUT, b"hi\n"))
    engine.answers["GET", "/exec/e1/json"] = (200, {"ExitCode": 9})
    assert boxship("exec", "-e", "A=1", "web", "echo", "-n", "hi") == (9, "hi\n", "")
    body = engine.requests[2].body
    assert (body["Cmd"], body["Env"], body["AttachStdin"]) == (["echo", "-n", "hi"], ["A=1"], False)


@pytest.mark.row("CLI-21", "RUN-44")
def test_a_signal_is_handed_on_to_the_container(engine, boxship) -> None:
    def attach(connection, _request) -> None:
        hijack_head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        connection.sendall(hijack_head + frame(STDOUT, b"ready\n"))
        connection.recv(1)  # until the client goes

    prepare(engine, attach)
    engine.answers["POST", f"/containers/{CONTAINER}/kill"] = (204, None)
    process = subprocess.Popen(
        [*boxship.command, "run", "busybox"], stdout=subprocess.PIPE, env=boxship.environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        while not any(request.path.endswith("/kill") for request in list(engine.requests)):
            assert process.poll() is None
        assert next(r.query for r in engine.requests if r.path.endswith("/kill")) == ("signal=USR1",)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def terminal_run(engine: FakeEngine, boxship, *, status: int = 0) -> Terminal:
    def attach(connection, _request) -> None:
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n# ")
        while data := connection.recv(4096):
            connection.sendall(b"[" + data + b"]")
            if b"x" in data:
                return

    prepare(engine, attach, status=status)
    return Terminal([*boxship.command, "run", "-it", "busybox", "sh"], env=boxship.environment, rows=30, columns=100)


@pytest.mark.row("RUN-04", "CLI-21")
def test_a_terminal_is_raw_while_attached_and_as_before_afterwards(engine, boxship) -> None:
    terminal = terminal_run(engine, boxship, status=5)
    try:
        terminal.expect("# ")
        raw = termios.tcgetattr(terminal._master)
        terminal.send("\x03x")
        terminal.expect(r"\[.*x\]")
        assert terminal.wait() == 5
        assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert termios.tcgetattr(terminal._master)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    finally:
        terminal.close()


@pytest.mark.row("CLI-21")
def test_a_new_window_size_reaches_the_engine(engine, boxship) -> None:
    terminal = terminal_run(engine, boxship)
    try:
        terminal.expect("# ")
        while ("h=30", "w=100") not in [r.query for r in list(engine.requests)]:
            assert terminal.process.poll() is None
        terminal.resize(41, 77)
        while ("h=41", "w=77") not in [r.query for r in list(engine.requests)]:
            assert terminal.process.poll() is None
        terminal.send("x")
        assert terminal.wait() == 0
    finally:
        terminal.close()


@pytest.mark.row("RUN-05")
def test_the_detach_keys_leave_the_container_alone(engine, boxship) -> None:
    terminal = terminal_run(engine, boxship, status=3)
    try:
        terminal.expect("# ")
        terminal.send("\x10\x11")
        assert terminal.wait() == 0
        assert "[" not in terminal.output
    finally:
        terminal.close()


@pytest.mark.row("RUN-01")
def test_a_missing_image_is_pulled_once_and_the_progress_goes_to_stderr(engine, boxship) -> None:
    prepare(engine, hijacked())
    missing = {"message": "No such image: busybox:latest"}
    engine.answers["POST", "/containers/create"] = [(404, missing), (201, {"Id": CONTAINER})]
    engine.answers["POST", "/images/create"] = (200, {"status": "Pulling from library/busybox", "id": "latest"})
    status, out, err = boxship("run", "-d", "busybox")
    assert (status, out) == (0, CONTAINER + "\n")
    assert err == "Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\n"
    pull = next(request for request in engine.requests if request.path.endswith("/images/create"))
    assert pull.query == ("fromImage=docker.io%2Flibrary%2Fbusybox", "tag=latest")
