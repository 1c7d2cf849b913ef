"""Names between real containers, through deaths of the engine and of the nameserver."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from harness.dns_server import DnsServer, always
from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system


def lookup(engine: Engine, container: str, name: str) -> list[str]:
    """Return the addresses that a container finds for a name, sorted."""
    out = engine.docker("exec", container, "nslookup", name, check=False).stdout
    return sorted(re.findall(r"^Address: (\S+)$", out, re.MULTILINE))


def address(engine: Engine, container: str, network: str) -> str:
    (document,) = json.loads(engine.docker("inspect", container).stdout)
    return str(document["NetworkSettings"]["Networks"][network]["IPAddress"])


def nameserver(engine: Engine) -> int:
    """Return the process id of an engine's nameserver, 0 if there is none."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            named = comm.read_text() == "boxship-dns\n"
            if named and str(engine.exec_root).encode() in (comm.parent / "cmdline").read_bytes():
                return int(comm.parent.name)
        except OSError:
            continue
    return 0


def start(engine: Engine, name: str, network: str, *flags: str) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, *flags, "busybox", "sleep", "9999")


@pytest.mark.row("NET-10", "NET-32")
def test_containers_find_each_other_by_name_id_and_alias(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for network in ("front", "back"):
        engine.docker("network", "create", network)
    start(engine, "web", "front", "--dns", "127.0.0.1")  # nobody there: what is unknown here is so at once
    for name in ("api1", "api2"):
        start(engine, name, "front", "--network-alias", "api")
    start(engine, "hidden", "back")
    engine.docker("run", "-d", "--name", "plain", "busybox", "sleep", "9999")
    assert engine.docker("exec", "web", "cat", "/etc/resolv.conf").stdout.startswith("nameserver 127.0.0.11\n")
    short = engine.docker("inspect", "-f", "{{.Id}}", "api1").stdout[:12]
    expected = [address(engine, "api1", "front")]
    assert (lookup(engine, "web", "api1"), lookup(engine, "web", short)) == (expected, expected)
    assert lookup(engine, "web", "api") == sorted([*expected, address(engine, "api2", "front")])
    assert lookup(engine, "web", "hidden") == []
    engine.docker("network", "connect", "back", "web")
    assert lookup(engine, "web", "hidden") == [address(engine, "hidden", "back")]
    engine.docker("stop", "-t", "0", "api2")
    assert lookup(engine, "web", "api") == expected
    assert "127.0.0.11" not in engine.docker("exec", "plain", "cat", "/etc/resolv.conf").stdout


@pytest.mark.row("NET-10")
def test_n3_names_outside_are_asked_from_the_container_and_never_from_an_internal_network(fresh_engine: Engine) -> None:
    engine = fresh_engine
    server = DnsServer(engine.namespace, "0.0.0.0", always("192.0.2.9"))
    try:
        engine.docker("network", "create", "front")
        engine.docker("network", "create", "--internal", "inside")
        gateway = engine.docker(
            "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "front"
        ).stdout.strip()
        start(engine, "outer", "front", "--dns", gateway)
        start(engine, "inner", "inside", "--dns", gateway)
        assert lookup(engine, "outer", "example.com") == ["192.0.2.9"]
        asked = len(server.queries)
        assert lookup(engine, "inner", "secret.example.com") == []
        assert len(server.queries) == asked
        engine.docker("network", "connect", "front", "inner")
        assert lookup(engine, "inner", "example.com") == ["192.0.2.9"]
        engine.docker("network", "disconnect", "front", "inner")
        asked = len(server.queries)
        assert lookup(engine, "inner", "other.example.com") == []
        assert len(server.queries) == asked
    finally:
        server.close()


@pytest.mark.row("NET-10")
def test_names_outlive_the_engine_and_a_killed_nameserver(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.docker("network", "create", "front")
    start(engine, "web", "front")
    start(engine, "db", "front")
    first = nameserver(engine)
    engine.kill()
    assert nameserver(engine) == first
    engine.start()
    assert nameserver(engine) == first
    assert lookup(engine, "web", "db") == [address(engine, "db", "front")]
    os.kill(first, signal.SIGKILL)
    until(lambda: nameserver(engine) not in (0, first), 60)
    until(lambda: lookup(engine, "web", "db"), 60)
    assert lookup(engine, "web", "db") == [address(engine, "db", "front")]
    engine.docker("rm", "-f", "web", "db")
