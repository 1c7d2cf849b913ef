"""What the firewall can't lead to a published port: a proxy carries it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput

pytestmark = pytest.mark.system

HOST_LAN = "192.0.2.1"
NEIGHBOUR = "192.0.2.2"
UDP = socket.SOCK_DGRAM


@pytest.mark.row("NET-21")
def test_with_a_proxy_loopback_needs_no_route_and_ipv6_reaches_a_container_without(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service(userland_proxy=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", ":8053:53/udp"))
        assert sorted((port.host_ip, port.host_port, port.container_ip) for port in web.ports) == [
            ("0.0.0.0", 8053, "172.17.0.2"),
            ("0.0.0.0", 8080, "172.17.0.2"),
            ("::", 8053, "172.17.0.2"),
            ("::", 8080, "172.17.0.2"),
        ]
        lab.serve(web.key, 80)
        lab.serve(web.key, 53, UDP)
        assert Path("/proc/sys/net/ipv4/conf/docker0/route_localnet").read_text() == "0\n"
        for address in ("127.0.0.1", "127.1.2.3", "::1"):
            assert lab.fetch(None, address, 8080) == "172.17.0.1"
            assert lab.fetch(None, address, 8053, UDP) == "172.17.0.1"
        assert lab.fetch(neighbour, HOST_LAN, 8080) == NEIGHBOUR  # not by the proxy
        assert lab.fetch(web.key, HOST_LAN, 8080) == "172.17.0.1"
        await service.release(web)
        for address in ("127.0.0.1", "::1"):
            assert lab.fetch(None, address, 8080) == "ConnectionRefusedError"
            assert lab.fetch(None, address, 8053, UDP) == "ConnectionRefusedError"
        again = await lab.attach(service, "again", port_bindings=bindings("127.0.0.1:8080:80/tcp", "[::1]:8080:80/tcp"))
        lab.serve(again.key, 80)
        assert lab.fetch(None, "::1", 8080) == lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        assert lab.fetch(neighbour, HOST_LAN, 8080) == "ConnectionRefusedError"

    isolated(scenario)


@pytest.mark.row("NET-21")
def test_loopback_of_ipv6_is_carried_also_without_that_option(isolated, bindings):
    async def scenario(lab):
        service = await lab.service(ipv6=True, fixed_cidr_v6="fd00:17::/64")
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", "[::1]:8053:53/udp"))
        lab.serve(web.key, 80, address="::")
        lab.serve(web.key, 53, UDP, address="::")
        assert lab.fetch(None, "::1", 8080) == "fd00:17::1"
        assert lab.fetch(None, "::1", 8053, UDP) == "fd00:17::1"
        assert lab.fetch(None, "fd00:17::1", 8080) == "fd00:17::1"
        assert lab.fetch(None, "127.0.0.1", 8080) == "::ffff:172.17.0.1"
        await lab.create(service, "v4", "172.20.0.0/24")
        with pytest.raises(InvalidInput, match="cannot publish on ::1: the container has no IPv6 address"):
            await lab.attach(service, "plain", "v4", port_bindings=bindings("[::1]:8081:80/tcp"))

    isolated(scenario)


def test_without_a_firewall_the_proxy_carries_everything(isolated, bindings):
    async def scenario(lab):
        neighbour = lab.neighbour()
        service = await lab.service(iptables=False, ip6tables=False, userland_proxy=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        assert lab.fetch(neighbour, HOST_LAN, 8080) == "172.17.0.1"
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        await service.release(web)
        assert lab.fetch(neighbour, HOST_LAN, 8080) == "ConnectionRefusedError"

    isolated(scenario)


def test_the_proxy_has_no_rights_outlives_the_daemon_and_is_started_anew(isolated, bindings):
    async def scenario(lab):
        service = await lab.service(userland_proxy=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        first = proxy_of(lab)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{first}/status").read_text().splitlines())
        assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
        assert [int(status[each], 16) for each in ("CapInh", "CapPrm", "CapEff")] == [0, 0, 0]
        assert (status["Groups"].split(), status["NoNewPrivs"]) == ([], "1")
        await service.close()
        assert lab.fetch(None, "::1", 8080) == "172.17.0.1"
        service = await lab.service(sandboxes={"1" * 64: web}, userland_proxy=True)
        assert proxy_of(lab) == first
        assert lab.fetch(None, "::1", 8080) == "172.17.0.1"
        os.kill(first, signal.SIGKILL)
        while lab.fetch(None, "::1", 8080) != "172.17.0.1" or proxy_of(lab) in (0, first):
            await asyncio.sleep(0.02)
        await service.release(web)
        assert lab.fetch(None, "::1", 8080) == "ConnectionRefusedError"
        last = proxy_of(lab)
        await service.close()
        while Path(f"/proc/{last}/cmdline").exists() and Path(f"/proc/{last}/cmdline").read_bytes():
            await asyncio.sleep(0.02)

    isolated(scenario)


def test_ports_of_a_running_container_change_at_the_proxy_too(isolated, bindings):
    async def scenario(lab):
        service = await lab.service(userland_proxy=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp", ":8053:53/udp"))
        lab.serve(web.key, 81)
        lab.serve(web.key, 54, UDP)
        assert lab.fetch(None, "::1", 8080) != "172.17.0.1"
        change = service.change_ports(web, bindings(":8080:81/tcp", ":8053:54/udp"), web.ports)
        await service._host.relay.settle()
        for address in ("::1", "127.0.0.1"):
            while lab.fetch(None, address, 8080) != "172.17.0.1":
                await asyncio.sleep(0.02)
            while lab.fetch(None, address, 8053, UDP, timeout=1) != "172.17.0.1":
                await asyncio.sleep(0.02)
        change.undo()
        await service._host.relay.settle()
        lab.serve(web.key, 80)
        while lab.fetch(None, "::1", 8080) != "172.17.0.1":
            await asyncio.sleep(0.02)
        await service.release(web)
        assert lab.fetch(None, "::1", 8080) == "ConnectionRefusedError"

    isolated(scenario)


def test_the_proxy_keeps_bytes_ends_and_order(isolated, bindings, in_namespace, serving):
    """A client that says all, ends, and only then reads gets it all back; so do others at the same time."""

    async def scenario(lab):
        service = await lab.service(userland_proxy=True)
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.children.append(serving(web.key, mirror))
        found = await asyncio.to_thread(in_namespace, None, lambda: [send_and_end(size) for size in (0, 1, 8_000_000)])
        assert found == [True, True, True]
        with socket.create_connection(("::1", 8080)) as held:
            held.sendall(b"before")
            while (await service._host.relay.status())["connections"] != 1:
                await asyncio.sleep(0.02)
            change = service.change_ports(web, {}, web.ports)
            await service._host.relay.settle()
            held.sendall(b" and after")  # a port that ends leaves connections to their ends
            held.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: held.recv(100), b"")) == b"before and after"
        change.undo()
        with socket.create_connection(("::1", 8080)) as held:
            await service.release(web)
            held.settimeout(30)
            try:
                ended = held.recv(1) == b""  # a container that ends takes them with it
            except ConnectionResetError:  # also those that the proxy had not seen yet
                ended = True
            assert ended

    isolated(scenario)


def mirror(ready):
    """Answer each client, when it has said all, with the same."""
    server = socket.create_server(("0.0.0.0", 80))
    ready()
    while True:
        client, _ = server.accept()
        with client:
            said = b"".join(iter(lambda client=client: client.recv(1 << 16), b""))
            client.sendall(said)


def send_and_end(size):
    said = os.urandom(size)
    with socket.create_connection(("::1", 8080), timeout=30) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        heard = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    return hashlib.sha256(heard).digest() == hashlib.sha256(said).digest()


def proxy_of(lab):
    """Return the process id of the proxy of a laboratory, 0 when none runs."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() == "boxship-proxy\n" and lab.root.encode() in (comm.parent / "cmdline").read_bytes():
                return int(comm.parent.name)
        except OSError:
            continue
    return 0
