"""What must not get through: direct access, loopback ports from the LAN, forged addresses, fights for a port."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from boxship.base.errors import BoxshipError
from boxship.linux import nftables, rtnetlink
from boxship.linux.netlink import Socket

pytestmark = pytest.mark.system

HOST_LAN = "192.0.2.1"
NEIGHBOUR = "192.0.2.2"


@pytest.mark.row("NET-21")
def test_a_neighbour_finds_nothing_but_what_is_published_for_it(isolated, in_namespace, bindings):
    async def scenario(lab):
        forward_packets()
        neighbour = lab.neighbour()
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", "127.0.0.1:8081:81/tcp"))
        for port in (80, 81, 82):
            lab.serve(web.key, port)
        assert lab.fetch(None, "127.0.0.1", 8081) == "172.17.0.1"
        found = in_namespace(neighbour, lambda: scan([("172.17.0.2", p) for p in (80, 81, 82, 8080, 8081)]))
        assert found == []
        assert in_namespace(neighbour, lambda: scan([(HOST_LAN, p) for p in (80, 81, 82, 8080, 8081)])) == [8080]

    isolated(scenario)


def test_forged_addresses_reach_neither_host_loopback_nor_containers(isolated, in_namespace, bindings):
    async def scenario(lab):
        forward_packets()
        neighbour = lab.neighbour()
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings("127.0.0.1:8081:81/tcp"))
        lab.serve(web.key, 81)
        lab.serve(None, 9999, address="127.0.0.1")
        host_mac = bytes.fromhex("020000000009")
        forged = [
            (NEIGHBOUR, "127.0.0.1", 8081),
            (NEIGHBOUR, "127.0.0.1", 9999),
            ("127.0.0.1", "172.17.0.2", 81),
            ("172.17.0.9", "172.17.0.2", 81),
            (NEIGHBOUR, "172.17.0.2", 81),
        ]
        # Control: the same kind of frame to an open port of the host is answered, so silence below means a drop.
        lab.serve(None, 7777)
        control = [(NEIGHBOUR, HOST_LAN, 7777)]
        assert in_namespace(neighbour, lambda: answered("eth0", host_mac, control)) == [7777]
        assert in_namespace(neighbour, lambda: answered("eth0", host_mac, forged)) == []
        # A container, too, may not talk to the host's loopback, though the bridge lets loopback addresses pass.
        assert lab.fetch(web.key, "172.17.0.1", 7777) == "172.17.0.2"  # now the host knows how to answer it
        bridge_mac = bytes.fromhex(mac_of("docker0"))
        inside = [("172.17.0.2", "127.0.0.1", 9999)]
        assert in_namespace(web.key, lambda: answered("eth0", bridge_mac, inside)) == []

    isolated(scenario)


@pytest.mark.row("NET-18")
def test_of_many_that_race_for_a_port_exactly_one_wins(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        for _ in range(10):
            attempts = [lab.attach(service, f"c{n}", port_bindings=bindings(":8080:80/tcp")) for n in range(8)]
            results = await asyncio.gather(*attempts, return_exceptions=True)
            (winner,) = [result for result in results if not isinstance(result, BaseException)]
            losers = [result for result in results if isinstance(result, BaseException)]
            assert all(isinstance(result, BoxshipError) for result in losers)
            assert all(str(result).endswith("port is already allocated") for result in losers)
            await service.release(winner)
        with nftables.Context() as nft:
            assert "elements" not in nft.run("list map ip boxship_lab published-any")

    isolated(scenario)


def test_rules_that_others_flush_come_back(isolated, bindings):
    async def scenario(lab):
        forward_packets()
        neighbour = lab.neighbour()
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        with nftables.Context() as nft:
            for damage in ("flush ruleset", "flush chain ip boxship_lab raw-prerouting", "flush ruleset"):
                before = nft.run("list table ip boxship_lab")
                nft.run(damage)
                while "published-any" not in (text := nft.run("list ruleset")) or "ct status dnat" not in text:
                    await asyncio.sleep(0.01)
                while nft.run("list table ip boxship_lab") != before:
                    await asyncio.sleep(0.01)
        assert lab.fetch(neighbour, HOST_LAN, 8080) == NEIGHBOUR
        more = await lab.attach(service, "more", port_bindings=bindings(":8081:80/tcp"))
        lab.serve(more.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8081) == NEIGHBOUR

    isolated(scenario)


def test_a_host_that_did_not_forward_forwards_for_containers_only(isolated):
    async def scenario(lab):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # a new namespace has the machine's own setting
        service = await lab.service()
        with nftables.Context() as nft:
            assert "policy drop" in nft.run("list chain ip boxship_lab forward")
        sandbox = await lab.attach(service, "one")
        await service.close()
        again = await lab.service(sandboxes={"1" * 64: sandbox})
        with nftables.Context() as nft:
            assert "policy drop" in nft.run("list chain ip boxship_lab forward")
        await again.release(sandbox)

    isolated(scenario)


def forward_packets():
    """Let the host forward before Boxship starts, so that nothing but Boxship's own rules is in the way."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mac_of(name):
    with Socket.open() as sock:
        link = rtnetlink.find_link(sock, name)
    assert link is not None
    return link.address.replace(":", "")


