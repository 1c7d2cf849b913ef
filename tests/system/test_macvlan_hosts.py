"""macvlan between two hosts on one wire, each with an engine of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Engine, Engine]]:
    first, second = Engine(), Engine()
    try:
        peer = ("peer", "name", "wire0", "netns", str(second.namespace.pid))
        first.namespace.run("ip", "link", "add", "wire0", "type", "veth", *peer)
        for engine in (first, second):
            engine.namespace.run("ip", "link", "set", "wire0", "up")
            engine.start()
            import_busybox(engine)
        yield first, second
    finally:
        first.close()
        second.close()


@pytest.mark.row("NET-28")
@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_containers_of_two_hosts_are_on_one_wire(hosts: tuple[Engine, Engine], mode: str) -> None:
    """Beside one another they talk in mode bridge only: others leave that to a switch, which a wire is not, or to nobody."""
    wanted = {"one": "10.80.0.2", "two": "10.80.0.3", "far": "10.80.0.66"}
    where = {"one": hosts[0], "two": hosts[0], "far": hosts[1]}
    if mode == "passthru":  # has room for one
        del wanted["two"], where["two"]
    try:
        for engine in hosts:
            flags = f"-d macvlan --subnet 10.80.0.0/24 -o parent=wire0 -o macvlan_mode={mode}"
            engine.docker("network", "create", *flags.split(), "wire")
        for name, engine in where.items():
            engine.docker(
                "run", "-d", "--name", name, "--network", "wire", "--ip", wanted[name], "busybox", "sleep", "600"
            )
        assert pings(hosts[0], "one", wanted["far"])
        assert pings(hosts[1], "far", wanted["one"])
        if "two" in wanted:
            assert pings(hosts[0], "two", wanted["far"])
            assert pings(hosts[0], "one", wanted["two"], tries=20 if mode == "bridge" else 1) is (mode == "bridge")
    finally:
        for name, engine in where.items():
            engine.docker("rm", "-f", name, check=False)
        for engine in hosts:
            engine.docker("network", "rm", "wire", check=False)


@pytest.mark.row("NET-28")
def test_a_vlan_interface_is_made_and_removed_or_refused_in_clear_words(hosts: tuple[Engine, Engine]) -> None:
    engine = hosts[0]
    create = ("network", "create", "-d", "macvlan", "--subnet", "10.81.0.0/24", "-o", "parent=wire0.10", "tagged")
    made = engine.docker(*create, check=False)
    if made.returncode:
        assert (
            "failed to create wire0.10 vlan link: the kernel of this host has no VLAN interfaces (8021q)" in made.stderr
        )
        assert engine.docker("network", "ls", "-q", "--filter", "name=tagged").stdout == ""
    else:
        assert "vlan protocol 802.1Q id 10" in engine.namespace.run("ip", "-d", "link", "show", "wire0.10").stdout
        engine.docker("network", "rm", "tagged")
    assert engine.namespace.run("ip", "link", "show", "wire0.10", check=False).returncode != 0


def pings(engine: Engine, name: str, address: str, *, tries: int = 20) -> bool:
    return any(
        engine.docker("exec", name, "ping", "-c", "1", "-W", "1", address, check=False).returncode == 0
        for _ in range(tries)
    )
