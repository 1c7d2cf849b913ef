"""The network of steps: out of the bridge by NAT, with names from DNS, as package managers need it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dns_server import DnsServer, always
from harness.engine import Engine
from harness.images import import_busybox
from harness.netns import NetworkNamespace, entered
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

OUTSIDE, INSIDE = "10.77.0.1", "10.77.0.2"


@pytest.fixture(scope="module")
def outside() -> Iterator[NetworkNamespace]:
    """A host with a web server and a DNS server that knows it; it has no way to the engine's containers."""
    namespace = NetworkNamespace()
    yield namespace
    namespace.close()


@pytest.fixture(scope="module")
def engine(outside: NetworkNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose one way out is to that host."""
    engine = Engine(options=[f"--dns={OUTSIDE}"])
    pages = tmp_path_factory.mktemp("pages")
    (pages / "package").write_text("a package\n")
    with contextlib.ExitStack() as undo:
        undo.callback(engine.close)
        ends = ("type", "veth", "peer", "name", "way0", "netns", str(outside.pid))
        engine.namespace.run("ip", "link", "add", "way0", *ends)
        for namespace, address in ((outside, OUTSIDE), (engine.namespace, INSIDE)):
            namespace.run("ip", "address", "add", f"{address}/30", "dev", "way0")
            namespace.run("ip", "link", "set", "way0", "up")
        engine.namespace.run("ip", "route", "add", "default", "via", OUTSIDE)
        undo.callback(DnsServer(outside, OUTSIDE, always(OUTSIDE)).close)
        command = [*outside.prefix(), "busybox", "httpd", "-f", "-p", f"{OUTSIDE}:80", "-h", str(pages)]
        server = undo.enter_context(subprocess.Popen(command))
        undo.callback(server.kill)
        until(lambda: _answers(outside), 30)
        engine.start()
        import_busybox(engine)
        yield engine


def _answers(outside: NetworkNamespace) -> bool:
    with entered(outside), contextlib.suppress(OSError), socket.create_connection((OUTSIDE, 80), timeout=5):
        return True
    return False


def build(engine: Engine, directory: Path, step: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (directory / "Dockerfile").write_text(f"FROM busybox\nRUN {step}\n")
    return subprocess.run(
        [*engine.namespace.prefix(), "docker", "build", "--no-cache", *flags, str(directory)],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.row("BLD-27")
def test_a_step_fetches_by_name_through_the_bridge(engine: Engine, tmp_path: Path) -> None:
    fetched = build(engine, tmp_path, "wget -q -O - http://packages.test/package")
    hosts = build(
        engine,
        tmp_path,
        "grep packages /etc/hosts && wget -q -O - http://packages/package",
        f"--add-host=packages:{OUTSIDE}",
    )
    host = build(engine, tmp_path, "ls /sys/class/net && wget -q -O - http://packages.test/package", "--network=host")
    none = build(engine, tmp_path, f"ls /sys/class/net && wget -q -O - http://{OUTSIDE}/package", "--network=none")

    assert "\na package\n" in fetched.stdout, fetched.stdout + fetched.stderr
    assert f"{OUTSIDE}\tpackages\n" in hosts.stdout and "\na package\n" in hosts.stdout, hosts.stdout + hosts.stderr
    assert "\nway0\n" in host.stdout and "\na package\n" in host.stdout, host.stdout + host.stderr
    assert none.returncode == 1 and "\nlo\n" in none.stdout and "eth0" not in none.stdout
    assert "a package" not in none.stdout
