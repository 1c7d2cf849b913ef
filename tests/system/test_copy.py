"""``docker cp`` and the archive routes: Docker's meaning of paths, both ways, in any state of the container."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def archive(files: dict[str, bytes], *, uid: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(data), uid, uid
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def call(
    engine: Engine, method: str, name: str, path: str, body: bytes = b"", query: str = ""
) -> tuple[int, bytes, dict]:
    """Call an archive route; return status, body and the decoded stat header."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(engine.socket))
    connection.request(method, f"/containers/{name}/archive?path={quote(path)}{query}", body)
    response = connection.getresponse()
    try:
        data = response.read()
    except http.client.IncompleteRead as exc:  # what changed in the middle cuts the stream
        data = exc.partial
    connection.close()
    header = response.getheader("X-Docker-Container-Path-Stat")
    return response.status, data, json.loads(base64.b64decode(header)) if header else {}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/sub/deep").write_text("deep")
    (tmp_path / "file").write_text("hello")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


@pytest.fixture(params=["running", "stopped"])
def container(request: pytest.FixtureRequest, engine: Engine) -> str:
    """A container ``box`` with links, a volume and a tmpfs, running or stopped."""
    script = (
        "ln -s /etc /abs; ln -s /nope /broken; mkdir -p /run/x /var; ln -s /run /var/run; mkdir /d; echo one > /d/f"
    )
    engine.docker(
        "run", "-d", "--name", "box", "-v", "/vol", "busybox", "sh", "-c", f"{script}; : > /ready; sleep 1000"
    )
    engine.docker("exec", "box", "sh", "-c", "until [ -e /ready ]; do :; done; echo inside > /vol/kept")
    if request.param == "stopped":
        engine.docker("kill", "box")
    return "box"


@pytest.mark.row("RUN-30")
def test_cp_puts_files_and_directories_where_docker_does(cli: Cli, container: str, tree: Path) -> None:
    cli("cp", f"{tree}/file", "box:/tmp/named")
    cli("cp", f"{tree}/file", "box:/tmp")
    cli("cp", f"{tree}/dir", "box:/tmp")  # into what exists
    cli("cp", f"{tree}/dir", "box:/tmp/new")  # as what does not
    cli("cp", f"{tree}/dir/.", "box:/tmp/content")
    cli("cp", "-L", f"{tree}/link", "box:/tmp/")
    cli("cp", f"{tree}/file", "box:/abs/through")
    cli("cp", "box:/tmp/.", f"{tree}/out")
    found = sorted(str(path.relative_to(tree / "out")) for path in (tree / "out").rglob("*") if path.is_file())
    assert found == ["content/sub/deep", "dir/sub/deep", "file", "link", "named", "new/sub/deep"]
    cli("cp", "box:/etc/through", f"{tree}/back")
    assert (tree / "back").read_text() == "hello"


@pytest.mark.row("RUN-30")
def test_cp_takes_files_and_directories_out(cli: Cli, container: str, tree: Path) -> None:
    cli("cp", "box:/d", f"{tree}/copy")
    cli("cp", "box:/d", f"{tree}/dir")
    cli("cp", "box:/d/.", f"{tree}/dir/sub")
    cli("cp", "box:/abs", f"{tree}/alink")
    cli("cp", "-L", "box:/abs", f"{tree}/followed")
    assert (
        (tree / "copy/f").read_text() == (tree / "dir/d/f").read_text() == (tree / "dir/sub/f").read_text() == "one\n"
    )
    assert os.readlink(tree / "alink") == "/etc"
    assert (tree / "followed/passwd").is_file()


@pytest.mark.row("RUN-30")
def test_volumes_are_seen_and_written(cli: Cli, container: str, tree: Path) -> None:
    cli("cp", "box:/vol/kept", f"{tree}/kept")
    assert (tree / "kept").read_text() == "inside\n"
    cli("cp", f"{tree}/file", "box:/vol/put")
    cli("cp", "box:/etc/hosts", f"{tree}/hosts")
    assert "localhost" in (tree / "hosts").read_text()
    again = cli("run", "--rm", "--volumes-from", "box", "busybox", "cat", "/vol/put")
    assert again.stdout == "hello"


@pytest.mark.row("RUN-30")
def test_tar_streams_pass_through_a_dash(engine: Engine, container: str) -> None:
    for cli in (engine.docker, engine.boxship):
        cli("cp", "-", "box:/tmp", input=archive({"a/b": b"streamed"}).decode())
        assert "streamed" in cli("cp", "box:/tmp/a/b", "-").stdout


