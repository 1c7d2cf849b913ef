"""Containers on the default bridge: reachability among them, outwards, and through published ports."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from boxship.base.errors import BoxshipError, Forbidden

pytestmark = pytest.mark.system

HOST_LAN = "192.0.2.1"
NEIGHBOUR = "192.0.2.2"


@pytest.mark.row("NET-02")
@pytest.mark.row("NET-23")
@pytest.mark.row("NET-24")
def test_containers_of_the_bridge_reach_each_other_and_the_outside_sees_the_host(isolated):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        one, two = await lab.attach(service, "one"), await lab.attach(service, "two")
        assert [s.endpoints[0].address for s in (one, two)] == ["172.17.0.2", "172.17.0.3"]
        assert one.endpoints[0].mac_address == "02:42:ac:11:00:02"
        lab.serve(two.key, 5000)
        lab.serve(neighbour, 5001)
        assert lab.fetch(one.key, "172.17.0.3", 5000) == "172.17.0.2"
        assert lab.fetch(one.key, NEIGHBOUR, 5001) == HOST_LAN
        assert lab.fetch(None, "172.17.0.3", 5000) == "172.17.0.1"

    isolated(scenario)


@pytest.mark.row("NET-18")
@pytest.mark.row("NET-21")
def test_a_published_port_is_reached_from_host_loopback_neighbour_and_containers(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", ":8053:53/udp"))
        other = await lab.attach(service, "other")
        lab.serve(web.key, 80)
        lab.serve(web.key, 53, socket.SOCK_DGRAM)
        assert lab.fetch(neighbour, HOST_LAN, 8080) == NEIGHBOUR
        assert lab.fetch(None, HOST_LAN, 8080) == HOST_LAN
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        assert lab.fetch(None, "172.17.0.1", 8080) == "172.17.0.1"
        assert lab.fetch(other.key, HOST_LAN, 8080) == "172.17.0.1"
        assert lab.fetch(web.key, HOST_LAN, 8080) == "172.17.0.1"
        assert lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM) == NEIGHBOUR
        assert lab.fetch(None, "127.0.0.1", 8053, socket.SOCK_DGRAM) == "172.17.0.1"
        await service.release(web)
        assert lab.fetch(None, "127.0.0.1", 8080) == "ConnectionRefusedError"
        assert lab.fetch(neighbour, HOST_LAN, 8080) == "ConnectionRefusedError"

    isolated(scenario)


def test_a_udp_client_follows_a_port_that_is_published_anew(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        first = await lab.attach(service, "first", port_bindings=bindings(":8053:53/udp"))
        lab.serve(first.key, 53, socket.SOCK_DGRAM)
        assert lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM, source_port=5353) == NEIGHBOUR
        await lab.attach(service, "filler")
        await service.release(first)
        await lab.attach(service, "address of the first")
        second = await lab.attach(service, "second", port_bindings=bindings(":8053:53/udp"))
        assert second.endpoints[0].address != first.endpoints[0].address
        lab.serve(second.key, 53, socket.SOCK_DGRAM)
        assert lab.fetch(neighbour, HOST_LAN, 8053, socket.SOCK_DGRAM, source_port=5353) == NEIGHBOUR

    isolated(scenario)


@pytest.mark.row("NET-03")
def test_none_has_only_loopback(isolated, in_namespace):
    async def scenario(lab):
        service = await lab.service()
        sandbox = await lab.attach(service, "alone", "none")
        names = in_namespace(sandbox.key, lambda: [name for _, name in socket.if_nameindex()])
        assert names == ["lo"]
        assert (sandbox.endpoints[0].network, sandbox.endpoints[0].address) == ("none", "")

    isolated(scenario)


def test_without_icc_only_published_ports_lead_from_container_to_container(isolated, bindings):
    async def scenario(lab):
        # With br_netfilter the kernel would forward the published port's packets as frames, which isolation forbids.
        bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        if bridged.exists():
            bridged.write_text("0")
        service = await lab.service(icc=False)
        one = await lab.attach(service, "one")
        two = await lab.attach(service, "two", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(two.key, 80)
        assert lab.fetch(one.key, "172.17.0.3", 80, timeout=0.5) in ("TimeoutError", "OSError")
        assert lab.fetch(one.key, "172.17.0.1", 8080) == "172.17.0.1"

    isolated(scenario)


@pytest.mark.row("NET-19")
@pytest.mark.row("NET-20")
def test_random_ports_ranges_and_publish_all_find_free_ports(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        first = await lab.attach(service, "first", exposed_ports=["80/tcp", "53/udp"], publish_all=True)
        assert {(p.protocol, p.container_port, p.host_port) for p in first.ports} == {
            ("tcp", 80, 32768),
            ("udp", 53, 32768),
        }
        second = await lab.attach(service, "second", port_bindings=bindings(":8000-8001:80/tcp", "::81/tcp"))
        third = await lab.attach(service, "third", port_bindings=bindings(":8000-8001:80/tcp"))
        assert sorted(p.host_port for p in second.ports) == [8000, 32769]
        assert [p.host_port for p in third.ports] == [8001]

    isolated(scenario)


@pytest.mark.row("NET-18")
def test_a_port_of_another_container_or_program_is_refused_and_nothing_stays(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        first = await lab.attach(service, "first", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(None, 9090)
        before = lab.links()
        with pytest.raises(BoxshipError) as taken:
            await lab.attach(service, "second", port_bindings=bindings(":7000:70/tcp", "127.0.0.1:8080:80/tcp"))
        assert str(taken.value).startswith("driver failed programming external connectivity on endpoint second (")
        assert str(taken.value).endswith("): Bind for 127.0.0.1:8080 failed: port is already allocated")
        with pytest.raises(BoxshipError) as held:
            await lab.attach(service, "third", port_bindings=bindings(":9090:80/tcp"))
        assert str(held.value).endswith(
            "failed to bind host port for 0.0.0.0:9090:172.17.0.3:80/tcp: address already in use"
        )
        assert lab.links() == before
        await service.release(first)
        again = await lab.attach(service, "again", port_bindings=bindings(":7000:70/tcp", "127.0.0.1:8080:80/tcp"))
        assert again.endpoints[0].address == "172.17.0.2"

    isolated(scenario)


@pytest.mark.row("NET-01")
@pytest.mark.row("NET-37")
def test_inspect_shows_the_containers_of_a_network(isolated):
    async def scenario(lab):
        service = await lab.service()
        sandbox = await lab.attach(service, "one")
        bridge = await service.inspect("bridge")
        (container,) = bridge.containers.values()
        assert (container.name, container.ipv4_address) == ("one", "172.17.0.2/16")
        assert container.endpoint_id == sandbox.endpoints[0].endpoint_id
        assert bridge.options["com.docker.network.bridge.name"] == "docker0"
        assert bridge.ipam.config is not None
        assert (bridge.ipam.config[0].subnet, bridge.ipam.config[0].gateway) == ("172.17.0.0/16", "172.17.0.1")
        assert [network.name for network in await service.list({})] == ["bridge", "host", "none"]
        with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
            await service.remove("bridge")

    isolated(scenario)


@pytest.mark.row("ENG-17")
def test_bridge_options_of_the_daemon_are_obeyed(isolated):
    async def scenario(lab):
        service = await lab.service(bip="10.99.0.1/24", fixed_cidr="10.99.0.128/25", mtu=1400, ip="127.0.0.1")
        sandbox = await lab.attach(service, "one", exposed_ports=["80/tcp"], publish_all=True)
        endpoint = sandbox.endpoints[0]
        assert (endpoint.address, endpoint.gateway, endpoint.mtu) == ("10.99.0.128", "10.99.0.1", 1400)
        assert sandbox.ports[0].host_ip == "127.0.0.1"

    isolated(scenario)


@pytest.mark.row("ENG-17")
def test_without_iptables_no_table_is_made(isolated):
    async def scenario(lab):
        service = await lab.service(iptables=False)
        await lab.attach(service, "one")
        assert subprocess.run(["nft", "list", "tables"], capture_output=True, check=True).stdout == b""

    isolated(scenario)
