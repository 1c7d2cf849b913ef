"""Builds as a CI server runs them: named by number and commit, tested in the image, pushed only if the tests pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dockercli import docker_cli_release
from harness.engine import Engine
from harness.registry_server import RegistryServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CI = """#!/bin/sh
# Builds the commit of this directory, runs its tests in the image, and pushes it when they pass.
set -eu
name=$REGISTRY/awesome_app
commit=$(git rev-parse --short HEAD)
$DOCKER build --build-arg COMMIT="$commit" --label ci.build="$BUILD_NUMBER" -t "$name:$BUILD_NUMBER" -t "$name:$commit" .
$DOCKER run --rm -e ENVIRONMENT=testing -e API_KEY=12345 "$name:$BUILD_NUMBER" /opt/awesome_app/test.sh
$DOCKER push "$name:$BUILD_NUMBER"
$DOCKER push "$name:$commit"
"""
DOCKERFILE = """FROM busybox
ARG COMMIT
COPY test.sh value /opt/awesome_app/
RUN echo "$COMMIT" > /opt/awesome_app/commit
"""
TEST = """#!/bin/sh
echo "tests of $(cat /opt/awesome_app/commit) for $ENVIRONMENT with $API_KEY"
test "$(cat /opt/awesome_app/value)" = good || exit 7
"""


@pytest.fixture(scope="module")
def registry(engine: Engine) -> Iterator[RegistryServer]:
    server = RegistryServer(prefix=engine.namespace.prefix()).start()
    yield server
    server.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("Dockerfile", DOCKERFILE), ("test.sh", TEST), ("ci", CI), ("value", "good\n")):
        (tmp_path / name).write_text(text)
    for name in ("ci", "test.sh"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "boxship").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; from boxship.cli.main import main; sys.exit(main())' \"$@\"\n"
    )
    (tmp_path / "boxship").chmod(0o755)
    _git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def _git(project: Path, *words: str) -> str:
    fixed = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run([*fixed, *words], check=True, capture_output=True, text=True).stdout.strip()


def _commit(project: Path) -> str:
    _git(project, "add", "-A")
    _git(project, "commit", "-q", "-m", "change")
    return _git(project, "rev-parse", "--short", "HEAD")


@pytest.mark.row("BLD-35")
@pytest.mark.parametrize("program", ["docker", "boxship"])
def test_an_image_is_pushed_only_when_its_tests_pass(
    engine: Engine, registry: RegistryServer, project: Path, program: str
) -> None:
    host = f"localhost:{registry.port}"
    docker = "docker" if program == "docker" else str(project / "boxship")

    def ci(number: int) -> subprocess.CompletedProcess[str]:
        settings = {"REGISTRY": f"{host}/{program}", "DOCKER": docker, "BUILD_NUMBER": str(number)}
        words = ["env", *(f"{key}={value}" for key, value in settings.items()), str(project / "ci")]
        return engine.docker(program=words, cwd=project, check=False)

    def tags() -> list[str]:
        done = engine.docker(
            program=[sys.executable, "-c", f"{FETCH}({f'http://{host}/v2/{program}/awesome_app/tags/list'!r})"]
        )
        return done.stdout.split()

    good = _commit(project)
    done = ci(41)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"tests of {good} for testing with 12345\n" in done.stdout
    assert tags() == sorted(["41", good])

    (project / "value").write_text("bad\n")
    bad = _commit(project)
    done = ci(42)
    assert done.returncode == 7 and f"tests of {bad} for testing" in done.stdout
    assert tags() == sorted(["41", good])
    assert engine.docker("image", "ls", "-q", f"{host}/{program}/awesome_app:{bad}").stdout  # to be looked at

    (project / "Dockerfile").write_text(f"{DOCKERFILE}RUN exit 3\n")
    broken = _commit(project)
    assert ci(43).returncode != 0
    assert engine.docker("image", "ls", "-q", f"{host}/{program}/awesome_app:{broken}").stdout == ""
    assert tags() == sorted(["41", good])

    label = '{{index .Config.Labels "ci.build"}}'
    engine.docker("rmi", "-f", f"{host}/{program}/awesome_app:41", f"{host}/{program}/awesome_app:{good}")
    engine.docker("pull", "-q", f"{host}/{program}/awesome_app:{good}")
    pulled = engine.docker("inspect", "--format", label, f"{host}/{program}/awesome_app:{good}")
    assert pulled.stdout == "41\n"


FETCH = "import json,sys,urllib.request\n(lambda url: print(*sorted(json.load(urllib.request.urlopen(url))['tags'])))"


@pytest.mark.row("BLD-34")
def test_dockers_command_line_without_buildx_builds_and_says_that_it_is_old(engine: Engine, project: Path) -> None:
    if docker_cli_release() < 23:
        pytest.skip("the docker CLI here is older than its notice")
    if engine.docker("buildx", "version", check=False).returncode == 0:
        pytest.skip("the docker CLI here has buildx")
    done = engine.docker("build", "-t", "old", str(project))
    assert "DEPRECATED: The legacy builder is deprecated and will be removed in a future release." in done.stderr
    assert "Step 4/4 : RUN echo" in done.stdout and "Successfully tagged old:latest\n" in done.stdout
    classic = engine.docker(program=["env", "DOCKER_BUILDKIT=0", "docker", "build", "-q", str(project)])
    assert classic.stdout == engine.docker("inspect", "--format", "{{.Id}}", "old").stdout
