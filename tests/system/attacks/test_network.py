"""Published ports as a neighbour on the LAN sees them, and fights for ports (N2, N5)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import hostile
from harness.engine import Engine
from harness.netns import NetworkNamespace

pytestmark = pytest.mark.system

HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
SERVE = ["sh", "-c", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"]


@pytest.fixture(scope="module")
def neighbour(engine: Engine) -> Iterator[NetworkNamespace]:
    """A host on the same wire as the engine's, which routes the bridge's subnet to it as an attacker would."""
    namespace = NetworkNamespace()
    engine.namespace.run(
        "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", str(namespace.pid)
    )
    engine.namespace.run("ip", "address", "add", f"{HOST}/24", "dev", "lan0")
    engine.namespace.run("ip", "link", "set", "lan0", "up")
    namespace.run("ip", "address", "add", f"{NEIGHBOUR}/24", "dev", "eth0")
    namespace.run("ip", "link", "set", "eth0", "up")
    namespace.run("ip", "route", "add", "172.16.0.0/12", "via", HOST)
    namespace.run("sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1", check=False)
    yield namespace
    engine.namespace.run("ip", "link", "delete", "lan0")
    namespace.close()


def fetch(namespace: NetworkNamespace, address: str, port: int, seconds: float = 1) -> str:
    """Return what a web server says, or the kind of failure."""
    program = (
        "import urllib.request, sys\n"
        f"try: print(urllib.request.urlopen('http://{address}:{port}/', timeout={seconds}).read().decode(), end='')\n"
        "except OSError as e: print('no')\n"
    )
    return namespace.run("/usr/bin/python3", "-c", program).stdout.strip()


def publish(engine: Engine, bindings: list[dict[str, str]]) -> tuple[str, str]:
    id = hostile.start(engine, "busybox", *SERVE, host={"PortBindings": {"80/tcp": bindings}})
    address = hostile.inspect(engine, id)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    hostile.until(lambda: "80" in hostile.exec_(engine, id, "netstat", "-ltn").text)
    return id, address


def test_n2_loopback_publish_stays_on_loopback(engine: Engine, neighbour: NetworkNamespace) -> None:
    id, inside = publish(engine, [{"HostIp": "127.0.0.1", "HostPort": "8101"}])
    assert fetch(engine.namespace, "127.0.0.1", 8101) == "hello"
    assert fetch(neighbour, HOST, 8101) == "no"
    assert fetch(neighbour, inside, 80) == "no"  # by way of a route to the bridge's subnet
    neighbour.run("ip", "route", "add", "127.0.0.1/32", "via", HOST, "dev", "eth0", "table", "99")
    neighbour.run("ip", "rule", "add", "to", "127.0.0.1", "table", "99", "pref", "0")
    neighbour.run("ip", "rule", "del", "pref", "0", "table", "local", check=False)
    try:
        assert fetch(neighbour, "127.0.0.1", 8101) == "no"
    finally:
        neighbour.run("ip", "rule", "add", "pref", "0", "table", "local", check=False)
        neighbour.run("ip", "rule", "del", "to", "127.0.0.1", "table", "99", check=False)
    hostile.remove(engine, id)


def test_n2_a_neighbour_reaches_what_is_published_and_nothing_else(engine: Engine, neighbour: NetworkNamespace) -> None:
    id, inside = publish(engine, [{"HostPort": "8102"}])
    hidden = hostile.start(engine, "busybox", *SERVE)
    assert fetch(neighbour, HOST, 8102) == "hello"
    assert fetch(neighbour, inside, 80) == "no"
    assert (
        fetch(neighbour, hostile.inspect(engine, hidden)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], 80)
        == "no"
    )
    hostile.remove(engine, id)
    assert fetch(neighbour, HOST, 8102) == "no"


def rules(engine: Engine) -> str:
    return engine.namespace.run("nft", "list", "ruleset").stdout


def test_n5_port_fights(engine: Engine) -> None:
    """Many containers at once want one port: exactly one gets it, the others a clear error, and no rule stays."""
    for _ in range(max(1, hostile.rounds(24) // 8)):
        ids = [
            hostile.create(engine, "busybox", "sleep", "100", host={"PortBindings": {"80/tcp": [{"HostPort": "8103"}]}})
            for _ in range(8)
        ]
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda each: hostile.call(engine, "POST", f"/containers/{each}/start"), ids))
        assert sorted(status for status, _ in answers).count(204) == 1, answers
        for status, answer in answers:
            assert status == 204 or "8103" in json.loads(answer)["message"], answer
            assert status == 204 or "already allocated" in json.loads(answer)["message"], answer
        hostile.remove(engine, *ids)
    hostile.until(lambda: "8103" not in rules(engine), lambda: rules(engine))


def test_n5_a_port_that_a_host_process_holds(engine: Engine) -> None:
    program = (
        "import socket, sys\ns = socket.create_server(('0.0.0.0', 8104))\nprint('up', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [*engine.namespace.prefix(), "/usr/bin/python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"up\n"
    wanted = {"PortBindings": {"80/tcp": [{"HostPort": "8104"}]}}
    try:
        result = hostile.run(engine, "busybox", "true", host=wanted)
        assert result.code is None
        assert "address already in use" in result.text
        assert "8104" not in rules(engine)
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
    assert hostile.run(engine, "busybox", "true", host=wanted).code == 0


def test_n5_a_port_is_free_again_after_a_crash(engine: Engine) -> None:

    host = {"PortBindings": {"80/tcp": [{"HostPort": "8105"}]}}
    for kill in ("init", "shim"):
        id = hostile.start(engine, "busybox", *SERVE, host=host)
        hostile.until(lambda: fetch(engine.namespace, "127.0.0.1", 8105) == "hello")
        pid = (
            hostile.inspect(engine, id)["State"]["Pid"]
            if kill == "init"
            else hostile.shim_state(engine, id)["shim_pid"]
        )
        os.kill(pid, signal.SIGKILL)
        hostile.until(lambda ended=id: not hostile.inspect(engine, ended)["State"]["Running"])
        hostile.until(lambda: "8105" not in rules(engine), lambda: rules(engine))
        hostile.remove(engine, id)
