"""Base images from the package archive, through our own command line, run by the docker CLI."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.row("IMG-17")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def bootstrap(engine: Engine, *args: str) -> subprocess.CompletedProcess[str]:
    """Run ``image bootstrap`` outside the engine's network namespace: only the client needs a network."""
    program = "import sys; from boxship.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "image", "bootstrap", *args],
        env=engine.client_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.row("IMG-23")
def test_busybox_runs_and_is_small(engine: Engine) -> None:
    done = bootstrap(engine, "busybox", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (
        engine.docker("inspect", "-f", "{{.Id}} {{.Config.Cmd}}", "busybox").stdout == f"{done.stdout.strip()} [sh]\n"
    )
    assert engine.docker("run", "--rm", "busybox", "sh", "-c", "id -un; ls -d /tmp").stdout == "root\n/tmp\n"


@pytest.mark.row("MCH-10")
def test_hello_world_needs_nothing(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "hello-world")
    assert "Hello from Boxship!" in done.stdout


def test_an_unknown_distribution_is_refused(engine: Engine) -> None:
    done = bootstrap(engine, "plan9:4")
    assert done.returncode == 1
    assert done.stderr == "Error: no package archive is known for 'plan9' (known: debian, ubuntu, busybox, registry)\n"


@pytest.mark.timeout(200)
@pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed")
def test_an_archive_that_is_not_there_leaves_no_image(engine: Engine) -> None:
    done = bootstrap(engine, "debian:bookworm", "--mirror", "http://127.0.0.1:9/debian", "--tag", "never:1")
    assert done.returncode == 1
    assert "can't be reached; check the network, or name one with --mirror" in done.stderr
    assert engine.docker("images", "-q", "never").stdout == ""
