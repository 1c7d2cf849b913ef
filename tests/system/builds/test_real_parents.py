"""Images of steps as parents: what ``rmi`` does to them beside a real dockerd, and ``--pull`` of the image below."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.registry import PeerRegistry

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ONE = "FROM busybox\nRUN echo 1 > /1\nENV A=1\nRUN echo 2 > /2\n"
TWO = "FROM busybox\nRUN echo 1 > /1\nENV A=1\nRUN echo 3 > /3\n"


def build(peer: Engine | Dockerd, directory: Path, dockerfile: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (directory / "Dockerfile").write_text(dockerfile)
    return subprocess.run(
        [*peer.namespace.prefix(), "docker", "build", *flags, str(directory)],
        env={**peer.client_environment(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def removals(peer: Engine | Dockerd, directory: Path) -> list[str]:
    """Remove images of two builds that share their first steps; return what was said, with ids by their order."""
    for name, dockerfile in (("one", ONE), ("two", TWO)):
        done = build(peer, directory, dockerfile, "-t", name)
        assert done.returncode == 0, done.stdout + done.stderr
    parent = peer.docker("inspect", "-f", "{{.Parent}}", "one").stdout.strip()
    images = set(peer.docker("images", "-aq", "--no-trunc").stdout.split())
    said = []
    for words in (
        ("rmi", parent),
        ("rmi", "-f", parent),
        ("rmi", "one"),
        ("inspect", "-f", "there", parent),
        ("rmi", "--no-prune", "two"),
        ("inspect", "-f", "there", parent),
        ("images", "-aqf", "dangling=true"),
        ("rmi", parent),
        ("inspect", "-f", "there", parent),
        ("images", "-aq"),
    ):
        done = peer.docker(*words, check=False)
        lines = [line for line in done.stdout.splitlines() if not _is_layer(line, images)]
        said.append("\n".join([f"{words[0]}: {done.returncode}", *lines, done.stderr]))
    return said


def _is_layer(line: str, images: set[str]) -> bool:
    """Return whether ``rmi`` tells of a layer: ours stay as long as the cache knows of them."""
    return line.startswith("Deleted: ") and line.removeprefix("Deleted: ") not in images


def plain(said: list[str]) -> list[str]:
    """Return the texts without ids."""
    return [re.sub(r"(sha256:)?[0-9a-f]{12,64}", "ID", text) for text in said]


@pytest.fixture
def registry(engine: Engine) -> Iterator[PeerRegistry]:
    try:
        registry = PeerRegistry(engine.namespace)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield registry
    registry.close()


def test_parents_go_with_their_last_child_as_in_docker(engine: Engine, dockerd: Dockerd, tmp_path: Path) -> None:
    assert plain(removals(engine, tmp_path)) == plain(removals(dockerd, tmp_path))


@pytest.mark.row("BLD-06")
def test_pull_asks_the_registry_for_a_newer_base(engine: Engine, registry: PeerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/base:1"
    ids = {}
    for version in ("old", "new"):
        assert build(engine, tmp_path, f"FROM busybox\nRUN echo {version} > /version\n", "-t", name).returncode == 0
        engine.docker("push", "-q", name)
        ids[version] = engine.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    engine.docker("tag", ids["old"], name)
    dockerfile = f"FROM {name}\nRUN cat /version\n"

    here = build(engine, tmp_path, dockerfile)
    pulled = build(engine, tmp_path, dockerfile, "--pull")
    again = build(engine, tmp_path, dockerfile, "--pull")
    registry.stop()
    without = build(engine, tmp_path, dockerfile)
    failed = build(engine, tmp_path, dockerfile, "--pull")

    assert "\nold\n" in here.stdout
    assert "1: Pulling from base\n" in pulled.stdout and "\nnew\n" in pulled.stdout
    assert again.stdout.count("Using cache") == 1
    assert without.stdout.count("Using cache") == 1
    assert failed.returncode == 1 and "connection refused" in failed.stderr
