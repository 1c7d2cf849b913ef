"""Networks and addresses of plugins: the sample plugins make bridges and veth pairs in the engine's own network namespace."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import plugin_session
from harness.engine import Engine
from harness.images import import_busybox
from harness.plugins import IpamPlugin, NetworkPlugin
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
STEPS = ("CreateEndpoint", "Join", "ProgramExternalConnectivity")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that does not wait for plugins which are gone."""
    engine = Engine(options=["--plugin-wait=0"])
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def net(engine: Engine) -> Iterator[NetworkPlugin]:
    """A network plugin; at the end it holds nothing for anybody any more."""
    plugin = NetworkPlugin(engine.plugins, "net", engine.namespace.run)
    plugin.listen()
    yield plugin
    clean(engine)
    until(plugin.empty)
    plugin.close()


@pytest.fixture
def ipam(engine: Engine) -> Iterator[IpamPlugin]:
    plugin = IpamPlugin(engine.plugins, "ipam", RequiresMACAddress=True)
    plugin.listen()
    yield plugin
    clean(engine)
    until(plugin.empty)
    plugin.close()


def clean(engine: Engine) -> None:
    for container in engine.docker("ps", "-aq").stdout.split():
        engine.docker("rm", "-f", container)
    for name in engine.docker("network", "ls", "-qf", "type=custom").stdout.split():
        engine.docker("network", "rm", name)


def sleeper(cli: CLI, name: str, *flags: str) -> str:
    return cli("run", "-d", "--name", name, *flags, "busybox", "sleep", "999").stdout.strip()


def endpoint(cli: CLI, name: str, network: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("inspect", name).stdout)[0]["NetworkSettings"]["Networks"][network]
    return found


def pings(cli: CLI, name: str, target: str) -> bool:
    return cli("exec", name, "ping", "-c", "1", "-W", "5", target, check=False).returncode == 0


