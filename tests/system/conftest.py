"""Engines for system tests: one per module, with a busybox image; each ends with a look for what it left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.dockercli import docker_cli_release
from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox
from harness.terminal import Terminal


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs root when we are not, and a newer docker CLI than there is, and say so."""
    here = Path(__file__).parent
    for item in items:
        if item.get_closest_marker("words_of_docker_28") and "[docker" in item.name and docker_cli_release() < 28:
            item.add_marker(pytest.mark.skip(reason="the docker CLI here is older than 28 and has other words"))
        if here in item.path.parents and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A running engine with the image ``busybox``; tests of a module share it and clean up their containers."""
    engine = Engine()
    try:
        engine.start()
        load_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    """A real dockerd with the image ``busybox``, where it is installed and starts."""
    try:
        peer = Dockerd()
        peer.start()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        import_busybox(peer)
        yield peer
    finally:
        peer.close()


@pytest.fixture(params=["docker", "boxship"])
def cli(request: pytest.FixtureRequest, engine: Engine) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Both command lines on the module's engine: the same words must have the same effect."""
    if request.param == "docker" and docker_cli_release() < 28:
        pytest.skip("the docker CLI here is older than 28 and has other words")
    return engine.docker if request.param == "docker" else engine.boxship


@pytest.fixture
def fresh_engine() -> Iterator[Engine]:
    """An engine of one test, for tests that kill it."""
    engine = Engine()
    engine.isolate_cgroups()
    try:
        engine.start()
        load_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(autouse=True)
def no_containers_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test left on its module's engine, so that the next one starts clean."""
    yield
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        for row in engine.api("GET", "/containers/json?all=1")[1]:
            engine.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[object]:
    """Run the docker CLI on terminals of their own: ``terminal(engine, "run", "-it", ...)``."""
    opened: list[Terminal] = []

    def run(engine: Engine, *args: str, **options: int) -> Terminal:
        opened.append(
            Terminal([*engine.namespace.prefix(), "docker", *args], env=engine.client_environment(), **options)
        )
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def load_busybox(engine: Engine, name: str = "busybox") -> None:
    """Import the host's static busybox as an image."""
    try:
        import_busybox(engine, name)
    except FileNotFoundError:
        pytest.skip("busybox-static is not installed")


def needs(program: str) -> None:
    """Skip the test when a peer program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
