"""A host whose own firewall lets nothing in: published ports stay closed to the outside until its own tool opens them."""

from __future__ import annotations

import socket
import subprocess

import pytest

pytestmark = pytest.mark.system

HOST_LAN = "192.0.2.1"
NEIGHBOUR = "192.0.2.2"
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
