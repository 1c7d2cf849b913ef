"""The real Docker Compose, unchanged: builds, networks, names, volumes, and all of it away again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

COMPOSE = Path(sys.executable).with_name("docker-compose")
PROJECT = """name: shop
services:
  web:
    build: {context: ./web, args: {GREETING: hello}}
    image: shop-web
    ports: ["0:8080"]
    environment: {BACK: back}
    depends_on: [back]
    networks: [front, inner]
  back:
    image: base
    command: sh -c 'mkdir -p /data && echo from the back > /data/index.html; exec httpd -f -p 80 -h /data'
    volumes: ["kept:/data"]
    networks: {inner: {aliases: [store]}}
networks: {front: {}, inner: {internal: true}}
volumes: {kept: {}}
"""
DOCKERFILE = """FROM base
ARG GREETING
RUN mkdir /www && echo "$GREETING" > /www/index.html
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""
Compose = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def compose(engine: Engine, tmp_path: Path) -> Iterator[Compose]:
    """Run docker-compose in a directory of its own, with the classic builder."""
    if not COMPOSE.exists():
        pytest.skip("docker-compose is not installed")
    import_busybox(engine, "base")
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "compose.yml").write_text(PROJECT)

    def run(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*engine.namespace.prefix(), str(COMPOSE), "--ansi", "never", *args],
            cwd=tmp_path,
            env={**os.environ, **engine.client_environment(), "DOCKER_BUILDKIT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    yield run
    run("down", "--volumes", "--remove-orphans", "-t", "0", check=False)


def test_a_project_is_built_started_looked_at_and_taken_away(engine: Engine, compose: Compose) -> None:
    built = compose("build").stdout
    assert "Step 3/" in built and "Successfully tagged shop-web:latest" in built
    compose("up", "-d", "--wait")
    assert compose("ps", "--services").stdout.split() == ["back", "web"]
    address = compose("port", "web", "8080").stdout.strip().replace("0.0.0.0", "127.0.0.1")
    page = subprocess.run(
        [*engine.namespace.prefix(), "busybox", "wget", "-qO-", f"http://{address}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert page.stdout == "hello\n"
    for name in ("back", "store", "shop-back-1"):
        assert compose("exec", "-T", "web", "wget", "-qO-", f"http://{name}").stdout == "from the back\n"
    assert "from the back" not in compose("logs", "web").stdout
    compose("restart", "-t", "0", "back")
    assert compose("exec", "-T", "back", "cat", "/data/index.html").stdout == "from the back\n"
    assert "is up-to-date" not in compose("up", "-d").stderr
    compose("down", "-t", "0")
    assert engine.docker("ps", "-aq").stdout == ""
    assert sorted(engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()) == ["bridge", "host", "none"]
    assert engine.docker("volume", "ls", "-q").stdout == "shop_kept\n"
    compose("down", "--volumes")
    assert engine.docker("volume", "ls", "-q").stdout == ""


def test_what_is_missing_is_named(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "web/Dockerfile").unlink()
    done = compose("build", check=False)
    assert done.returncode != 0 and "Dockerfile" in done.stderr
