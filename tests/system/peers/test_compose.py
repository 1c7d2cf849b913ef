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
from harness.waiting import until

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


SERVICES = """services:
  web: {image: base, command: [httpd, -f, -p, "${PORT}", -h, /etc]}
  database: {image: base, command: sleep 999}
  messaging: {image: base, command: sleep 999}
  orchestration: {image: base, command: sleep 999}
"""
VOTING = """services:
  redis: {image: base, command: httpd -f -p 6379 -h /etc, networks: [back-end]}
  db: {image: base, command: httpd -f -p 5432 -h /etc, networks: [back-end]}
  vote: {image: base, command: httpd -f -p 80 -h /etc, ports: ["5000:80"], depends_on: [redis], networks: [front-end, back-end]}
  result: {image: base, command: httpd -f -p 80 -h /etc, ports: ["5001:80"], depends_on: [db], networks: [front-end, back-end]}
  worker: {image: base, command: sleep 999, depends_on: [redis, db], networks: [back-end]}
  outside: {image: base, command: sleep 999, networks: [front-end]}
networks: {front-end: {}, back-end: {}}
"""
COUNTER = """services:
  web: {build: {context: ./web}, command: sh -c 'echo $$(($$(cat /data/n 2>/dev/null) + 1)) > /data/n; exec sleep 999', volumes: ["count:/data"]}
volumes: {count: {}}
"""


def test_services_without_more_find_each_other(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(SERVICES)
    (tmp_path / ".env").write_text("PORT=8123\n")
    compose("up", "-d", "--wait")
    for name in ("web", "database", "messaging"):
        assert "1 packets received" in compose("exec", "-T", "orchestration", "ping", "-c", "1", name).stdout
    assert "root:x" in compose("exec", "-T", "database", "wget", "-qO-", "http://web:8123/passwd").stdout


def test_the_voting_application_on_two_networks(engine: Engine, compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(VOTING)
    compose("up", "-d", "--wait")
    for port in (5000, 5001):
        words = ("busybox", "wget", "-qO-", f"http://127.0.0.1:{port}/passwd")
        assert "root:x" in subprocess.run([*engine.namespace.prefix(), *words], capture_output=True, text=True).stdout
    for service, place in (
        ("vote", "redis:6379"),
        ("worker", "redis:6379"),
        ("worker", "db:5432"),
        ("result", "db:5432"),
    ):
        assert "root:x" in compose("exec", "-T", service, "wget", "-qO-", f"http://{place}/passwd").stdout
    assert "1 packets received" in compose("exec", "-T", "outside", "ping", "-c", "1", "vote").stdout
    assert compose("exec", "-T", "outside", "ping", "-c", "1", "redis", check=False).returncode != 0
    id = compose("ps", "-q", "redis").stdout.strip()
    address = engine.docker(
        "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id
    ).stdout.strip()
    assert compose("exec", "-T", "outside", "nc", "-w", "1", address, "6379", check=False).returncode != 0
    started = {}
    for service in ("redis", "db", "vote", "worker"):
        id = compose("ps", "-q", service).stdout.strip()
        started[service] = engine.docker("inspect", "-f", "{{.State.StartedAt}}", id).stdout.strip()
    assert started["redis"] < started["vote"]
    assert max(started["redis"], started["db"]) < started["worker"]


def test_a_counter_is_built_and_keeps_its_count(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(COUNTER)
    for count in ("1", "2"):
        compose("up", "-d", "--build", "--wait")
        until(lambda count=count: compose("exec", "-T", "web", "cat", "/data/n").stdout.strip() == count)  # type: ignore[misc]
        compose("down", "-t", "0")


def test_a_build_context_that_is_missing_is_named(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {web: {build: {context: ./nowhere}}}\n")
    done = compose("build", check=False)
    assert done.returncode != 0
    assert "nowhere" in done.stderr


def test_run_without_a_service_is_a_mistake(compose: Compose) -> None:
    done = compose("run", check=False)
    assert done.returncode != 0
    assert "requires at least 1 arg" in done.stderr
