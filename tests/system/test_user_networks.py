"""Networks that users make, through the docker CLI: their life, who reaches whom, what inspect shows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def clean_networks(engine: Engine) -> Iterator[None]:
    """Remove what a test leaves of containers, then of networks."""
    yield
    for container in engine.api("GET", "/containers/json?all=1")[1]:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in engine.api("GET", "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D")[1]:
        status, answer = engine.api("DELETE", f"/networks/{network['Id']}")
        assert status == 204, answer


def sleeper(cli: CLI, name: str, *flags: str) -> str:
    return cli("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000").stdout.strip()


def networks_of(cli: CLI, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]
    return found


def pings(cli: CLI, source: str, address: str, *, seconds: int = 30) -> bool:
    """Tell whether an answer comes within ``seconds``."""
    return cli("exec", source, "ping", "-c", "1", "-W", str(seconds), address, check=False).returncode == 0


def links(engine: Engine) -> set[str]:
    return {link["ifname"].partition("@")[0] for link in json.loads(engine.namespace.run("ip", "-json", "link").stdout)}


@pytest.mark.row("NET-05", "NET-08", "NET-24")
def test_a_network_is_made_shown_and_removed_with_all_that_was_asked(cli: CLI, engine: Engine) -> None:
    flags = "--driver bridge --subnet 182.18.0.0/16 --ip-range 182.18.5.0/24 --gateway 182.18.5.254 --attachable"
    options = "--aux-address one=182.18.5.1 --label a=b -o com.docker.network.driver.mtu=1400"
    id = cli("network", "create", *flags.split(), *options.split(), "custom").stdout.strip()
    document = json.loads(cli("network", "inspect", "custom").stdout)[0]
    assert document["Id"] == id
    assert document["IPAM"]["Config"] == [
        {
            "Subnet": "182.18.0.0/16",
            "IPRange": "182.18.5.0/24",
            "Gateway": "182.18.5.254",
            "AuxiliaryAddresses": {"one": "182.18.5.1"},
        }
    ]
    assert (document["Driver"], document["Scope"], document["Internal"]) == ("bridge", "local", False)
    assert (document["Attachable"], document["Ingress"], document["Labels"]) == (True, False, {"a": "b"})
    assert document["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert f"br-{id[:12]}" in links(engine)
    sleeper(cli, "one", "--network", "custom")
    inside = networks_of(cli, "one")["custom"]
    assert (inside["IPAddress"], inside["Gateway"]) == ("182.18.5.0", "182.18.5.254")
    shown = json.loads(cli("network", "inspect", "custom").stdout)[0]["Containers"]
    assert [(row["Name"], row["IPv4Address"]) for row in shown.values()] == [("one", "182.18.5.0/16")]
    assert "mtu 1400" in cli("exec", "one", "ip", "link", "show", "eth0").stdout
    busy = cli("network", "rm", "custom", check=False)
    assert "has active endpoints" in busy.stderr
    cli("rm", "-f", "one")
    cli("network", "rm", "custom")
    assert f"br-{id[:12]}" not in links(engine)
    assert "custom" not in cli("network", "ls").stdout


@pytest.mark.row("NET-05")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("there", "network with name there already exists"),
        ("--subnet 10.77.1.0/24 new", "Pool overlaps with other one on this address space"),
        ("--subnet 10.77.1.1/24 new", "invalid subnet 10.77.1.1/24"),
        ("-d nosuch new", 'plugin "nosuch" not found'),
        ("-o com.docker.network.bridge.enable_icc=perhaps new", "failed to parse com.docker.network.bridge.enable_icc"),
        ("-o com.docker.network.bridge.gateway_mode_ipv4=isolated new", "can only be used for an internal network"),
        ("-o com.docker.network.bridge.name=docker0 new", "networks have same bridge name"),
        ("bridge", "operation is not permitted on predefined bridge network"),
        ("-d host new", 'only one instance of "host" network is allowed'),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(engine: Engine, arguments: str, text: str) -> None:
    engine.docker("network", "create", "--subnet", "10.77.0.0/16", "there")
    before = links(engine)
    refused = engine.docker("network", "create", *arguments.split(), check=False)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert links(engine) == before


@pytest.mark.row("NET-07", "NET-34")
def test_containers_reach_their_own_network_only(engine: Engine) -> None:
    cli = engine.docker  # networks/test_matrix.py has all pairs
    for name, flags in (("front", ""), ("back", ""), ("inner", "--internal")):
        cli("network", "create", *flags.split(), name)
    names = ("aa", "bb", "cc", "dd", "ee", "ff")
    for name, network in zip(names, ("front", "front", "back", "inner", "inner", "bridge"), strict=True):
        sleeper(cli, name, "--network", network)
    address = {name: next(iter(networks_of(cli, name).values()))["IPAddress"] for name in names}
    assert pings(cli, "aa", address["bb"])
    assert pings(cli, "dd", address["ee"])
    for one, other in (("aa", "cc"), ("dd", "aa"), ("ff", "aa")):
        assert not pings(cli, one, address[other], seconds=1)
    assert "default" not in cli("exec", "dd", "ip", "route").stdout
    assert networks_of(cli, "dd")["inner"]["Gateway"] == ""


@pytest.mark.row("NET-09")
def test_a_running_container_joins_and_leaves_networks(cli: CLI, engine: Engine) -> None:
    cli("network", "create", "--subnet", "10.70.0.0/24", "front")
    cli("network", "create", "--subnet", "10.71.0.0/24", "back")
    sleeper(cli, "one", "--network", "front", "-p", "8085:80")
    sleeper(cli, "two", "--network", "back")
    address = networks_of(cli, "two")["back"]["IPAddress"]
    assert not pings(cli, "one", address, seconds=1)
    cli("network", "connect", "--ip", "10.71.0.77", "back", "one")
    assert networks_of(cli, "one")["back"]["IPAddress"] == "10.71.0.77"
    assert pings(cli, "one", address)
    assert "10.71.0.77\t" in cli("exec", "one", "cat", "/etc/hosts").stdout
    assert "eth1" in cli("exec", "one", "ip", "-o", "link").stdout
    again = cli("network", "connect", "back", "one", check=False)
    assert "endpoint with name one already exists in network back" in again.stderr
    cli("network", "disconnect", "front", "one")  # the way out is the other network now, with the published port
    assert list(networks_of(cli, "one")) == ["back"]
    assert cli("exec", "one", "ip", "route").stdout.startswith("default via 10.71.0.1 dev eth1")
    ports = json.loads(cli("inspect", "one").stdout)[0]["NetworkSettings"]["Ports"]
    assert ports["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8085"}]
    rules = engine.namespace.run("nft", "list", "ruleset").stdout
    assert "tcp . 8085 : 10.71.0.77 . 80" in rules
    assert "10.70.0.2" not in rules
    cli("restart", "-t", "0", "one")
    assert list(networks_of(cli, "one")) == ["back"]
    assert networks_of(cli, "one")["back"]["IPAddress"] == "10.71.0.77"


@pytest.mark.row("NET-06", "NET-09")
def test_a_stopped_container_joins_networks_at_its_start(cli: CLI) -> None:
    cli("network", "create", "one")
    cli("network", "create", "two")
    cli("create", "--name", "box", "--net", "one", "busybox", "sleep", "1000")
    cli("network", "connect", "two", "box")
    cli("network", "disconnect", "one", "box")
    assert list(networks_of(cli, "box")) == ["two"]
    cli("start", "box")
    assert "eth0" in cli("exec", "box", "ip", "-o", "link").stdout
    assert list(networks_of(cli, "box")) == ["two"]
    missing = cli("network", "disconnect", "one", "box", check=False)
    assert "is not connected to network one" in missing.stderr
    none = cli("network", "connect", "none", "box", check=False)
    assert "with one of the networks in private (none) mode" in none.stderr
    host = cli("network", "connect", "host", "box", check=False)
    assert "connected to host network" in host.stderr


@pytest.mark.row("NET-17")
def test_addresses_of_the_users_choice(cli: CLI) -> None:
    cli("network", "create", "--subnet", "10.72.0.0/24", "--ipv6", "--subnet", "fd72::/64", "chosen")
    cli("network", "create", "plain")
    flags = "--ip 10.72.0.9 --ip6 fd72::9 --mac-address 02:42:00:00:00:09 --link-local-ip 169.254.8.8"
    sleeper(cli, "one", "--network", "chosen", *flags.split())
    shown = networks_of(cli, "one")["chosen"]
    assert (shown["IPAddress"], shown["GlobalIPv6Address"], shown["MacAddress"]) == (
        "10.72.0.9",
        "fd72::9",
        "02:42:00:00:00:09",
    )
    inside = cli("exec", "one", "ip", "addr", "show", "eth0").stdout
    for text in ("10.72.0.9/24", "fd72::9/64", "169.254.8.8/16", "02:42:00:00:00:09"):
        assert text in inside
    taken = cli("run", "--rm", "--network", "chosen", "--ip", "10.72.0.9", "busybox", "true", check=False)
    assert taken.returncode == 125
    assert "Address already in use" in taken.stderr
    for network, text in (
        (
            "plain",
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ),
        ("bridge", "user specified IP address is supported on user defined networks only"),
    ):
        refused = cli("run", "--rm", "--network", network, "--ip", "10.72.0.10", "busybox", "true", check=False)
        assert text in refused.stderr


@pytest.mark.row("NET-09")
def test_the_network_of_the_highest_priority_gives_the_way_out(cli: CLI) -> None:
    cli("network", "create", "--subnet", "10.73.0.0/24", "a")
    cli("network", "create", "--subnet", "10.74.0.0/24", "b")
    sleeper(cli, "one", "--network", "a", "--network", "name=b,gw-priority=1")
    assert "default via 10.74.0.1" in cli("exec", "one", "ip", "route").stdout
    sleeper(cli, "two", "--network", "b", "--network", "a")
    assert "default via 10.73.0.1" in cli("exec", "two", "ip", "route").stdout
    assert set(networks_of(cli, "two")) == {"a", "b"}


@pytest.mark.row("NET-05")
def test_networks_survive_a_killed_daemon_and_keep_working(cli: CLI, engine: Engine) -> None:
    cli("network", "create", "kept")
    cli("network", "create", "--internal", "unused")
    sleeper(cli, "one", "--network", "kept")
    engine.kill()
    engine.namespace.run("nft", "flush", "ruleset")
    bridge = next(link for link in links(engine) if link.startswith("br-"))
    engine.namespace.run("ip", "link", "del", bridge)
    engine.start()
    sleeper(cli, "two", "--network", "kept")
    assert pings(cli, "two", networks_of(cli, "one")["kept"]["IPAddress"])
    assert len([link for link in links(engine) if link.startswith("br-")]) == 2
    pruned = cli("network", "prune", "-f").stdout
    assert pruned == "Deleted Networks:\nunused\n\n"


@pytest.mark.row("NET-05")
def test_a_configuration_is_shared_by_networks(cli: CLI) -> None:
    cli("network", "create", "--config-only", "--subnet", "10.75.0.0/24", "--label", "x=y", "settings")
    cli("network", "create", "--config-from", "settings", "real")
    document = json.loads(cli("network", "inspect", "real").stdout)[0]
    assert document["IPAM"]["Config"][0]["Subnet"] == "10.75.0.0/24"
    assert (document["ConfigFrom"], document["Labels"]) == ({"Network": "settings"}, {"x": "y"})
    used = cli("network", "rm", "settings", check=False)
    assert 'configuration network "settings" is in use by network(s): real' in used.stderr
    cli("network", "rm", "real")


@pytest.mark.row("NET-28")
def test_macvlan_puts_containers_on_the_parents_network(cli: CLI, engine: Engine) -> None:
    engine.namespace.run("ip", "link", "add", "lan", "type", "bridge")
    try:
        engine.namespace.run("sh", "-c", "ip addr add 10.76.0.1/24 dev lan && ip link set lan up")
        flags = "-d macvlan --subnet 10.76.0.0/24 --gateway 10.76.0.1 -o parent=lan"
        cli("network", "create", *flags.split(), "wire")
        sleeper(cli, "one", "--network", "wire")
        sleeper(cli, "two", "--network", "wire")
        assert pings(cli, "one", networks_of(cli, "two")["wire"]["IPAddress"])
        assert not pings(cli, "one", "10.76.0.1", seconds=1)  # the host is not reached over its own parent
    finally:
        for name in ("one", "two"):
            cli("rm", "-f", name, check=False)
        cli("network", "rm", "wire", check=False)
        engine.namespace.run("ip", "link", "del", "lan")


@pytest.mark.row("NET-29")
def test_ipvlan_works_or_is_refused_in_clear_words(cli: CLI, engine: Engine) -> None:
    engine.namespace.run("ip", "link", "add", "lan", "type", "bridge")
    try:
        made = cli(
            "network", "create", "-d", "ipvlan", "--subnet", "10.78.0.0/24", "-o", "parent=lan", "v", check=False
        )
        if made.returncode:
            assert "the kernel of this host has no ipvlan interfaces" in made.stderr
        else:
            sleeper(cli, "one", "--network", "v")
            assert networks_of(cli, "one")["v"]["IPAddress"] == "10.78.0.2"
            cli("rm", "-f", "one")
            cli("network", "rm", "v")
    finally:
        engine.namespace.run("ip", "link", "del", "lan")


@pytest.mark.row("NET-12", "RUN-20")
def test_a_link_on_the_default_bridge_gives_a_name_and_variables(cli: CLI) -> None:
    first = sleeper(cli, "base", "--expose", "6379", "-e", "COLOUR=blue")
    show = ["run", "-d", "--name", "web", "--link", "base:db", "busybox", "sh", "-c", "env; sleep 1000"]
    cli(*show)
    assert f"172.17.0.2\tdb {first[:12]} base\n" in cli("exec", "web", "cat", "/etc/hosts").stdout
    assert " 0% packet loss" in cli("exec", "web", "ping", "-c", "1", "-W", "2", "db").stdout
    until(lambda: "DB_NAME" in cli("logs", "web").stdout, 60)
    variables = set(cli("logs", "web").stdout.splitlines())
    assert variables >= {
        "DB_PORT=tcp://172.17.0.2:6379",
        "DB_PORT_6379_TCP=tcp://172.17.0.2:6379",
        "DB_PORT_6379_TCP_ADDR=172.17.0.2",
        "DB_PORT_6379_TCP_PORT=6379",
        "DB_PORT_6379_TCP_PROTO=tcp",
        "DB_NAME=/web/db",
        "DB_ENV_COLOUR=blue",
    }
    assert cli("inspect", "-f", "{{json .HostConfig.Links}}", "web").stdout == '["/base:/web/db"]\n'
    cli("stop", "-t", "0", "base")
    sleeper(cli, "thief")  # has the address now
    cli("start", "base")
    assert f"172.17.0.4\tdb {first[:12]} base\n" in cli("exec", "web", "cat", "/etc/hosts").stdout
    cli("rm", "--link", "web/db")
    assert "base" not in cli("exec", "web", "cat", "/etc/hosts").stdout
    assert cli("ps", "-q").stdout.count("\n") == 3


@pytest.mark.row("NET-12")
def test_a_link_needs_a_container_that_runs(cli: CLI) -> None:
    missing = cli("run", "--link", "nobody:x", "busybox", "true", check=False)
    assert "could not get container for nobody: No such container: nobody" in missing.stderr
    cli("create", "--name", "idle", "busybox", "true")
    idle = cli("run", "--name", "user", "--link", "idle", "busybox", "true", check=False)
    assert idle.returncode == 125
    assert "Cannot link to a non running container: /idle AS /user/idle" in idle.stderr


@pytest.mark.row("NET-12")
def test_a_link_on_a_network_of_the_users_is_a_name_that_only_one_knows(engine: Engine) -> None:
    cli = engine.docker
    cli("network", "create", "named")
    sleeper(cli, "base", "--network", "named")
    sleeper(cli, "web", "--network", "named", "--link", "base:database")
    sleeper(cli, "other", "--network", "named")
    assert pings(cli, "web", "database")
    assert pings(cli, "other", "base")
    assert not pings(cli, "other", "database", seconds=1)


@pytest.mark.row("NET-35", "RUN-29")
def test_a_dual_stack_network_publishes_on_both_families(cli: CLI, engine: Engine) -> None:
    cli("network", "create", "--ipv6", "--subnet", "10.79.0.0/24", "--subnet", "fd79::/64", "dual")
    serve = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    cli("run", "-d", "--name", "web", "--network", "dual", "-p", "8089:80", "busybox", "sh", "-c", serve)
    assert cli("port", "web").stdout == "80/tcp -> 0.0.0.0:8089\n80/tcp -> [::]:8089\n"
    shown = networks_of(cli, "web")["dual"]
    assert (shown["GlobalIPv6Address"], shown["IPv6Gateway"]) == ("fd79::2", "fd79::1")
    sleeper(cli, "friend", "--network", "dual")
    for url in ("http://[fd79::2]/", "http://[fd79::1]:8089/", "http://10.79.0.2/", "http://10.79.0.1:8089/"):
        until(lambda url=url: cli("exec", "friend", "wget", "-qO-", url, check=False).stdout == "hello\n", 60)
    fetch = "import urllib.request as u; print(u.urlopen('http://[fd79::2]/', timeout=5).read())"
    assert "hello" in engine.namespace.run("/usr/bin/python3", "-c", fetch).stdout


@pytest.mark.row("NET-09")
@pytest.mark.parametrize("point", ["network.made", "network.forgotten", "connect.attached", "disconnect.detached"])
def test_what_a_killed_daemon_leaves_half_done_is_undone_or_finished(engine: Engine, point: str) -> None:
    cli = engine.docker
    for name, subnet in (("front", "10.80.0.0/24"), ("back", "10.81.0.0/24"), ("spare", "10.82.0.0/24")):
        cli("network", "create", "--subnet", subnet, name)
    sleeper(cli, "one", "--network", "front")
    sleeper(cli, "two", "--network", "back")
    requests = {
        "network.made": ["create", "--subnet", "10.83.0.0/24", "fresh"],
        "network.forgotten": ["rm", "spare"],
        "connect.attached": ["connect", "back", "one"],
        "disconnect.detached": ["disconnect", "front", "one"],
    }
    before = networks_of(cli, "one")
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": point}
    engine.start()
    cli("network", *requests[point], check=False)
    assert engine.process is not None
    engine.process.wait(30)
    engine.process = None
    engine.environment = {}
    engine.start()
    names = set(cli("network", "ls", "--format", "{{.Name}}").stdout.split())
    assert names == {"bridge", "host", "none", "front", "back"} | ({"spare"} - {requests[point][-1]})
    assert len([link for link in links(engine) if link.startswith("br-")]) == len(names) - 3
    assert networks_of(cli, "one") == before
    inside = cli("exec", "one", "ls", "/sys/class/net").stdout.split()
    assert inside == ["eth0", "lo"]
    assert pings(cli, "one", "10.80.0.1")
    assert cli("exec", "one", "ip", "route").stdout.startswith("default via 10.80.0.1")
    if point != "disconnect.detached":
        cli("network", *requests["connect.attached"])
        assert pings(cli, "one", networks_of(cli, "two")["back"]["IPAddress"])


@pytest.mark.row("NET-11")
def test_a_name_leads_to_the_address_that_its_container_has_now(engine: Engine) -> None:
    cli = engine.docker
    cli("network", "create", "shop")
    sleeper(cli, "web", "--network", "shop")
    sleeper(cli, "mysql", "--network", "shop")
    before = networks_of(cli, "mysql")["shop"]["IPAddress"]
    cli("stop", "-t", "0", "mysql")
    sleeper(cli, "squatter", "--network", "shop")
    assert networks_of(cli, "squatter")["shop"]["IPAddress"] == before
    cli("start", "mysql")
    after = networks_of(cli, "mysql")["shop"]["IPAddress"]
    assert after != before
    assert f"PING mysql ({after})" in cli("exec", "web", "ping", "-c", "1", "-W", "30", "mysql").stdout
