"""Hostile contexts, archives and repositories of builds: the parts of B5 that need files."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

Member = tuple[str, bytes, str]  # name, type of tarfile, content or link

SECRET = "of the host, not of the image"


def archive(members: Sequence[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(text.encode("latin1"))
                tar.addfile(entry, io.BytesIO(text.encode("latin1")))
            else:
                entry.linkname = text
                tar.addfile(entry)
    return buffer.getvalue()


def build(engine: Engine, context: bytes, query: str = "") -> list[dict[str, Any]]:
    """Build with an archive and return the messages."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(120)
    connection.sock.connect(str(engine.socket))
    try:
        connection.request(
            "POST", f"/build?nocache=1&forcerm=1&{query}", context, {"Content-Type": "application/x-tar"}
        )
        answer = connection.getresponse().read().decode()
    finally:
        connection.close()
    return [json.loads(line) for line in answer.splitlines()]


def error(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("error", messages[-1].get("message", "")))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the host with one file."""
    path = tmp_path / "victim"
    path.mkdir()
    (path / "file").write_text(SECRET)
    return path


@pytest.mark.parametrize("source", ["out/file", "up", "root/file", "../victim/file", "/../../file", "out"])
def test_b5_links_and_ways_up_lead_nowhere_out_of_a_context(engine: Engine, victim: Path, source: str) -> None:
    context = archive(
        [
            ("Dockerfile", tarfile.REGTYPE, f"FROM busybox\nCOPY {source} /copied\n"),
            ("out", tarfile.SYMTYPE, str(victim)),
            ("up", tarfile.SYMTYPE, "../" * 20 + str(victim).lstrip("/") + "/file"),
            ("root", tarfile.SYMTYPE, "/proc/self/root" + str(victim)),
        ]
    )

    said = error(build(engine, context))

    assert "forbidden path outside the build context" in said or "file does not exist" in said


@pytest.mark.parametrize(
    "members",
    [
        [("way", tarfile.SYMTYPE, "{victim}"), ("way/planted", tarfile.REGTYPE, "x")],
        [("way", tarfile.SYMTYPE, "{victim}"), ("taken", tarfile.LNKTYPE, "way/file")],
        [("taken", tarfile.LNKTYPE, "{victim}/file")],
        [("way", tarfile.SYMTYPE, "/"), ("taken", tarfile.LNKTYPE, "way/{victim}/file")],
        [("../../../../../../../../../../{victim}/planted", tarfile.REGTYPE, "x")],
        [("{victim}/planted", tarfile.REGTYPE, "x"), ("{victim}/.wh.file", tarfile.REGTYPE, "")],
        [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/planted", tarfile.REGTYPE, "x")],
    ],
)
@pytest.mark.parametrize("instruction", ["ADD inner.tar /deep/er/", "COPY . /deep/er/"])
def test_b5_archives_reach_nothing_of_the_host(
    engine: Engine, victim: Path, members: Sequence[Member], instruction: str
) -> None:
    filled = [(name.format(victim=victim), kind, text.format(victim=victim)) for name, kind, text in members]
    is_added = instruction.startswith("ADD")
    inner = [("inner.tar", tarfile.REGTYPE, archive(filled).decode("latin1"))] if is_added else filled
    pattern = f"[{SECRET[0]}]{SECRET[1:]}"  # does not find itself in the Dockerfile
    dockerfile = f"FROM busybox\n{instruction}\nRUN grep -rl '{pattern}' /deep /tmp /taken 2>/dev/null; true\n"

    messages = build(engine, archive([("Dockerfile", tarfile.REGTYPE, dockerfile), *inner]))

    said = "".join(message.get("stream", "") for message in messages)
    assert "victim/file\n" not in said and "taken\n" not in said
    assert sorted(os.listdir(victim)) == ["file"]
    assert (victim / "file").read_text() == SECRET
    assert (victim / "file").stat().st_nlink == 1
    assert not list((engine.data_root / "build/scratch").iterdir())


def test_b5_a_dockerfile_that_dockerignore_names_builds_and_is_not_copied(engine: Engine) -> None:
    context = archive(
        [
            ("Dockerfile", tarfile.REGTYPE, "FROM busybox\nCOPY . /c/\nRUN find /c -type f\n"),
            (".dockerignore", tarfile.REGTYPE, "Dockerfile\n.dockerignore\n"),
            ("kept", tarfile.REGTYPE, "x"),
        ]
    )

    messages = build(engine, context)

    said = "".join(message.get("stream", "") for message in messages)
    assert error(messages) == ""
    assert "/c/kept\n" in said and "/c/Dockerfile" not in said and "/c/.dockerignore" not in said


@pytest.fixture
def repository(engine: Engine, victim: Path, tmp_path: Path) -> Iterator[str]:
    """Serve a repository with a link out and with submodules on branches of their own; its URL."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    made = tmp_path / "repositories/app.git"
    made.mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM busybox\n")
    (made / "link").symlink_to(victim)
    identity = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "core.symlinks=true",
    )

    def git(*words: str) -> str:
        return subprocess.run(["git", *identity, *words], cwd=made, check=True, capture_output=True, text=True).stdout

    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "one")):
        git(*words)
    commit = git("rev-parse", "HEAD").strip()
    for name, url in (
        ("local", f"file://{made}"),
        ("path", str(made)),
        ("command", f"ext::sh -c 'touch {victim}/run'"),
    ):
        git("checkout", "-q", "-B", name, "main")
        (made / ".gitmodules").write_text(
            f'[submodule "s"]\n\tpath = s\n\turl = {url}\n\tupdate = !touch {victim}/run\n'
        )
        git("update-index", "--add", "--cacheinfo", f"160000,{commit},s")
        git("add", ".gitmodules")
        git("commit", "-qm", name)
    git("checkout", "-q", "main")
    server = subprocess.Popen(
        [
            *engine.namespace.prefix(),
            *("git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", "--port=9419"),
            f"--base-path={made.parent}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = "git://127.0.0.1:9419/app.git"
    probe = [*engine.namespace.prefix(), "git", "ls-remote", url]
    try:
        until(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, 60)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.mark.parametrize("fragment", ["main:link", "main:link/..", "main:../..", "local", "path", "command"])
def test_b5_directories_and_submodules_of_a_repository(
    engine: Engine, repository: str, victim: Path, fragment: str
) -> None:
    remote = quote(f"{repository}#{fragment}", safe="")

    assert error(build(engine, b"", "remote=" + quote(f"{repository}#main", safe=""))) == ""
    assert error(build(engine, b"", f"remote={remote}"))

    assert sorted(os.listdir(victim)) == ["file"]
    assert not list((engine.data_root / "build/scratch").iterdir())