@pytest.mark.row("RUN-30")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("box:/x", "."), "Could not find the file /x in container box"),
        (("FILE", "box:/nodir/f"), "Could not find the file /nodir in container box"),
        (("FILE", "box:/newdir/"), "no such directory"),
        (("DIR", "box:/etc/passwd"), "cannot copy directory"),
        (("NONE", "box:/"), "lstat NONE: no such file or directory"),
        (("FILE", "NONE"), "must specify at least one container source"),
        (("box:/a", "box:/b"), "copying between containers is not supported"),
        (("", "box:/b"), "source can not be empty"),
        (("box:/etc/passwd", "NONE/x"), 'invalid output path: directory "NONE" does not exist'),
        (("-", "box:/etc/passwd"), 'destination "box:/etc/passwd" must be a directory'),
    ],
)
def test_errors_are_dockers(cli: Cli, engine: Engine, tree: Path, arguments: tuple[str, str], text: str) -> None:
    engine.docker("create", "--name", "box", "busybox")
    places = {"FILE": f"{tree}/file", "DIR": f"{tree}/dir", "NONE": f"{tree}/none"}

    def placed(word: str) -> str:
        for name, path in places.items():
            word = word.replace(name, path)
        return word

    result = cli("cp", *(placed(word) for word in arguments), check=False)
    assert result.returncode == 1
    assert placed(text) in result.stderr


@pytest.mark.row("RUN-30")
def test_cp_says_how_much_it_copied_unless_it_shall_be_quiet(cli: Cli, engine: Engine, tree: Path) -> None:
    engine.docker("create", "--name", "box", "busybox")
    assert cli("cp", "--quiet=false", f"{tree}/file", "box:/tmp").stderr == "Successfully copied 2.05kB to box:/tmp\n"
    told = cli("cp", "--quiet=false", "box:/tmp/file", f"{tree}/again").stderr
    assert told == f"Successfully copied 2.05kB to {tree}/again\n"
    assert cli("cp", f"{tree}/file", "box:/tmp").stderr == ""


@pytest.mark.row("RUN-30")
def test_archive_mode_gives_files_to_the_containers_user(cli: Cli, engine: Engine, tree: Path) -> None:
    engine.docker("run", "-d", "--name", "box", "--user", "app", "busybox", "sleep", "1000")
    os.chown(tree / "file", 1234, 1234)
    cli("cp", f"{tree}/file", "box:/tmp/kept")
    cli("cp", "-a", f"{tree}/file", "box:/tmp/given")
    owners = engine.docker("exec", "box", "stat", "-c", "%u:%g", "/tmp/kept", "/tmp/given").stdout.split()
    assert owners == ["1234:1234", "1000:1000"]


@pytest.mark.row("RUN-30")
def test_what_is_read_only_stays_so(engine: Engine, tree: Path) -> None:
    engine.docker("run", "-d", "--name", "box", "--read-only", "-v", f"{tree}:/ro:ro", "busybox", "sleep", "1000")
    for state in ("running", "stopped"):
        if state == "stopped":
            engine.docker("kill", "box")
        refused = engine.docker("cp", f"{tree}/file", "box:/tmp", check=False)
        assert "container rootfs is marked read-only" in refused.stderr
        refused = engine.docker("cp", f"{tree}/file", "box:/ro", check=False)
        assert "mounted volume is marked read-only" in refused.stderr
    assert sorted(os.listdir(tree)) == ["dir", "file", "link"]


@pytest.mark.row("RUN-30")
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_copy_never_takes_a_mount_away(engine: Engine, tree: Path, state: str) -> None:
    mounts = ("-v", f"{tree}/file:/mounted", "-v", f"{tree}/dir:/holds/dir")
    engine.docker("run", "-d", "--name", "box", *mounts, "busybox", "sleep", "1000")
    if state == "stopped":
        engine.docker("kill", "box")
    for path in ("/mounted", "/etc/hosts"):
        refused = engine.docker("cp", f"{tree}/file", f"box:{path}", check=False)
        assert f"Error processing tar file(exit status 1): unlinkat {path}: device or resource busy" in refused.stderr
    status, text, _ = call(engine, "PUT", "box", "/", archive({"holds": b"a file in place of a directory"}))
    assert (status, b"unlinkat /holds/dir: device or resource busy" in text) == (400, True)
    if state == "stopped":
        engine.docker("start", "box")
    engine.docker("exec", "box", "sh", "-c", "grep -q hello /mounted && grep -q deep /holds/dir/sub/deep")
    assert "localhost" in engine.docker("exec", "box", "cat", "/etc/hosts").stdout
    assert (tree / "file").read_text() == "hello"


