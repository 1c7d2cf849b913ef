"""Images from archives: by file, standard input and URL, and what happens to bad ones."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator

import pytest

from harness.engine import Engine
from harness.images import busybox_tar

pytestmark = pytest.mark.system


@pytest.fixture
def server(engine: Engine) -> Iterator[str]:
    """A web server on the engine's loopback that serves small.tar."""
    directory = engine.root / "www"
    directory.mkdir(exist_ok=True)
    (directory / "small.tar").write_bytes(busybox_tar())
    process = subprocess.Popen(
        [
            *engine.namespace.prefix(),
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(directory),
            "0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().split(" port ")[1].split()[0]
    yield f"http://127.0.0.1:{port}/small.tar"
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.mark.row("IMG-15")
def test_an_image_is_imported_from_a_url(engine: Engine, server: str) -> None:
    engine.docker("import", "--change", 'CMD ["echo", "from afar"]', server, "afar:1")
    assert engine.docker("run", "--rm", "afar:1").stdout == "from afar\n"


def test_a_url_that_answers_404_is_an_error_and_leaves_nothing(engine: Engine, server: str) -> None:
    before = engine.docker("images", "-aq").stdout
    result = engine.docker("import", server.replace("small", "nosuch"), check=False)
    assert result.returncode == 1
    assert "404" in result.stderr
    assert engine.docker("images", "-aq").stdout == before


@pytest.mark.row("IMG-15")
def test_an_image_is_imported_from_standard_input(engine: Engine) -> None:
    result = subprocess.run(
        [*engine.namespace.prefix(), "docker", "import", "-", "piped"],
        input=busybox_tar(),
        capture_output=True,
        env=engine.client_environment(),
        check=True,
    )
    assert result.stdout.startswith(b"sha256:")


@pytest.mark.parametrize("bad", ["garbage", "truncated", "empty"])
def test_a_bad_archive_is_refused_and_leaves_nothing(engine: Engine, bad: str) -> None:
    tar = busybox_tar()
    data = {"garbage": b"not a tar" * 1000, "truncated": tar[: len(tar) // 2], "empty": b""}[bad]
    before = (engine.docker("images", "-aq").stdout, _stored(engine))
    result = subprocess.run(
        [*engine.namespace.prefix(), "docker", "import", "-", "bad"],
        input=data,
        capture_output=True,
        env=engine.client_environment(),
        check=False,
    )
    if bad == "empty":  # Docker, too, makes an empty image of nothing
        return
    assert result.returncode == 1
    assert b"rror" in result.stderr
    until = time.monotonic() + 10
    while (engine.docker("images", "-aq").stdout, _stored(engine)) != before:
        assert time.monotonic() < until, "something was kept"
        time.sleep(0.1)


def test_a_tar_that_climbs_stays_inside(engine: Engine) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../../../../climbed", "/absolute", "inside"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"data"))
    path = engine.root / "climb.tar"
    path.write_bytes(buffer.getvalue())
    engine.docker("import", str(path), "climb")
    id = engine.docker("create", "climb", "x").stdout.strip()
    names = subprocess.run(
        [*engine.namespace.prefix(), "docker", "export", id],
        capture_output=True,
        env=engine.client_environment(),
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(names)) as tar:
        assert {"climbed", "absolute", "inside"} <= set(tar.getnames())
    assert not (engine.root.parent / "climbed").exists()


def _stored(engine: Engine) -> tuple[int, int]:
    blobs = sum(1 for _ in (engine.data_root / "content" / "blobs").rglob("*"))
    return blobs, sum(1 for _ in (engine.data_root / "overlay2").iterdir())
