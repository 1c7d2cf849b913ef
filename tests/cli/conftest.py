"""Two command lines that talk to a scripted engine: ours and, where it is installed, Docker's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.fake_engine import FakeEngine

BIN = Path(__file__).parents[2] / "bin"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    path = str(tmp_path / "engine.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        fake = FakeEngine(path)
        fake.answers[("HEAD", "/_ping")] = (200, None)
        threading.Thread(target=fake.serve, args=(listener,), daemon=True).start()
        yield fake
        listener.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Program:
    """One command line under the name ``docker``."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Run and return exit status, stdout and stderr."""
        done = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, env=self.environment, timeout=30, check=False
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()


def environment(engine: FakeEngine, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_CONFIG": str(tmp_path / "config"),
        "DOCKER_HOST": f"unix://{engine.path}",
        "TZ": "UTC",
    }


@pytest.fixture
def boxship(engine: FakeEngine, tmp_path: Path) -> Program:
    """Our command line, started as the installed program starts it."""
    link = tmp_path / "docker"
    link.symlink_to(BIN / "boxship")
    return Program((str(link),), environment(engine, tmp_path))


def _docker_28() -> str | None:
    program = shutil.which("docker")
    if program is None:
        return None
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return program if shown.startswith("Docker version 28.") else None


@pytest.fixture
def docker(engine: FakeEngine, tmp_path: Path) -> Program:
    """Docker's own command line, the oracle."""
    program = _docker_28()
    if program is None:
        pytest.skip("the docker command line 28 is not installed")
    return Program((program,), environment(engine, tmp_path))