@pytest.mark.row("API-11")
@pytest.mark.parametrize(
    ("path", "name", "mode", "link"),
    [
        ("/etc/passwd", "passwd", 0o644, ""),
        ("/etc/.", ".", 1 << 31 | 0o755, ""),
        ("/", "/", 1 << 31 | 0o755, ""),
        ("etc/../etc/", "etc", 1 << 31 | 0o755, ""),
        ("/abs", "abs", 1 << 27 | 0o777, "/etc"),
        ("/abs/", "abs", 1 << 31 | 0o755, ""),
        ("/broken", "broken", 1 << 27 | 0o777, "/nope"),
        ("/var/run/x", "x", 1 << 31 | 0o755, ""),
    ],
)
def test_stat_follows_links_inside_the_container_only(
    engine: Engine, container: str, path: str, name: str, mode: int, link: str
) -> None:
    status, _, found = call(engine, "HEAD", "box", path)
    assert (status, found["name"], found["mode"], found["linkTarget"]) == (200, name, mode, link)


@pytest.mark.row("API-11")
def test_archive_calls_without_sense_are_refused(engine: Engine) -> None:
    engine.docker("create", "--name", "box", "busybox")
    assert call(engine, "GET", "box", "")[0] == 400
    assert call(engine, "GET", "none", "/")[0] == 404
    assert call(engine, "GET", "box", "/none")[:2] == (
        404,
        b'{"message":"Could not find the file /none in container box"}\n',
    )
    assert call(engine, "PUT", "box", "/none", archive({"a": b""}))[0] == 404
    status, text, _ = call(engine, "PUT", "box", "/etc/passwd", archive({"a": b""}))
    assert (status, text) == (400, b'{"message":"extraction point is not a directory"}\n')
    status, text, _ = call(engine, "PUT", "box", "/", archive({"etc": b""}), "&noOverwriteDirNonDir=true")
    assert status == 400 and b"cannot overwrite directory" in text
    assert call(engine, "PUT", "box", "/tmp", archive({"a": b"x" * 9000})[:3000])[0] == 400


@pytest.mark.row("API-11")
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_uploads_need_no_program_of_the_container(
    engine: Engine, compress: Callable[[bytes], bytes]
) -> None:
    traps = {
        f"{place}/{name}": b"#!/bin/sh\ntouch /executed\n"
        for place in ("bin", "usr/bin")
        for name in ("xz", "unpigz", "bzip2")
    }
    engine.docker("create", "--name", "box", "busybox")
    assert call(engine, "PUT", "box", "/", archive(traps))[0] == 200
    assert call(engine, "PUT", "box", "/tmp", compress(archive({"packed": b"content"})))[0] == 200
    assert b"content" in call(engine, "GET", "box", "/tmp/packed")[1]
    assert not Path("/executed").exists()
    assert call(engine, "HEAD", "box", "/executed")[0] == 404


def test_the_kernels_files_are_nobodys_content(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    assert call(engine, "HEAD", "box", "/proc/self/status")[0] == 404
    assert call(engine, "PUT", "box", "/proc/sys", archive({"a": b""}))[0] == 404
    with tarfile.open(fileobj=io.BytesIO(call(engine, "GET", "box", "/")[1])) as tar:
        names = tar.getnames()
    assert not [name for name in names if name.lstrip("/").startswith(("proc/", "sys/"))]
    assert any(name.lstrip("/") == "proc" for name in names)


def test_a_client_that_leaves_an_upload_leaves_the_container_usable(engine: Engine) -> None:
    import socket

    engine.docker("create", "--name", "box", "busybox", "true")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(
            b"PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"
        )
        client.sendall(archive({"half": b"x" * 4096})[:1024] + b"\r\n")
    assert engine.docker("start", "-a", "box").returncode == 0


@pytest.mark.row("RUN-30")
def test_a_container_that_swaps_links_gives_and_takes_nothing_outside(engine: Engine, tmp_path: Path) -> None:
    """Faults C1: each name is in turn a directory, a link out, a file, a device, while files are copied both ways."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("SECRET OF THE HOST")
    script = f"""
        mkdir -p /a/real /b; echo inside > /a/real/secret
        while :; do
            ln -sfn real /a/swap; ln -sfn {outside} /a/swap; ln -sfn /../../../../../..{outside} /a/swap
            rm -rf /b/f; echo x > /b/f; rm -f /b/f; mknod /b/f c 1 5; rm -f /b/f; mkfifo /b/f; rm -f /b/f; ln -s {outside}/secret /b/f
        done"""
    engine.docker("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    engine.docker("exec", "box", "sh", "-c", "until [ -e /b ]; do :; done")
    written = archive({"planted": b"planted", "sub/planted": b"planted"})
    rounds = int(os.environ.get("BOXSHIP_ATTACK_ROUNDS", "400"))
    for _ in range(rounds // 4):
        for method, path, body in (
            ("GET", "/a/swap/secret", b""),
            ("GET", "/b", b""),
            ("GET", "/b/f", b""),
            ("PUT", "/a/swap", written),
        ):
            _, data, _ = call(engine, method, "box", path, body)
            assert b"SECRET" not in data
    assert sorted(os.listdir(outside)) == ["secret"]
    assert (outside / "secret").read_text() == "SECRET OF THE HOST"
