"""Who reaches whom: containers on all kinds of networks, both families, TCP and UDP, against a table."""

from __future__ import annotations

import contextlib
import select
import socket
import time

import pytest

from boxship.networks import explain

pytestmark = pytest.mark.system

PLACES = {  # container: its networks
    "one": ("front",),
    "two": ("front",),
    "both": ("front", "back"),
    "three": ("back",),
    "inner": ("shut",),
    "mate": ("shut",),
    "plain": ("bridge",),
    "alone": ("none",),
}
TALKING = {  # who is in a network with whom; everybody else is silence
    frozenset(pair) for pair in (("one", "two"), ("one", "both"), ("two", "both"), ("both", "three"), ("inner", "mate"))
}


def answers(probes):
    """Ask everywhere at once; return for each (address, port, protocol, expected) whether an answer came.

    Waits until all the expected ones are there, and then for those that nobody expects.
    """
    sockets = []
    for address, port, protocol, _ in probes:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.connect((address, port))
            if protocol == "udp":
                sock.send(b"?")
        sockets.append(sock)
    answered, refused = set(), set()
    expected = {number for number, probe in enumerate(probes) if probe[3]}
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        waiting = [sock for number, sock in enumerate(sockets) if number not in answered | refused]
        readable, _, _ = select.select(waiting, [], [], 0.5)
        for sock in readable:
            with contextlib.suppress(OSError):
                if sock.recv(100):
                    answered.add(sockets.index(sock))
                    continue
            refused.add(sockets.index(sock))
        if not readable and expected <= answered:
            break
    return [number in answered for number in range(len(probes))]


@pytest.mark.row("NET-07", "NET-34", "NET-35")
def test_containers_are_reached_in_their_own_networks_and_nowhere_else(isolated, in_namespace):
    async def scenario(lab):
        service = await lab.service(ipv6=True, fixed_cidr_v6="fd00:17::/64")
        await lab.create(service, "front", "172.20.0.0/24", "fd00:20::/64", enable_ipv6=True)
        await lab.create(service, "back", "172.21.0.0/24", "fd00:21::/64", enable_ipv6=True)
        await lab.create(service, "shut", "172.22.0.0/24", "fd00:22::/64", enable_ipv6=True, internal=True)
        boxes = {name: await lab.attach(service, name, *networks) for name, networks in PLACES.items()}
        for box in boxes.values():
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for address in ("0.0.0.0", "::"):
                    lab.serve(box.key, 80 if address == "0.0.0.0" else 81, kind, address)
        wrong = []
        for source, box in boxes.items():
            probes = []
            for target, other in boxes.items():
                for endpoint in other.endpoints if target != source else ():
                    common = any(own.network == endpoint.network for own in box.endpoints)
                    assert common is (frozenset((source, target)) in TALKING) or "both" in (source, target)
                    for address, port in ((endpoint.address, 80), (endpoint.address_v6, 81)):
                        if address:
                            probes += [(address, port, kind, common) for kind in ("tcp", "udp")]
            found = in_namespace(box.key, lambda probes=probes: answers(probes))
            wrong += [(source, *probe) for probe, answer in zip(probes, found, strict=True) if answer is not probe[3]]
        assert wrong == []

    isolated(scenario)


@pytest.mark.row("NET-35", "NET-21")
def test_the_default_bridge_has_ipv6_on_request_and_publishes_on_it(isolated, bindings):
    async def scenario(lab):
        service = await lab.service(ipv6=True, fixed_cidr_v6="fd00:17::/64")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        endpoint = web.endpoints[0]
        assert (endpoint.address_v6, endpoint.gateway_v6) == ("fd00:17::2", "fd00:17::1")
        assert [(port.host_ip, port.host_port) for port in web.ports] == [("0.0.0.0", 8080), ("::", 8080)]
        lab.serve(web.key, 80, address="::")
        assert lab.fetch(None, "fd00:17::2", 80) == "fd00:17::1"
        assert lab.fetch(None, "fd00:17::1", 8080) == "fd00:17::1"
        assert lab.fetch(web.key, "fd00:17::1", 8080) == "fd00:17::1"
        await service.release(web)
        assert lab.fetch(None, "fd00:17::1", 8080) == "ConnectionRefusedError"

    isolated(scenario)


@pytest.mark.row("NET-04", "NET-07", "NET-18", "NET-21", "NET-34")
def test_published_ports_and_the_hosts_network_are_reached_as_explained(isolated, bindings, in_namespace):
    """What ``network explain`` says of each place is what packets do; a server in the host's network is there for all."""

    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        await lab.create(service, "front", "172.20.0.0/24")
        await lab.create(service, "shut", "172.22.0.0/24", internal=True)
        places = bindings(":8080:80/tcp", "127.0.0.1:8081:80/tcp", "192.0.2.1:8082:80/tcp", ":8080:80/udp")
        web = await lab.attach(service, "web", "front", port_bindings=places)
        boxes = {name: await lab.attach(service, f"in-{name}", name) for name in ("front", "shut", "bridge")}
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            lab.serve(web.key, 80, kind)
        lab.serve(None, 9000)  # what a container in the host's network does
        clients = {
            "the host": (None, "192.0.2.1"),
            "loopback of the host": (None, "127.0.0.1"),
            "the LAN": (neighbour, "192.0.2.1"),
            **{f"containers of {name}": (box.key, "192.0.2.1") for name, box in boxes.items()},
        }
        facts = await service.facts()
        ways = [explain.published(port, web, facts) for port in web.ports]
        (own,) = explain.own_address(web.endpoints[0], web, facts)
        wrong = []
        for who, (where, address) in clients.items():
            probes, said = [], []
            for port, way in zip(web.ports, ways, strict=True):
                probes.append((address, port.host_port, port.protocol))
                said.append(way)
            if who != "loopback of the host":
                probes.append((web.endpoints[0].address, 80, "tcp"))
                said.append(own)
            expected = [next(reach.reached == "yes" for reach in way.reach if reach.who == who) for way in said]
            probes = [(*probe, answer) for probe, answer in zip(probes, expected, strict=True)]
            probes.append((address, 9000, "tcp", who != "containers of shut"))
            found = in_namespace(where, lambda probes=probes: answers(probes))
            wrong += [(who, *probe) for probe, answer in zip(probes, found, strict=True) if answer is not probe[3]]
        assert wrong == []

    isolated(scenario)
