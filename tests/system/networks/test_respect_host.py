"""A host whose own firewall lets nothing in: published ports stay closed to the outside until its own tool opens them."""

from __future__ import annotations

import socket
import subprocess

import pytest

from harness.network_lab import HOST_LAN, HOST_LAN_6, NEIGHBOUR, NEIGHBOUR_6

pytestmark = pytest.mark.system

NO_INPUT = "chain input { type filter hook input priority filter; policy drop; ct state established accept; }"
NO_FORWARD = "chain forward { type filter hook forward priority filter; policy drop; ct state established accept; }"


def nft(commands):
    subprocess.run(["nft", "-f", "-"], input=commands, text=True, check=True)


@pytest.mark.row("NET-36")
def test_a_host_that_lets_nothing_in_keeps_published_ports_closed_until_it_opens_them(isolated, bindings):
    async def scenario(lab):
        nft(f"table inet host {{ {NO_INPUT}; }}")
        neighbour = lab.neighbour()
        service = await lab.service(respect_host=True)
        await lab.create(service, "other", "172.21.0.0/24")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", f"{HOST_LAN}:8053:53/udp"))
        mate, stranger = await lab.attach(service, "mate"), await lab.attach(service, "stranger", "other")
        lab.serve(web.key, 80)
        lab.serve(web.key, 53, socket.SOCK_DGRAM)
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=2) == "TimeoutError"
        assert lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM, timeout=1) == "TimeoutError"
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        assert lab.fetch(mate.key, "172.17.0.2", 80) == mate.endpoints[0].address
        for container in (mate, stranger):
            assert lab.fetch(container.key, HOST_LAN, 8080) != "TimeoutError"
        nft("add rule inet host input tcp dport 8080 accept\nadd rule inet host input udp dport 8053 accept")
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=30) == NEIGHBOUR
        assert (
            lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM, timeout=1) == "TimeoutError"
        )  # the one that is judged
        assert lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM, timeout=30) == NEIGHBOUR
        await service.release(web)
        again = await lab.attach(service, "web", port_bindings=bindings(f"{HOST_LAN}:8080:80/tcp"))
        lab.serve(again.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=30) == NEIGHBOUR

    isolated(scenario)


@pytest.mark.row("NET-35", "NET-36")
def test_the_same_holds_for_ipv6(isolated, bindings):
    async def scenario(lab):
        needed = (
            "insert rule inet host input meta l4proto ipv6-icmp accept\ninsert rule inet host input iifname lo accept"
        )
        nft(f"table inet host {{ {NO_INPUT}; }}\n{needed}")
        neighbour = lab.neighbour_of_both_families()
        service = await lab.service(respect_host=True, ipv6=True, fixed_cidr_v6="fd00:17::/64")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", ":8053:53/udp"))
        mate = await lab.attach(service, "mate")
        lab.serve(web.key, 80, address="::")
        lab.serve(web.key, 53, socket.SOCK_DGRAM, address="::")
        assert lab.fetch(neighbour, HOST_LAN_6, 8080, timeout=2) == "TimeoutError"
        assert lab.fetch(neighbour, HOST_LAN_6, 8053, socket.SOCK_DGRAM, timeout=1) == "TimeoutError"
        assert lab.fetch(None, "::1", 8080) == "fd00:17::1"  # by the proxy
        assert lab.fetch(None, HOST_LAN_6, 8080) == HOST_LAN_6
        assert lab.fetch(mate.key, "fd00:17::2", 80) == mate.endpoints[0].address_v6
        nft("add rule inet host input tcp dport 8080 accept\nadd rule inet host input udp dport 8053 accept")
        assert lab.fetch(neighbour, HOST_LAN_6, 8080, timeout=30) == NEIGHBOUR_6
        assert lab.fetch(neighbour, HOST_LAN_6, 8053, socket.SOCK_DGRAM, timeout=1) == "TimeoutError"  # it is judged
        assert lab.fetch(neighbour, HOST_LAN_6, 8053, socket.SOCK_DGRAM, timeout=30) == NEIGHBOUR_6

    isolated(scenario)


@pytest.mark.row("NET-36")
def test_what_the_host_closes_again_is_closed(isolated, bindings):
    async def scenario(lab):
        nft(f"table inet host {{ {NO_INPUT}; }}\nadd rule inet host input tcp dport 8080 accept")
        neighbour = lab.neighbour()
        service = await lab.service(respect_host=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=30) == NEIGHBOUR
        nft(f"delete table inet host\ntable inet host {{ {NO_INPUT}; }}")
        service._host.firewall.disturbed()  # what the event loop does as soon as it runs
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=2) == "TimeoutError"

    isolated(scenario)


@pytest.mark.row("NET-36")
@pytest.mark.parametrize("respect_host", [False, True])
def test_a_host_that_forwards_nothing_keeps_published_ports_closed_until_it_opens_them(
    isolated, bindings, respect_host
):
    async def scenario(lab):
        nft(f"table inet host {{ {NO_FORWARD}; }}")
        neighbour = lab.neighbour()
        service = await lab.service(respect_host=respect_host)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=2) == "TimeoutError"
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        nft("add rule inet host forward tcp dport 80 ct status dnat accept")
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=30) == NEIGHBOUR

    isolated(scenario)


def test_without_that_policy_a_host_that_lets_nothing_in_is_passed_by(isolated, bindings):
    async def scenario(lab):
        nft(f"table inet host {{ {NO_INPUT}; }}")
        neighbour = lab.neighbour()
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8080, timeout=30) == NEIGHBOUR

    isolated(scenario)
