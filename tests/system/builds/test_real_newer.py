"""Newer Dockerfile syntax beside the builders that know it: podman, and the BuildKit inside a real dockerd.

podman takes long and says the same: it is asked with ``BOXSHIP_PODMAN=1`` only, as ``scripts/examples`` does.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import builds
from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.podman import Podman

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

HOME = Path(__file__).with_name("newer")
CASES = sorted(path.name for path in HOME.iterdir())
FLAGS = {"args-in-from": ("--build-arg", "GIVEN=given")}
OLDER_CLI = "/usr/bin/docker"  # of the same package as dockerd: it speaks to BuildKit without a plugin

# What these older versions do otherwise: both leave places of mounts in the layer, and a directory that a directory is copied
# to without the mode of --chmod, which BuildKit repaired later. podman has a mount of its own, a label, a file in caches
# that are locked, and shows health checks elsewhere; it looks for a stage that an argument names in registries.
BUILDKIT = {
    "bind-mounts": {"/a", "/b", "/context", "/d", "/scratch", "/tools"},
    "cache-mounts": {"/cache", "/deep", "/deep/er", "/deep/er/cache", "/owned"},
    "modes": {"/tree"},
    "stages": {"ArgsEscaped"},
}
PODMAN = {
    "bind-mounts": {"/b"},
    "cache-mounts": {"/deep", "/deep/er", "/work/listed"},
    "modes": {"/tree"},
    "stages": {"Healthcheck"},
}
PODMAN_CASES = [case for case in CASES if case != "args-in-from"]

Build = Callable[[str, Path], dict[str, Any]]


def observed(config: dict[str, Any], found: dict[str, list[Any]], base: dict[str, list[Any]]) -> dict[str, Any]:
    """Return what has to be equal by its name: the files that differ from the base image, and the configuration."""
    difference = builds.difference(found, base)
    return {
        **{f"/{path}": row for path, row in difference["files"].items()},
        **{f"/{path}": "gone" for path in difference["gone"]},
        **config["Config"],
        **{name: value for name, value in config.items() if name != "Config"},
    }


def differences(ours: dict[str, Any], theirs: dict[str, Any], known: set[str]) -> dict[str, tuple[Any, Any]]:
    """Return what differs, by its name and for both; what is ``known`` to differ has to."""
    found = {
        name: (ours.get(name), theirs.get(name))
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    }
    assert known <= found.keys()
    return {name: pair for name, pair in found.items() if name not in known}


@pytest.fixture(scope="module")
def ours(engine: Engine) -> Build:
    engine.docker("tag", "busybox", builds.BASE)
    base = builds.files(engine, builds.BASE)

    def build(case: str, context: Path) -> dict[str, Any]:
        command = ["docker", "build", "--no-cache", *FLAGS.get(case, ()), "-t", case, str(context)]
        environment = {**engine.client_environment(), "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return observed(builds.configuration(engine, case), builds.files(engine, case), base)

    return build


@pytest.fixture(scope="module")
def podman() -> Iterator[Build]:
    try:
        peer = Podman()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        base = builds.rows(peer.export(builds.BASE))

        def build(case: str, context: Path) -> dict[str, Any]:
            peer.build(context, case, *FLAGS.get(case, ()))
            config = builds.configuration(peer, f"localhost/{case}")
            labels = config["Config"].pop("Labels", {})
            if labels := {name: value for name, value in labels.items() if name != "io.buildah.version"}:
                config["Config"]["Labels"] = labels
            found = observed(config, builds.rows(peer.export(case)), base)
            found.pop("/run", None)
            return found

        yield build
    finally:
        peer.close()


@pytest.fixture(scope="module")
def buildkit(dockerd: Dockerd) -> Build:
    if not os.path.exists(OLDER_CLI):
        pytest.skip(f"{OLDER_CLI} is not installed")
    dockerd.docker("tag", "busybox", builds.BASE)
    base = builds.files(dockerd, builds.BASE)

    def build(case: str, context: Path) -> dict[str, Any]:
        command = [OLDER_CLI, "build", "--no-cache", "--network=none", *FLAGS.get(case, ()), "-t", case, str(context)]
        environment = {**dockerd.client_environment(), "DOCKER_BUILDKIT": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return observed(builds.configuration(dockerd, case), builds.files(dockerd, case), base)

    return build


@pytest.mark.skipif(not os.environ.get("BOXSHIP_PODMAN"), reason="podman takes long: scripts/examples")
@pytest.mark.parametrize("case", PODMAN_CASES)
def test_an_image_is_that_of_podman(ours: Build, podman: Build, case: str, tmp_path: Path) -> None:
    context = builds.copied(HOME / case, tmp_path)
    assert differences(ours(case, context), podman(case, context), PODMAN.get(case, set())) == {}


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_that_of_buildkit(ours: Build, buildkit: Build, case: str, tmp_path: Path) -> None:
    context = builds.copied(HOME / case, tmp_path)
    assert differences(ours(case, context), buildkit(case, context), BUILDKIT.get(case, set())) == {}
