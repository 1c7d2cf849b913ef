"""Secrets of builds: as large as BuildKit takes them, shown as their mounts ask, and nowhere afterwards."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SECRET = hashlib.sha256(b"a secret of builds").hexdigest()


def _context(directory: Path, dockerfile: str) -> str:
    (directory / "Dockerfile").write_text(dockerfile)
    return str(directory)


def _post(engine: Engine, body: bytes, length: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(engine.socket))
        head = f"POST /build HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Boxship-Secrets: {length}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer


def _holders(engine: Engine) -> list[str]:
    """Return the files of the engine and the processes of this host that have the secret in them."""
    found = []
    for root in (engine.data_root, engine.exec_root, engine.log):
        for path in [root] if root.is_file() else root.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
                    found.append(str(path))
    for process in Path("/proc").iterdir():
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                if process.name.isdecimal() and SECRET.encode() in (process / name).read_bytes():
                    found.append(f"{process}/{name}")
    return found


@pytest.mark.row("BLD-29")
def test_a_secret_may_have_500_kb(engine: Engine, tmp_path: Path) -> None:
    large = os.urandom(500 * 1024)
    (tmp_path / "large").write_bytes(large)
    text = (
        "FROM busybox\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,target=/b cat /run/secrets/a /b > /copy\n"
    )
    one, two = f"id=a,src={tmp_path}/large", f"type=file,id=b,source={tmp_path}/large"
    engine.boxship("build", "-t", "large", "--secret", one, "--secret", two, _context(tmp_path, text))
    digest = engine.docker("run", "--rm", "large", "sha256sum", "/copy").stdout.split()[0]
    assert digest == hashlib.sha256(large * 2).hexdigest()
    (tmp_path / "large").write_bytes(large + b"x")
    done = engine.boxship("build", "--secret", one, str(tmp_path), check=False)
    assert (done.returncode, done.stderr) == (1, "secret a too big. max size 500KB\n")


@pytest.mark.row("BLD-10")
def test_a_secret_is_shown_as_its_mount_asks(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "from outside")
    text = """FROM busybox
RUN --mount=type=secret,id=p stat -c '%a %u %g' /run/secrets/p
RUN --mount=type=secret,id=p,target=/etc/p,mode=0440,uid=7,gid=8 stat -c '%a %u %g' /etc/p
RUN --mount=type=secret,id=p,env=P test "$P" = "from outside" && test ! -e /run/secrets/p && echo as a variable
RUN --mount=type=secret,id=p,env=P,target=/p test "$P" = "$(cat /p)" && echo as both
RUN --mount=type=secret,id=none test ! -e /run/secrets/none && echo without
RUN --mount=type=secret,id=p cat /run/secrets/p > /run/secrets/p || echo read-only
"""
    command = ("build", "--progress", "plain", "--secret", "type=env,id=p,env=PASSWORD", _context(tmp_path, text))
    shown = engine.boxship(*command).stderr
    for words in ("400 0 0", "440 7 8", "as a variable", "as both", "without", "read-only"):
        assert f" {words}\n" in shown
    wanted = _context(tmp_path, "FROM busybox\nRUN --mount=type=secret,id=none,required true\n")
    done = engine.boxship("build", wanted, check=False)
    assert done.returncode == 1 and done.stderr.endswith("ERROR: secret none: not found\n")


def test_a_secret_is_nowhere_after_a_build_that_went_well_or_not(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(SECRET)
    text = """FROM busybox
RUN --mount=type=secret,id=s wc -c /run/secrets/s
RUN --mount=type=secret,id=s,env=S echo ${#S}
"""
    place = f"id=s,src={tmp_path}/value"
    engine.boxship("build", "-t", "clean", "--secret", place, _context(tmp_path, text))
    failing = _context(tmp_path, text + "RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=S exit 3\n")
    assert engine.boxship("build", "--secret", place, failing, check=False).returncode == 3
    assert engine.docker("history", "--no-trunc", "clean").stdout.count(SECRET) == 0
    (failed,) = engine.docker("ps", "-aq").stdout.split()
    assert SECRET not in engine.docker("inspect", failed).stdout
    assert _holders(engine) == []
    engine.docker("rm", failed)


def test_a_secret_is_nowhere_after_the_daemon_was_killed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(SECRET)
    text = "FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,env=S echo begun; sleep 600\n"
    place, done = f"id=s,src={tmp_path}/value", []
    command = ("build", "--secret", place, _context(tmp_path, text))
    client = threading.Thread(target=lambda: done.append(engine.boxship(*command, check=False)))
    client.start()
    until(lambda: engine.docker("ps", "-q").stdout.strip(), 60)
    engine.kill()
    client.join(60)
    engine.start()
    until(lambda: not engine.docker("ps", "-aq").stdout.strip(), 60)
    until(lambda: _holders(engine) == [], 30)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert not [line for line in mounts if f"{engine.exec_root}/build" in line]


def test_what_is_no_secret_is_refused(engine: Engine) -> None:
    document = json.dumps({"a": base64.b64encode(b"x" * (500 * 1024 + 1)).decode()}).encode()
    for body, length, words in (
        (b"{}", "x", "the header X-Boxship-Secrets is no number of bytes"),
        (b"{}", "-1", "the header X-Boxship-Secrets is no number of bytes"),
        (b"{}", "00000000099999999999", "the header X-Boxship-Secrets is no number of bytes"),
        (b"{}", "100", "the body ended before its secrets did"),
        (b"[]", "2", "the secrets are not a JSON object of texts in base64"),
        (b'{"a": 1}', "8", "the secrets are not a JSON object of texts in base64"),
        (b"[" * 100_000, "100000", "the secrets are not a JSON object of texts in base64"),
        (document, str(len(document)), "secret a too big. max size 500KB"),
    ):
        status, answer = _post(engine, body, length)
        assert (status, words in answer) == (400, True), answer
