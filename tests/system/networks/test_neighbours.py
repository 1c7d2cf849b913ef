"""Attacks by neighbours: a container beside others, a host on the LAN, other programs that write firewall rules."""

from __future__ import annotations

import asyncio
import os
import selectors
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from boxship.linux import nftables, rtnetlink
from boxship.linux.netlink import Socket
from harness.network_lab import HOST_LAN, HOST_LAN_6, NEIGHBOUR, NEIGHBOUR_6

pytestmark = pytest.mark.system

ARP, IPV6 = 0x0806, 0x86DD
SILENCE = 1.0


@pytest.mark.row("NET-18", "NET-21", "NET-35")
def test_n2_a_neighbour_finds_declared_ports_only_in_both_families(isolated, bindings, in_namespace):
    async def scenario(lab):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        neighbour = lab.neighbour_of_both_families()
        service = await lab.service(ipv6=True, fixed_cidr_v6="fd00:17::/64")
        places = bindings(":8080:80/tcp", "127.0.0.1:8081:81/tcp", "[::1]:8082:81/tcp", f"{HOST_LAN}:8083:81/tcp")
        web = await lab.attach(service, "web", port_bindings=places)
        for port in (80, 81, 82):
            lab.serve(web.key, port, address="::")
        declared = {(HOST_LAN, 8080), (HOST_LAN, 8083), (HOST_LAN_6, 8080)}
        own = [web.endpoints[0].address, web.endpoints[0].address_v6, "172.17.0.1", "fd00:17::1"]
        ports = [*range(1, 1025), *range(8070, 8090)]
        few = [22, 80, 81, 82, 8081, 8082]
        wanted = [(host, port) for host in (HOST_LAN, HOST_LAN_6) for port in ports]
        wanted += [(address, port) for address in own for port in few]
        assert set(map(tuple, in_namespace(neighbour, lambda: scan(wanted, declared)))) == declared
        assert lab.fetch(None, "::1", 8082) == "fd00:17::1"

    isolated(scenario)


@pytest.mark.row("NET-07")
def test_n3_a_container_that_answers_for_others_takes_nothing_from_the_host(isolated, bindings, in_namespace):
    """ARP and neighbour discovery forged for another network's containers, and for the gateway's own address."""

    async def scenario(lab):
        neighbour = lab.neighbour_of_both_families()
        service = await lab.service(ipv6=True, fixed_cidr_v6="fd00:17::/64")
        await lab.create(service, "back", "172.20.0.0/24")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        liar = await lab.attach(service, "liar")
        other = await lab.attach(service, "other", "back", port_bindings=bindings(":8081:80/tcp"))
        for box in (web, other):
            lab.serve(box.key, 80)
        mac = bytes.fromhex(liar.endpoints[0].mac_address.replace(":", ""))
        for address in (other.endpoints[0].address, "172.17.0.1", HOST_LAN, NEIGHBOUR):
            in_namespace(liar.key, lambda address=address: send("eth0", gratuitous_arp(mac, address)))
        for address in ("fd00:17::1", NEIGHBOUR_6):
            in_namespace(liar.key, lambda address=address: send("eth0", advertisement(mac, address)))
        # What the host and others knew of the addresses of other networks and of its own is as it was.
        assert lab.fetch(neighbour, HOST_LAN, 8081) == NEIGHBOUR
        assert lab.fetch(None, other.endpoints[0].address, 80) == "172.20.0.1"
        assert lab.fetch(neighbour, HOST_LAN, 8080) == NEIGHBOUR
        with Socket.open() as sock:
            assert {link.name for link in rtnetlink.list_links(sock) if link.kind == "bridge"} >= {"docker0", "lanbr"}
        # Its own frames with a source of another network are dropped, whatever they say.
        assert lab.fetch(liar.key, other.endpoints[0].address, 80, timeout=1) == "TimeoutError"

    isolated(scenario)


@pytest.mark.row("NET-07")
def test_n3_a_flood_of_forged_macs_opens_nothing_between_bridges_and_stops_nobody(isolated, in_namespace, serving):
    async def scenario(lab):
        service = await lab.service()
        await lab.create(service, "back", "172.20.0.0/24")
        one, two, liar = [await lab.attach(service, name) for name in ("one", "two", "liar")]
        other = await lab.attach(service, "other", "back")
        lab.serve(two.key, 80)
        heard = serving(other.key, listen_for_strangers)  # ends when it hears a frame that is not its own network's
        lab.children.append(heard)
        in_namespace(liar.key, lambda: flood("eth0", 20_000))
        assert lab.fetch(one.key, two.endpoints[0].address, 80) == one.endpoints[0].address
        assert lab.fetch(None, two.endpoints[0].address, 80) == "172.17.0.1"
        assert os.waitpid(heard, os.WNOHANG) == (0, 0)

    isolated(scenario)


