"""Rows NET of the feature table: what a container sees of its network, and who reaches it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
HOSTS = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
SERVE = ("sh", "-c", 'mkdir /www; echo "served by $NAME" > /www/index.html; exec httpd -f -p 5000 -h /www')


def fetch(engine: Engine, address: str) -> str:
    """Fetch a page from the engine's own network namespace."""
    program = (
        f"import urllib.request; print(urllib.request.urlopen('http://{address}/', timeout=5).read().decode(), end='')"
    )
    found = engine.namespace.run("/usr/bin/python3", "-c", program, check=False)
    return found.stdout


@pytest.mark.row("NET-01")
def test_three_networks_are_there_and_stay(cli: CLI) -> None:
    rows = cli("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").stdout
    assert rows == "bridge bridge local\nhost host local\nnone null local\n"
    for name in ("bridge", "host", "none"):
        refused = cli("network", "rm", name, check=False)
        assert refused.returncode == 1
        assert f"{name} is a pre-defined network and cannot be removed" in refused.stderr


@pytest.mark.row("NET-02", "NET-37")
def test_containers_of_the_default_bridge_are_numbered_and_reach_each_other(cli: CLI, engine: Engine) -> None:
    ids = [cli("run", "-d", "--name", name, "busybox", "sleep", "100").stdout.strip() for name in ("one", "two")]
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.IPPrefixLen}} {{.MacAddress}}{{end}}"
    found = [cli("inspect", "-f", template, id).stdout.split() for id in ids]
    subnet, gateway = json.loads(cli("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"][0].values()
    assert subnet == "172.17.0.0/16"
    assert gateway == "172.17.0.1"
    assert found[0] == ["172.17.0.2", "172.17.0.1", "16", "02:42:ac:11:00:02"]
    assert found[1][0] == "172.17.0.3"
    assert " 0% packet loss" in cli("exec", "one", "ping", "-c", "1", "-W", "2", "172.17.0.3").stdout
    assert cli("exec", "one", "ip", "route").stdout.startswith("default via 172.17.0.1 dev eth0")
    links = json.loads(engine.namespace.run("ip", "-json", "link", "show", "master", "docker0").stdout)
    assert len(links) == 2


@pytest.mark.row("NET-03")
def test_none_has_loopback_only(cli: CLI) -> None:
    links = cli("run", "--rm", "--network=none", "busybox", "ls", "/sys/class/net").stdout
    assert links == "lo\n"
    assert cli("run", "--rm", "--network=none", "busybox", "ip", "route").stdout == ""
    unreachable = cli("run", "--rm", "--network=none", "busybox", "ping", "-c", "1", "172.17.0.1", check=False)
    assert unreachable.returncode == 1


@pytest.mark.row("NET-04")
def test_host_shares_the_hosts_network(cli: CLI, engine: Engine) -> None:
    cli("run", "-d", "--name", "first", "--network=host", "-e", "NAME=host", "busybox", *SERVE)
    until(lambda: fetch(engine, "127.0.0.1:5000") == "served by host\n")
    second = cli("run", "--name", "second", "--network=host", "busybox", "httpd", "-f", "-p", "5000", check=False)
    assert second.returncode != 0
    assert "Address already in use" in second.stderr
    result = cli("run", "--rm", "--network=host", "-p", "80:80", "busybox", "hostname")
    assert "WARNING: Published ports are discarded when using host network mode" in result.stderr


@pytest.mark.row("NET-13", "NET-14")
@pytest.mark.parametrize(
    ("options", "hostname", "full", "line"),
    [
        ((), None, None, "{address}\t{id}\n"),
        (("--hostname", "my.example.com"), "my.example.com", "my.example.com", "{address}\tmy.example.com my\n"),
        (("-h", "web", "--domainname", "example.org"), "web", "web.example.org", "{address}\tweb.example.org web\n"),
        (
            ("--add-host", "db:10.1.2.3", "--add-host=up=host-gateway"),
            None,
            None,
            "10.1.2.3\tdb\n172.17.0.1\tup\n{address}\t{id}\n",
        ),
    ],
)
def test_hosts_and_names(cli: CLI, options: tuple[str, ...], hostname: str | None, full: str | None, line: str) -> None:
    id = cli("run", "-d", "--name", "named", *options, "busybox", "sleep", "100").stdout.strip()[:12]
    address = cli("exec", "named", "hostname", "-i").stdout.strip()
    assert cli("exec", "named", "cat", "/etc/hosts").stdout == HOSTS + line.format(address=address, id=id)
    assert cli("exec", "named", "hostname").stdout.strip() == (hostname or id)
    assert cli("exec", "named", "hostname", "-f").stdout.strip() == (full or id)


@pytest.mark.row("NET-15")
def test_chosen_name_servers_are_the_only_ones(cli: CLI) -> None:
    options = ("--dns=1.1.1.1", "--dns=2.2.2.2", "--dns-search=example1.com", "--dns-search=example2.com")
    text = cli("run", "--rm", *options, "--dns-option=ndots:3", "busybox", "cat", "/etc/resolv.conf").stdout
    assert text == "search example1.com example2.com\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:3\n"
    assert "IP address is not correctly formatted: foo" in cli("run", "--dns=foo", "busybox", check=False).stderr


@pytest.mark.row("NET-16")
def test_without_a_choice_the_hosts_servers_are_used_but_not_those_on_loopback(cli: CLI) -> None:
    lines = cli("run", "--rm", "busybox", "cat", "/etc/resolv.conf").stdout.splitlines()
    servers = [line for line in lines if line.startswith("nameserver ")]
    assert servers
    assert not [server for server in servers if server.split()[1].startswith(("127.", "::1"))]


@pytest.mark.row("NET-18", "NET-20")
def test_ports_are_published_in_all_forms_and_once_only(cli: CLI, engine: Engine) -> None:
    web = ("-p", "8080:5000", "-p", "127.0.0.1:8090:5000", "-p", "7000-7001:7000-7001/udp", "-p", "5000")
    cli("run", "-d", "--name", "one", "-e", "NAME=one", *web, "busybox", *SERVE)
    cli("run", "-d", "--name", "two", "-e", "NAME=two", "-p", "8081:5000", "busybox", *SERVE)
    until(lambda: fetch(engine, "127.0.0.1:8080") == "served by one\n")
    until(lambda: fetch(engine, "127.0.0.1:8081") == "served by two\n")
    assert fetch(engine, "127.0.0.1:8090") == "served by one\n"
    random = re.search(r"0\.0\.0\.0:(\d+)->5000/tcp", cli("ps", "-f", "name=one", "--format", "{{.Ports}}").stdout)
    ports = cli("ps", "-f", "name=one", "--format", "{{.Ports}}").stdout
    assert "0.0.0.0:7000-7001->7000-7001/udp" in ports
    assert "127.0.0.1:8090->5000/tcp" in ports
    assert "0.0.0.0:8080->5000/tcp" in ports
    assert random
    taken = cli("run", "--name", "three", "-p", "8080:80", "busybox", "true", check=False)
    assert taken.returncode == 125
    assert "Bind for 0.0.0.0:8080 failed: port is already allocated" in taken.stderr
    assert cli("ps", "-a", "-f", "name=three", "--format", "{{.Status}}").stdout == "Created\n"
    cli("rm", "-f", "one")
    assert fetch(engine, "127.0.0.1:8080") == ""
    cli("start", "three")


@pytest.mark.row("NET-18", "CLI-08")
@pytest.mark.parametrize(
    ("port", "text"),
    [
        ("99999:80", "invalid hostPort: 99999"),
        ("abc:80", "invalid hostPort: abc"),
        ("80:80:80:80", "invalid IP address: 80:80"),
        ("8000-8005:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8005"),
        ("80/xyz", "invalid proto: xyz"),
        ("300.1.1.1:80:80", "invalid IP address: 300.1.1.1"),
    ],
)
def test_wrong_ports_are_named(cli: CLI, port: str, text: str) -> None:
    result = cli("run", "-p", port, "busybox", "true", check=False)
    assert (result.returncode, text in result.stderr) == (125, True), result.stderr


@pytest.mark.row("NET-19")
@pytest.mark.parametrize("flag", ["-P", "--publish-all"])
def test_publish_all_gives_random_ports_that_port_tells(cli: CLI, engine: Engine, flag: str) -> None:
    cli(
        "run",
        "-d",
        "--name",
        "site",
        flag,
        "--expose",
        "5000",
        "--expose",
        "90/udp",
        "-e",
        "NAME=site",
        "busybox",
        *SERVE,
    )
    found = dict(line.split(" -> ") for line in cli("port", "site").stdout.splitlines())
    assert found.keys() == {"5000/tcp", "90/udp"}
    ports = [int(place.removeprefix("0.0.0.0:")) for place in found.values()]
    assert all(port >= 32768 for port in ports)
    until(lambda: fetch(engine, f"127.0.0.1:{found['5000/tcp'].rpartition(':')[2]}") == "served by site\n")


@pytest.mark.row("NET-23")
def test_expose_publishes_nothing_and_is_not_needed_by_neighbours(cli: CLI, engine: Engine) -> None:
    cli("run", "-d", "--name", "site", "--expose", "5000", "-e", "NAME=site", "busybox", *SERVE)
    assert cli("ps", "--format", "{{.Ports}}").stdout == "5000/tcp\n"
    assert cli("port", "site").stdout == ""
    address = cli("exec", "site", "hostname", "-i").stdout.strip()
    page = ("run", "--rm", "busybox", "wget", "-q", "-O-", f"http://{address}:5000/")
    until(lambda: cli(*page, check=False).stdout == "served by site\n")
    assert fetch(engine, "127.0.0.1:5000") == ""


@pytest.mark.row("NET-17")
def test_a_mac_address_of_ones_own(cli: CLI) -> None:
    mac = "02:42:ac:11:00:99"
    cli("run", "-d", "--name", "mine", "--mac-address", mac, "busybox", "sleep", "100")
    assert cli("exec", "mine", "cat", "/sys/class/net/eth0/address").stdout == f"{mac}\n"
    assert cli("inspect", "-f", "{{.NetworkSettings.Networks.bridge.MacAddress}}", "mine").stdout == f"{mac}\n"
    assert "zz is not a valid mac address" in cli("run", "--mac-address", "zz", "busybox", check=False).stderr
    for network in ("bridge", "none"):
        refused = cli("run", "--network", network, "--ip", "172.17.0.9", "busybox", "true", check=False)
        assert "user specified IP address is supported on user defined networks only" in refused.stderr
