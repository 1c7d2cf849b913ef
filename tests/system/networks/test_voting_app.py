"""The voting application by hand: five containers on a front-end and a back-end network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system
SERVES = ("busybox", "httpd", "-f", "-h", "/etc", "-p")


@pytest.fixture
def application(engine: Engine) -> Iterator[Engine]:
    for network in ("front-end", "back-end"):
        engine.docker("network", "create", network)
    engine.docker("run", "-d", "--name", "redis", "--network", "back-end", *SERVES, "6379")
    engine.docker("run", "-d", "--name", "db", "--network", "back-end", *SERVES, "5432")
    engine.docker("run", "-d", "--name", "worker", "--network", "back-end", "busybox", "sleep", "999")
    for name, port in (("vote", 5000), ("result", 5001)):
        engine.docker("run", "-d", "--name", name, "--network", "front-end", "-p", f"{port}:80", *SERVES, "80")
        engine.docker("network", "connect", "back-end", name)
    engine.docker("run", "-d", "--name", "outside", "--network", "front-end", "busybox", "sleep", "999")
    yield engine
    engine.docker("rm", "-f", "redis", "db", "worker", "vote", "result", "outside")
    engine.docker("network", "rm", "front-end", "back-end")


def reaches(engine: Engine, name: str, place: str) -> bool:
    done = engine.docker("exec", name, "timeout", "2", "wget", "-qO-", f"http://{place}/passwd", check=False)
    return "root:x" in done.stdout


def test_who_is_on_the_back_end_reaches_the_databases_and_nobody_else(application: Engine) -> None:
    engine = application
    for name in ("vote", "worker"):
        assert reaches(engine, name, "redis:6379")
    for name in ("result", "worker"):
        assert reaches(engine, name, "db:5432")
    for port in (5000, 5001):
        page = engine.namespace.run("busybox", "wget", "-qO-", f"http://127.0.0.1:{port}/passwd")
        assert "root:x" in page.stdout
    assert reaches(engine, "outside", "vote:80")
    assert not reaches(engine, "outside", "redis:6379")
    address = engine.docker("inspect", "-f", '{{(index .NetworkSettings.Networks "back-end").IPAddress}}', "redis")
    assert not reaches(engine, "outside", f"{address.stdout.strip()}:6379")
    engine.docker("network", "connect", "back-end", "outside")
    assert reaches(engine, "outside", "redis:6379")
