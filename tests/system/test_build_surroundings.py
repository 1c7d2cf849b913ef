"""What a build gets from elsewhere: limits and networks of its steps, contexts and files by URL, other images' layers."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PORT = 8099  # in the engine's own network namespace


@pytest.fixture
def web(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """Serve a directory over HTTP beside the engine."""
    root = tmp_path / "web"
    root.mkdir()
    server = subprocess.Popen(
        [
            *engine.namespace.prefix(),
            sys.executable,
            "-m",
            "http.server",
            str(PORT),
            "-b",
            "127.0.0.1",
            "-d",
            str(root),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    probe = [
        *engine.namespace.prefix(),
        sys.executable,
        "-c",
        f"import socket; socket.create_connection(('127.0.0.1', {PORT}))",
    ]
    try:
        until(lambda: subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0, 60)
        yield root
    finally:
        server.kill()
        server.wait(30)


def _build(engine: Engine, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.namespace.prefix(), "docker", "build", *words],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=False,
        timeout=120,
        **{"text": True, "stdin": subprocess.DEVNULL, **options},  # type: ignore[call-overload]
    )


def _context(directory: Path, dockerfile: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return str(directory)


@pytest.mark.row("BLD-28")
def test_limits_and_networks_hold_for_the_steps(engine: Engine, tmp_path: Path) -> None:
    look = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; df -k /dev/shm; ulimit -n"
    context = _context(tmp_path / "c", f"FROM busybox\nRUN {look}; cat /etc/hosts; ls /sys/class/net\n")

    done = _build(
        engine,
        *("-m", "64m", "--shm-size", "1m", "--ulimit", "nofile=77:77", "--add-host", "friend:1.2.3.4"),
        *("--network", "none", "--cpu-shares", "100", "--cpuset-cpus", "0", context),
    )

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["67108864"] in lines
    assert ["77"] in lines
    assert ["1.2.3.4", "friend"] in lines
    assert any(words[:2] == ["shm", "1024"] for words in lines)
    assert ["lo"] in lines and ["eth0"] not in lines


@pytest.mark.row("BLD-30")
def test_a_context_may_be_a_tarball_or_a_dockerfile_by_url_or_stdin(engine: Engine, web: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in (("Dockerfile", b"FROM busybox\nCOPY f /f\nRUN cat /f\n"), ("f", b"from the tarball\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    (web / "context.tar.gz").write_bytes(archive.getvalue())
    (web / "Dockerfile").write_text("FROM busybox\nRUN echo from the file\n")
    url = f"http://127.0.0.1:{PORT}"

    tarball = _build(engine, f"{url}/context.tar.gz")
    file = _build(engine, f"{url}/Dockerfile")
    stdin = _build(engine, "-", stdin=None, input="FROM busybox\nRUN echo from stdin\n")
    missing = _build(engine, f"{url}/nothing")

    assert "from the tarball" in tarball.stdout, tarball.stderr
    assert "from the file\n" in file.stdout, file.stderr
    assert "from stdin\n" in stdin.stdout, stdin.stderr
    assert missing.returncode != 0


@pytest.mark.row("BLD-12")
def test_add_fetches_a_file_and_checks_it(engine: Engine, web: Path, tmp_path: Path) -> None:
    (web / "file.bin").write_bytes(b"fetched\n")
    url = f"http://127.0.0.1:{PORT}/file.bin"
    wrong = f"sha256:{'0' * 64}"

    done = _build(
        engine, _context(tmp_path / "c", f"FROM busybox\nADD {url} /d/\nRUN cat /d/file.bin; stat -c %a /d/file.bin\n")
    )
    refused = _build(engine, _context(tmp_path / "c", f"FROM busybox\nADD --checksum={wrong} {url} /d/\n"))

    assert "fetched\n600\n" in done.stdout, done.stderr
    assert refused.returncode != 0 and "digest mismatch" in refused.stderr


@pytest.mark.row("BLD-06")
def test_layers_of_an_image_from_elsewhere_serve(engine: Engine, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    context = _context(directory, "FROM busybox\nENV A=1\nRUN echo 1 > /1\nCOPY f /f\nRUN echo 2 > /2\n")
    (directory / "f").write_text("text")
    other = Engine()
    try:
        other.start()
        assert _build(engine, "-t", "origin", context).returncode == 0
        saved = tmp_path / "origin.tar"
        engine.docker("save", "-o", str(saved), "origin", "busybox")
        other.docker("load", "-i", str(saved))

        served = _build(other, "-t", "again", "--cache-from", "origin", context)
        (directory / "f").write_text("changed")
        changed = _build(other, "--cache-from", "origin", context)
        fresh = _build(other, "--no-cache", "--cache-from", "origin", context)
        ids = [
            each.docker("image", "inspect", "-f", "{{.Id}}", name).stdout
            for each, name in ((engine, "origin"), (other, "again"))
        ]
    finally:
        other.close()

    assert served.stdout.count("Using cache") >= 3, served.stdout + served.stderr
    assert ids[0] == ids[1]
    assert 1 <= changed.stdout.count("Using cache") <= 2
    assert fresh.stdout.count("Using cache") == 0


@pytest.fixture
def repository(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """Serve a git repository with a branch and a directory; its URL."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "repositories"
    made = root / "app.git"
    (made / "sub").mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM busybox\nRUN echo the branch main\n")
    (made / "sub/Dockerfile").write_text("FROM busybox\nCOPY f /f\nRUN cat /f; ls -a /\n")
    (made / "sub/f").write_text("in the directory\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "one"), ("branch", "other")):
        subprocess.run(["git", *identity, *words], cwd=made, check=True, stdout=subprocess.DEVNULL)
    server = subprocess.Popen(
        [
            *engine.namespace.prefix(),
            *(
                "git",
                "daemon",
                "--export-all",
                "--reuseaddr",
                "--listen=127.0.0.1",
                "--port=9418",
                f"--base-path={root}",
            ),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = "git://127.0.0.1/app.git"
    probe = [*engine.namespace.prefix(), "git", "ls-remote", url]
    try:
        until(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, 60)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.mark.row("BLD-12")
@pytest.mark.row("BLD-30")
def test_a_context_may_be_a_directory_of_a_repository(engine: Engine, repository: str, tmp_path: Path) -> None:
    def remote(url: str) -> str:
        status, text = engine.api("POST", f"/build?remote={quote(url, safe='')}")
        return f"{status} {text}"

    added = _build(engine, _context(tmp_path / "c", f"FROM busybox\nADD {repository}#other:sub /r/\nRUN ls -A /r\n"))

    assert "the branch main" in remote(repository)
    assert "in the directory" in remote(f"{repository}#other:sub")
    assert "/f" not in remote(f"{repository}#nothing") and "Successfully" not in remote(f"{repository}#other:../..")
    assert "Dockerfile\nf\n" in added.stdout, added.stderr
    assert not list((engine.data_root / "build/scratch").iterdir())


def test_provenance_names_the_commit_of_a_repository(engine: Engine, repository: str) -> None:
    listed = subprocess.run(
        [*engine.namespace.prefix(), "git", "ls-remote", repository, "refs/heads/other"],
        capture_output=True,
        text=True,
        check=True,
    )
    remote, asked = quote(f"{repository}#other:sub", safe=""), quote(json.dumps({"provenance": {}}), safe="")
    engine.api("POST", f"/build?remote={remote}&attestations={asked}&t=from-git")
    _, (row,) = engine.api("GET", "/images/from-git/attestations?statement=1")
    definition = row["Statement"]["predicate"]["buildDefinition"]
    source = {"uri": f"{repository}#other:sub", "digest": {"sha1": listed.stdout.split()[0]}}
    assert definition["externalParameters"]["configSource"] == {**source, "path": "Dockerfile"}
    assert source in definition["resolvedDependencies"]
    assert not [row for row in definition["resolvedDependencies"] if row["uri"] == "local:context"]
