"""``boxship build --debug``: shells in failed steps, and how builds go on after them."""

from __future__ import annotations

import http.client
import io
import json
import socket
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.terminal import Terminal
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

CLI = (sys.executable, "-c", "import sys; from boxship.cli.main import main; sys.exit(main())")
QUESTION = r"or give up \[g\]\? "
SECONDS = 60.0

Start = Callable[..., Terminal]


@pytest.fixture
def start(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Builds on terminals, which are hung up at the end."""
    opened: list[Terminal] = []

    def build(*words: str) -> Terminal:
        program = [*engine.namespace.prefix(), *CLI, "build", "--debug", *words]
        opened.append(Terminal(program, env=engine.client_environment(), columns=200))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


def _context(directory: Path, dockerfile: str) -> str:
    (directory / "Dockerfile").write_text(dockerfile)
    return str(directory)


def _left(engine: Engine) -> list[object]:
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{engine.exec_root}/" in line]
    scratch = [str(path) for path in (engine.data_root / "build/scratch").iterdir()]
    own = [line for line in mounts if "/netns/" not in line]
    return [*engine.docker("ps", "-aq").stdout.split(), *own, *scratch]


def _shell(terminal: Terminal, command: str, pattern: str) -> None:
    """Type a command and wait for what it prints; what is typed is shown too, so it says it in another way."""
    terminal.send(f"{command}\n")
    terminal.expect(pattern, SECONDS)


@pytest.mark.parametrize("progress", ["tty", "plain"])
def test_a_failed_step_has_a_shell_with_all_it_had_and_then_runs_again(
    engine: Engine, start: Start, tmp_path: Path, progress: str
) -> None:
    (tmp_path / "value").write_text("hidden")
    dockerfile = f"""FROM busybox
RUN mkdir /work && chown 1234 /work
USER 1234
WORKDIR /work
ENV COLOR=blue
RUN --mount=type=secret,id=token,uid=1234 --mount=type=secret,id=token,env=TOKEN --mount=type=bind,target=/context \\
    --mount=type=cache,id=debug-{progress},target=/cache,uid=1234 \\
    echo trace > made; test -e /cache/repaired || {{ echo {progress} is not repaired; exit 7; }}
RUN test ! -e /work/stray && cat made
"""
    secret = f"id=token,src={tmp_path / 'value'}"
    terminal = start("--secret", secret, "--progress", progress, "-t", "debugged", _context(tmp_path, dockerfile))
    terminal.expect(rf"{progress} is not repaired\r?\n", SECONDS)
    terminal.expect(r"What you change here is not kept", SECONDS)
    words = 'echo "$(id -u) $PWD $COLOR $TOKEN $(cat /run/secrets/token made) $(ls /context | head -n 1) $((6 * 7))"'
    _shell(terminal, words, "1234 /work blue hidden hiddentrace Dockerfile 42")
    _shell(terminal, "touch stray; echo $PATH | tr : '\\n' | tail -n 1 | tr a-z A-Z", "/SYS/FIRMWARE/BIN")  # the tools
    _shell(terminal, "touch /cache/repaired; exit", QUESTION)
    terminal.send("r\n")
    assert terminal.wait(SECONDS) == 0, terminal.output
    assert "STOPPED" in terminal.output or progress == "tty"
    assert "image sha256:" in terminal.output
    assert engine.docker("run", "--rm", "debugged", "sh", "-c", "ls /work").stdout == "made\n"
    assert _left(engine) == []


def test_the_build_can_go_on_with_the_dockerfile_as_it_is_now(engine: Engine, start: Start, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN date +%s > /first\nRUN echo no; exit 3\n"
    terminal = start("--progress", "plain", "-t", "edited", _context(tmp_path, text))
    terminal.expect("not kept", SECONDS)
    _shell(terminal, "cat /first | tr 0-9 d", "d{10}\r\n")
    first = engine.api("GET", "/containers/json")[1]
    assert len(first) == 1  # the shell
    _context(tmp_path, text.replace("exit 3", "echo yes > /second"))
    right = (tmp_path / "Dockerfile").read_text()
    _context(tmp_path, f"{right}RUNN mistake\n")
    _shell(terminal, "exit", QUESTION)
    terminal.send("b\n")
    terminal.expect(r">>> RUNN mistake", SECONDS)
    terminal.expect(QUESTION, SECONDS)
    _context(tmp_path, right)
    terminal.send("b\n")
    assert terminal.wait(SECONDS) == 0, terminal.output
    assert terminal.output.count("CACHED") == 1
    assert engine.docker("run", "--rm", "edited", "cat", "/second").stdout == "yes\n"
    assert _left(engine) == []


def test_stages_that_stop_at_the_same_time_are_shown_one_after_the_other(
    engine: Engine, start: Start, tmp_path: Path
) -> None:
    mount = "--mount=type=cache,id=debug-two,target=/c"
    text = f"""FROM busybox AS one
RUN {mount} test -e /c/one && touch /one
FROM busybox AS two
RUN {mount} test -e /c/two && touch /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
"""
    terminal = start("-t", "both", _context(tmp_path, text))
    for _ in range(2):
        terminal.expect("not kept", SECONDS)
        _shell(terminal, "touch /c/one /c/two; exit", QUESTION)
        terminal.send("r\n")
    assert terminal.wait(SECONDS) == 0, terminal.output
    assert engine.docker("run", "--rm", "both", "ls", "/one", "/two").stdout == "/one\n/two\n"
    assert _left(engine) == []


def test_giving_up_ends_the_build_as_without_debugging(engine: Engine, start: Start, tmp_path: Path) -> None:
    terminal = start("--progress", "plain", _context(tmp_path, "FROM busybox\nRUN echo left > /left; exit 9\n"))
    terminal.expect("not kept", SECONDS)
    _shell(terminal, "exit", QUESTION)
    terminal.send("s\n")  # another shell first
    _shell(terminal, "cat /left | tr a-z A-Z", "LEFT\r\n")
    _shell(terminal, "exit", QUESTION)
    terminal.send("what\n")
    terminal.expect(QUESTION, SECONDS)
    terminal.send("g\n")
    assert terminal.wait(SECONDS) == 9
    assert "returned a non-zero code: 9" in terminal.output
    (kept,) = engine.docker("ps", "-aq").stdout.split()
    engine.docker("rm", kept)
    assert _left(engine) == []


def test_a_client_that_leaves_takes_the_shell_and_the_step_with_it(
    engine: Engine, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "value").write_text("hidden")
    text = "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=bind,target=/context exit 9\n"
    secret = f"id=token,src={tmp_path / 'value'}"
    terminal = start("--secret", secret, "--progress", "plain", _context(tmp_path, text))
    terminal.expect("not kept", SECONDS)
    _shell(terminal, "cat /run/secrets/token | tr a-z A-Z", "HIDDEN")
    assert len(_left(engine)) > 3
    terminal.process.kill()
    until(lambda: _left(engine) == [], 30)


def test_a_killed_daemon_leaves_nothing_of_a_shell(start: Start, engine: Engine, tmp_path: Path) -> None:
    terminal = start("--progress", "plain", _context(tmp_path, "FROM busybox\nRUN exit 9\n"))
    terminal.expect("not kept", SECONDS)
    _shell(terminal, "echo $((6 * 7))", "42")
    engine.kill()
    engine.start()
    terminal.expect(QUESTION, SECONDS)  # the shell outlived the daemon, but not its successor's start
    terminal.send("r\n")
    assert terminal.wait(SECONDS) == 1
    # The failed container is left for its user, as after any build.
    (kept,) = engine.docker("ps", "-aq").stdout.split()
    engine.docker("rm", kept)
    until(lambda: _left(engine) == [], 30)


def test_a_program_that_is_not_there_has_a_shell_too(engine: Engine, start: Start, tmp_path: Path) -> None:
    text = 'FROM scratch\nENV A=b\nRUN ["/no/such/program"]\n'
    terminal = start("--progress", "plain", "--force-rm", _context(tmp_path, text))
    terminal.expect("no such file or directory", SECONDS)
    terminal.expect("not kept", SECONDS)
    _shell(terminal, "echo $A$((6 * 7))", "b42")
    _shell(terminal, "exit", QUESTION)
    terminal.send("\x04")  # the end of input
    assert terminal.wait(SECONDS) == 1
    assert _left(engine) == []


def test_debugging_needs_a_person(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path, "FROM busybox\nRUN exit 9\n")
    done = engine.boxship("build", "--debug", context, check=False)
    assert (done.returncode, done.stdout) == (1, "") and "--debug needs a terminal" in done.stderr
    done = engine.boxship("build", "--debug", "--progress", "quiet", context, check=False)
    assert "--debug needs the output of a build" in done.stderr
    assert engine.api("POST", "/boxship/build/stopped/1234/retry")[0] == 404
    assert engine.api("POST", "/boxship/build/stopped/1234/shell")[0] == 404


def test_shells_that_are_asked_for_at_once_and_a_decision_meanwhile_leave_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        text = b"FROM busybox\nRUN --mount=type=bind,target=/context exit 9\n"
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(SECONDS)
    connection.sock.connect(str(engine.socket))
    try:
        connection.request("POST", "/boxship/build?debug=1&forcerm=1", archive.getvalue())
        answer = connection.getresponse()

        def stopped() -> str:
            while (event := json.loads(answer.readline()))["event"] != "stopped":
                pass
            return f"/boxship/build/stopped/{event['container']}"

        for round_ in range(3):
            step = stopped()
            with ThreadPoolExecutor(4) as clients:
                asked = [clients.submit(engine.api, "POST", f"{step}/shell?h=24&w=80") for _ in range(3)]
                last = round_ == 2
                decided = clients.submit(engine.api, "POST", f"{step}/{'abandon?rm=1' if last else 'retry'}")
                assert decided.result()[0] == 204
                assert {each.result()[0] for each in asked} <= {201, 404, 409}
        assert json.loads(answer.read().splitlines()[-1])["event"] == "aborted"
        assert engine.api("POST", f"{step}/retry")[0] == 404
    finally:
        connection.close()
    until(lambda: _left(engine) == [], 30)