@pytest.mark.row("NET-30")
def test_containers_of_a_plugins_network_reach_each_other(cli: CLI, engine: Engine, net: NetworkPlugin) -> None:
    id = cli("network", "create", "-d", "net", "-o", "color=red", "--subnet", "10.77.0.0/24", "mine").stdout.strip()
    asked = net.networks[id]
    assert asked["Options"]["com.docker.network.generic"] == {"color": "red"}
    pool = {"AddressSpace": "LocalDefault", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.1/24"}
    assert (asked["IPv4Data"], asked["IPv6Data"]) == ([pool], [])
    assert "net" in cli("info", "-f", "{{.Plugins.Network}}").stdout
    assert cli("network", "ls", "-f", "name=mine", "--format", "{{.Driver}} {{.Scope}}").stdout == "net local\n"
    one = sleeper(cli, "one", "--network", "mine", "--ip", "10.77.0.44")
    sleeper(cli, "two", "--network", "mine", "-p", "8080:80/udp")
    assert endpoint(cli, "one", "mine")["IPAddress"] == "10.77.0.44"
    assert pings(cli, "one", "two")
    assert pings(cli, "two", "10.77.0.44")
    assert pings(cli, "two", "10.77.0.1")
    shown = endpoint(cli, "two", "mine")
    assert (shown["Gateway"], shown["MacAddress"][:6]) == ("10.77.0.1", "02:77:")
    assert f"link/ether {shown['MacAddress']}" in cli("exec", "two", "ip", "link", "show", "eth0").stdout
    assert "default via 10.77.0.1 dev eth0" in cli("exec", "two", "ip", "route").stdout
    ports = net.open[shown["EndpointID"]]["com.docker.network.portmap"]
    binding = {"Proto": 17, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
    assert ports == [binding]
    busy = cli("network", "rm", "mine", check=False)
    assert "has active endpoints" in busy.stderr
    net.calls.clear()
    cli("rm", "-f", "one", "two")
    until(lambda: not net.endpoints)
    mine = [method.partition(".")[2] for method, body in net.calls if body["EndpointID"] == shown["EndpointID"]]
    assert mine == ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"]
    assert one not in cli("network", "inspect", "mine").stdout
    cli("network", "rm", "mine")
    assert net.empty()


@pytest.mark.row("NET-30")
def test_plugins_are_asked_what_a_dockerd_asked_them(engine: Engine, net: NetworkPlugin, ipam: IpamPlugin) -> None:
    recorded = json.loads(plugin_session.RECORDED.read_text())
    for ours, theirs in zip(plugin_session.play(engine, net, ipam), recorded, strict=True):
        assert ours == theirs


@pytest.mark.row("NET-30")
def test_a_running_container_joins_and_leaves_a_plugins_network(engine: Engine, net: NetworkPlugin) -> None:
    cli = engine.docker
    cli("network", "create", "-d", "net", "--subnet", "10.78.0.0/24", "mine")
    cli("network", "create", "-d", "net", "--subnet", "10.79.0.0/24", "other")
    sleeper(cli, "one", "--network", "mine")
    sleeper(cli, "two", "--network", "other", "-p", "9090:90")
    cli("network", "connect", "--ip", "10.78.0.9", "mine", "two")
    assert endpoint(cli, "two", "mine")["IPAddress"] == "10.78.0.9"
    assert pings(cli, "one", "10.78.0.9")
    assert "eth1" in cli("exec", "two", "ip", "-o", "link").stdout
    way_out = endpoint(cli, "two", "mine")["EndpointID"]
    assert list(net.open) == [endpoint(cli, "one", "mine")["EndpointID"], way_out]  # by name the first
    cli("network", "disconnect", "mine", "two")
    assert "eth1" not in cli("exec", "two", "ip", "-o", "link").stdout
    left = endpoint(cli, "two", "other")["EndpointID"]
    until(lambda: way_out not in net.endpoints)
    assert net.open[left]["com.docker.network.portmap"][0]["HostPort"] == 9090
    assert cli("exec", "two", "ip", "route").stdout.startswith("default via 10.79.0.1 dev eth0")


@pytest.mark.row("NET-30")
def test_addresses_come_from_an_ipam_plugin(engine: Engine, net: NetworkPlugin, ipam: IpamPlugin) -> None:
    cli = engine.docker
    cli("network", "create", "-d", "net", "--ipam-driver", "ipam", "--ipam-opt", "a=b", "--ipv6", "mine")
    pools = [(pool["AddressSpace"], pool["Options"], pool["V6"]) for pool in ipam.pools.values()]
    assert pools == [("here", {"a": "b"}, False), ("here", {"a": "b"}, True)]
    document = json.loads(cli("network", "inspect", "mine").stdout)[0]["IPAM"]
    assert (document["Driver"], document["Options"]) == ("ipam", {"a": "b"})
    assert [pool["Gateway"] for pool in document["Config"]] == ["10.99.1.1", "fd99:2::1"]
    sleeper(cli, "one", "--network", "mine")
    sleeper(cli, "two", "--network", "mine", "--ip", "10.99.1.77")
    assert endpoint(cli, "one", "mine")["IPAddress"] == "10.99.1.2"
    asked = [body for method, body in ipam.calls if method == "IpamDriver.RequestAddress"][-2]
    assert asked["Address"] == "10.99.1.77"
    assert asked["Options"]["com.docker.network.endpoint.macaddress"] == endpoint(cli, "two", "mine")["MacAddress"]
    assert pings(cli, "one", "10.99.1.77")
    assert pings(cli, "one", endpoint(cli, "two", "mine")["GlobalIPv6Address"])
    taken = cli("run", "--rm", "--network", "mine", "--ip", "10.99.1.77", "busybox", "true", check=False)
    assert "remote: 10.99.1.77 is taken" in taken.stderr
    cli("rm", "-f", "one", "two")
    until(lambda: ipam.addresses == {"pool-1": {"10.99.1.1"}, "pool-2": {"fd99:2::1"}})
    cli("network", "rm", "mine")
    until(ipam.empty)


def test_bridges_of_ours_take_addresses_of_an_ipam_plugin(engine: Engine, ipam: IpamPlugin) -> None:
    engine.docker("network", "create", "--ipam-driver", "ipam", "mixed")
    sleeper(engine.docker, "one", "--network", "mixed")
    sleeper(engine.docker, "two", "--network", "mixed")
    assert pings(engine.docker, "one", "10.99.1.3")
    assert "default via 10.99.1.1" in engine.docker("exec", "one", "ip", "route").stdout
    clash = engine.docker("network", "create", "--ipam-driver", "ipam", "--subnet", "10.99.1.0/24", "m2", check=False)
    assert "Pool overlaps with other one on this address space" in clash.stderr


@pytest.mark.parametrize("step", STEPS)
def test_what_a_plugin_refuses_leaves_nothing_of_the_container(
    engine: Engine, net: NetworkPlugin, ipam: IpamPlugin, step: str
) -> None:
    engine.docker("network", "create", "-d", "net", "--ipam-driver", "ipam", "mine")
    before = engine.namespace.run("ip", "-o", "link").stdout
    net.refused[f"NetworkDriver.{step}"] = "the sky is falling"
    net.calls.clear()
    failed = engine.docker("run", "--name", "bad", "--network", "mine", "busybox", "true", check=False)
    assert failed.returncode == 125
    assert "remote: the sky is falling" in failed.stderr
    called = [method.partition(".")[2] for method in net.names()]
    back = ["Leave", "DeleteEndpoint"][2 - STEPS.index(step) :]
    assert called == [*STEPS[: STEPS.index(step) + 1], *back]
    assert (net.endpoints, net.joined) == ({}, {})
    assert ipam.addresses == {"pool-1": {"10.99.1.1"}}
    names = {line.split()[1].partition("@")[0] for line in engine.namespace.run("ip", "-o", "link").stdout.splitlines()}
    assert names == {line.split()[1].partition("@")[0] for line in before.splitlines()}


def test_what_a_plugin_refuses_leaves_nothing_of_the_network(
    engine: Engine, net: NetworkPlugin, ipam: IpamPlugin
) -> None:
    for plugin, method in (
        (net, "NetworkDriver.CreateNetwork"),
        (ipam, "IpamDriver.RequestPool"),
        (ipam, "IpamDriver.RequestAddress"),
    ):
        plugin.refused = {method: "not today"}
        failed = engine.docker("network", "create", "-d", "net", "--ipam-driver", "ipam", "mine", check=False)
        plugin.refused = {}
        assert "remote: not today" in failed.stderr
        assert (net.networks, ipam.pools) == ({}, {})
        assert "mine" not in engine.docker("network", "ls").stdout


def test_interfaces_that_are_not_the_plugins_are_not_given_away(engine: Engine, net: NetworkPlugin) -> None:
    engine.docker("network", "create", "-d", "net", "mine")
    for name in ("nothere", "lo", "docker0"):
        net.join_answer = {"InterfaceName": {"SrcName": name, "DstPrefix": "eth"}}
        failed = engine.docker("run", "--rm", "--network", "mine", "busybox", "true", check=False)
        assert (failed.returncode, name in failed.stderr) == (125, True)
        assert (net.endpoints, net.joined) == ({}, {})
    links = engine.namespace.run("ip", "-o", "link").stdout
    assert " lo:" in links
    assert " docker0:" in links


def test_static_routes_and_other_names_are_followed(engine: Engine, net: NetworkPlugin) -> None:
    engine.docker("network", "create", "-d", "net", "--subnet", "10.80.0.0/24", "mine")
    routes = [
        {"Destination": "169.254.1.1/32", "RouteType": 1},
        {"Destination": "10.200.0.0/16", "RouteType": 0, "NextHop": "10.80.0.1"},
    ]
    net.join_answer = {"StaticRoutes": routes, "Gateway": "169.254.1.1"}
    shown = engine.docker("run", "--rm", "--network", "mine", "busybox", "ip", "route").stdout
    assert "default via 169.254.1.1 dev eth0" in shown
    assert "10.200.0.0/16 via 10.80.0.1 dev eth0" in shown


def test_networks_of_plugins_need_no_addresses_of_ours(engine: Engine, net: NetworkPlugin) -> None:
    refused = engine.docker("network", "create", "--ipam-driver", "null", "nowhere", check=False)
    assert "ipv4 pool is empty" in refused.stderr
    id = engine.docker("network", "create", "-d", "net", "--ipam-driver", "null", "bare").stdout.strip()
    assert net.networks[id]["IPv4Data"] == [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]
    net.decision = {"Address": "10.44.0.7/24"}
    shown = engine.docker("run", "--rm", "--network", "bare", "busybox", "ip", "addr", "show", "eth0").stdout
    assert "inet 10.44.0.7/24" in shown


def test_without_a_gateway_there_is_no_way_out(engine: Engine, net: NetworkPlugin) -> None:
    engine.docker("network", "create", "-d", "net", "mine")
    explained = engine.boxship("network", "explain", sleeper(engine.docker, "one", "--network", "mine")).stdout
    assert "network mine is a plugin's: what its rules are is not known here" in explained
    net.calls.clear()
    net.join_answer = {"Gateway": "", "DisableGatewayService": True}
    assert "default" not in engine.docker("run", "--rm", "--network", "mine", "busybox", "ip", "route").stdout
    assert "NetworkDriver.ProgramExternalConnectivity" not in net.names()


@pytest.mark.row("NET-30")
def test_a_network_whose_plugin_is_gone_can_be_removed(engine: Engine) -> None:
    cli = engine.docker
    with NetworkPlugin(engine.plugins, "passing", engine.namespace.run):
        cli("network", "create", "-d", "passing", "left")
    gone = cli("run", "--rm", "--network", "left", "busybox", "true", check=False)
    assert 'plugin "passing" not found' in gone.stderr
    cli("network", "rm", "left")
    assert "left" not in cli("network", "ls").stdout
    assert 'plugin "passing" not found' in cli("network", "create", "-d", "passing", "new", check=False).stderr


def test_while_a_plugin_hangs_other_networks_are_made(engine: Engine, net: NetworkPlugin) -> None:
    net.held["NetworkDriver.CreateNetwork"] = threading.Event()
    command = [*engine.namespace.prefix(), "docker", "network", "create", "-d", "net", "slow"]
    with subprocess.Popen(command, env=engine.client_environment(), stdout=subprocess.PIPE, text=True) as waiting:
        net.wait_for("NetworkDriver.CreateNetwork")
        engine.docker("network", "create", "quick")
        assert engine.docker("run", "--rm", "--network", "quick", "busybox", "echo", "on").stdout == "on\n"
        taken = engine.docker("network", "create", "slow", check=False)
        assert "network with name slow already exists" in taken.stderr
        net.held["NetworkDriver.CreateNetwork"].set()
        assert waiting.communicate(timeout=60)[0].strip() in net.networks


@pytest.mark.row("NET-30")
def test_a_daemon_killed_in_the_middle_gives_everything_back(fresh_engine: Engine) -> None:
    method = "NetworkDriver.Join"
    engine = fresh_engine
    net = NetworkPlugin(engine.plugins, "net", engine.namespace.run)
    ipam = IpamPlugin(engine.plugins, "ipam", RequiresRequestReplay=True)
    with net, ipam:
        engine.docker("network", "create", "-d", "net", "--ipam-driver", "ipam", "mine")
        stays = sleeper(engine.docker, "stays", "--network", "mine")
        engine.docker("create", "--name", "cut", "--network", "mine", "busybox", "sleep", "999")
        net.held[method] = threading.Event()
        net.calls.clear()
        command = [*engine.namespace.prefix(), "docker", "start", "cut"]
        with subprocess.Popen(command, env=engine.client_environment(), stderr=subprocess.DEVNULL) as starting:
            net.wait_for(method)
            engine.kill()
            starting.wait(30)
        net.held.pop(method).set()
        ipam.calls.clear()
        ipam.addresses = {"pool-1": {"10.99.1.3"}}  # it forgets, so it wants to be told again
        engine.start()
        kept = endpoint(engine.docker, "stays", "mine")["EndpointID"]
        until(lambda: list(net.endpoints) == [kept] and list(net.joined) == [kept], 30)
        until(lambda: ipam.addresses == {"pool-1": {"10.99.1.1", "10.99.1.2"}}, 30)
        assert pings(engine.docker, "stays", "10.99.1.1")
        engine.docker("start", "cut")
        assert pings(engine.docker, "cut", "10.99.1.2")
        engine.docker("rm", "-f", stays, "cut")
        engine.docker("network", "rm", "mine")
        until(net.empty, 30)
        until(lambda: not any(ipam.addresses.values()), 30)