@pytest.mark.row("NET-36")
@pytest.mark.parametrize("program", ["firewalld", "iptables-restore"])
def test_n1_rules_come_back_after_what_others_do_during_traffic(isolated, bindings, in_namespace, serving, program):
    """A reload as firewalld does it (a flush and a table of its own, in pieces), and iptables-restore of everything."""
    restore = shutil.which("iptables-nft-restore", path="/usr/sbin:/sbin:/usr/bin")
    if program == "iptables-restore" and restore is None:
        pytest.skip("iptables-nft-restore is not installed")

    async def scenario(lab):
        neighbour = lab.neighbour_of_both_families()
        service = await lab.service()
        await lab.create(service, "back", "172.20.0.0/24")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        other = await lab.attach(service, "other", "back")
        for box in (web, other):
            lab.serve(box.key, 80)
        leaks = Path(lab.root, "leaks")
        lab.children.append(serving(neighbour, lambda ready: try_always(ready, web.endpoints[0].address, 80, leaks)))
        lab.children.append(serving(web.key, lambda ready: try_always(ready, other.endpoints[0].address, 80, leaks)))
        with nftables.Context() as nft:
            for _ in range(5):
                before = nft.run("list table ip boxship_lab")
                if program == "firewalld":
                    nft.run("flush ruleset")
                    await asyncio.sleep(0)
                    nft.run(
                        "table inet firewalld {\n chain forward { type filter hook forward priority 10; accept; }\n}\n"
                    )
                else:
                    text = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"
                    await asyncio.to_thread(
                        subprocess.run, [str(restore)], input=text.encode(), check=True, capture_output=True
                    )
                while nft.run("list ruleset").count("table ip boxship_lab") != 1 or (
                    nft.run("list table ip boxship_lab") != before
                ):
                    await asyncio.sleep(0.01)
                found = await asyncio.to_thread(lab.fetch, neighbour, HOST_LAN, 8080)
                assert found == NEIGHBOUR
        assert not leaks.exists()

    isolated(scenario)


def scan(places, declared):
    """Return the places where a connection is accepted; waits for the declared ones, and a moment for others."""
    selector = selectors.DefaultSelector()
    found = []
    deadline = time.monotonic() + 30
    waiting = iter(places)
    silent = 0.0
    while time.monotonic() < deadline:
        for place in waiting:
            sock = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
            sock.setblocking(False)
            sock.connect_ex(place)
            selector.register(sock, selectors.EVENT_WRITE, place)
            if len(selector.get_map()) >= 500:
                break
        ready = selector.select(SILENCE)
        for key, _ in ready:
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(key.data)
            selector.unregister(key.fileobj)
            key.fileobj.close()
        silent = 0.0 if ready else silent + SILENCE
        if silent and declared <= set(found):
            break
    return found


def send(link, frame):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, 0))
        for _ in range(3):
            sock.send(frame)


def gratuitous_arp(mac, address):
    """Return a frame that tells all that an address is ours."""
    own = mac + socket.inet_aton(address)
    return b"\xff" * 6 + mac + struct.pack("!HHHBBH", ARP, 1, 0x0800, 6, 4, 2) + own + own


def advertisement(mac, address):
    """Return an unsolicited neighbour advertisement (RFC 4861, 4.4) that overrides what is known."""
    source, all_nodes = (socket.inet_pton(socket.AF_INET6, each) for each in (address, "ff02::1"))
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + source + b"\x02\x01" + mac
    total = sum(
        struct.unpack(f"!{(40 + len(body)) // 2}H", source + all_nodes + struct.pack("!II", len(body), 58) + body)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + all_nodes
    return b"\x33\x33\0\0\0\1" + mac + struct.pack("!H", IPV6) + header + body


def flood(link, count):
    """Send frames from so many addresses to nobody."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, 0))
        for number in range(count):
            mac = b"\x02" + number.to_bytes(5, "big")
            sock.send(b"\x02\xff\xff\xff\xff\xfe" + mac + b"\x88\xb5" + bytes(46))  # local experiment, IEEE 802


def listen_for_strangers(ready):
    """End when a frame of the flood arrives."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as sock:
        sock.bind(("eth0", 0x88B5))
        ready()
        sock.recv(100)


def try_always(ready, address, port, leaks):
    """Try to reach a closed place again and again, and note it when that works once."""
    ready()
    while True:
        with socket.socket() as sock:
            sock.settimeout(0.2)
            if sock.connect_ex((address, port)) == 0:
                leaks.touch()
        time.sleep(0.005)