def scan(places):
    """Return the ports that accept a connection."""
    found = []
    for address, port in places:
        with socket.socket() as sock:
            sock.settimeout(0.3)
            if sock.connect_ex((address, port)) == 0:
                found.append(port)
    return found


def answered(link, host_mac, attempts):
    """Send a forged SYN for each (source, destination, port) and return the ports that answered with any packet."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as sock:
        sock.bind((link, 0x0800))
        own_mac = sock.getsockname()[4]
        for number, (source, destination, port) in enumerate(attempts):
            sock.send(host_mac + own_mac + b"\x08\x00" + syn(source, destination, 40000 + number, port))
        sock.settimeout(0.5)
        ports = set()
        try:
            while True:
                frame = sock.recv(2000)
                if frame[:6] == own_mac and frame[23] == socket.IPPROTO_TCP:
                    source_port, target_port = struct.unpack_from("!HH", frame, 34)
                    if 40000 <= target_port < 40000 + len(attempts):
                        ports.add(source_port)
        except TimeoutError:
            return sorted(ports)


def syn(source, destination, source_port, port):
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    tcp = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 0x02, 64000, 0, 0)
    check = checksum(addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.mark.row("NET-36")
def test_nothing_passes_while_the_rules_are_gone(isolated, bindings):
    """N1: between a flush and the repair a neighbour with a route reaches no container, and no published port."""

    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        await lab.create(service, "own", "172.20.0.0/24")
        sandbox = await lab.attach(service, "web", "own", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(sandbox.key, 80)
        assert lab.fetch(neighbour, "192.0.2.1", 8080) == "192.0.2.2"
        asyncio.get_running_loop().remove_reader(service._host.firewall.fileno())  # the engine is away
        with nftables.Context() as nft:
            nft.run("flush ruleset")
        assert lab.fetch(neighbour, "172.20.0.2", 80, timeout=1) in ("OSError", "TimeoutError", "PermissionError")
        assert lab.fetch(neighbour, "192.0.2.1", 8080, timeout=1) != "192.0.2.2"
        assert lab.fetch(None, "172.20.0.2", 80) == "172.20.0.1"  # the host itself still gets there
        service._firewall_changed()
        while lab.fetch(neighbour, "192.0.2.1", 8080, timeout=1) != "192.0.2.2":
            await asyncio.sleep(0.01)
        assert lab.fetch(neighbour, "172.20.0.2", 80, timeout=1) == "TimeoutError"

    isolated(scenario)


@pytest.mark.row("NET-36")
def test_rules_of_the_administrator_come_first_and_survive_a_flush(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        sandbox = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(sandbox.key, 80)
        with nftables.Context() as nft:
            nft.run("add rule ip boxship_lab BOXSHIP-USER ip saddr 192.0.2.2 counter packets 0 bytes 0 drop")
            await asyncio.sleep(0)
            assert lab.fetch(neighbour, "192.0.2.1", 8080, timeout=1) == "TimeoutError"
            service._firewall_changed()
            nft.run("flush ruleset")
            service._firewall_changed()
            while "192.0.2.2" not in nft.run("list ruleset"):
                await asyncio.sleep(0.01)
            assert lab.fetch(neighbour, "192.0.2.1", 8080, timeout=1) == "TimeoutError"
            nft.run("flush chain ip boxship_lab BOXSHIP-USER")
            assert lab.fetch(neighbour, "192.0.2.1", 8080) == "192.0.2.2"

    isolated(scenario)


@pytest.mark.row("NET-34")
def test_a_routed_network_is_open_at_its_published_ports_only(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service()
        mode = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}
        await lab.create(service, "routed", "172.20.0.0/24", options=mode)
        await lab.create(service, "shut", "172.21.0.0/24", internal=True)
        sandbox = await lab.attach(service, "web", "routed", port_bindings=bindings(":8080:80/tcp"))
        inner = await lab.attach(service, "inner", "shut", port_bindings=bindings(":8081:80/tcp"))
        for where, port in ((sandbox.key, 80), (sandbox.key, 81), (inner.key, 80)):
            lab.serve(where, port)
        assert lab.fetch(neighbour, "172.20.0.2", 80) == "192.0.2.2"
        assert lab.fetch(neighbour, "172.20.0.2", 81, timeout=1) == "TimeoutError"
        assert lab.fetch(neighbour, "192.0.2.1", 8080) == "ConnectionRefusedError"
        assert inner.ports == []
        assert lab.fetch(inner.key, "172.20.0.2", 80, timeout=1) == "OSError"  # no route at all
        assert lab.fetch(None, "172.21.0.2", 80) == "172.21.0.1"

    isolated(scenario)
