from __future__ import annotations

import errno
import socket

import pytest

from boxship.networks.models import PublishedPort
from boxship.networks.publishing.ports import PortTable, PortTaken, reserve
from boxship.networks.publishing.publish import Claim


class Socket:
    closed = False
    type = socket.SOCK_STREAM

    def shutdown(self, how):
        assert not self.closed

    def close(self):
        self.closed = True


class Host:
    """Remembers sockets; ``busy`` maps a port to the errno of a bind."""

    def __init__(self, busy=()):
        self.busy = dict(busy)
        self.sockets = []

    def reserve(self, protocol, address, port, share):
        if port in self.busy:
            raise OSError(self.busy[port], "no")
        self.sockets.append(Socket())
        return self.sockets[-1]


def table(busy=(), first=100, last=102):
    host = Host(busy)
    return PortTable(host.reserve, (first, last)), host


def exact(port, ip="0.0.0.0", protocol="tcp"):
    return Claim(protocol, ip, port, port, 80)


def take(ports, claim, container="c"):
    return ports.take(claim, [(claim.host_ip, container)])[0]


ANY_PORT = Claim("tcp", "0.0.0.0", 0, 0, 80)


@pytest.mark.parametrize(
    ("first", "second"),
    [("0.0.0.0", "10.0.0.1"), ("10.0.0.1", "0.0.0.0"), ("1.1.1.1", "1.1.1.1"), ("fd00::1", "fd00::1")],
)
def test_a_port_is_given_once(first, second):
    ports, _ = table()
    take(ports, exact(80, first), "172.17.0.2")
    with pytest.raises(PortTaken) as raised:
        take(ports, exact(80, second), "172.17.0.3")
    shown = f"[{second}]" if ":" in second else second
    assert str(raised.value) == f"Bind for {shown}:80 failed: port is already allocated"


def test_other_protocols_and_addresses_do_not_collide():
    ports, _ = table()
    for claim in (exact(80, "1.1.1.1"), exact(80, "2.2.2.2"), exact(80, "0.0.0.0", "udp"), exact(80, "::")):
        take(ports, claim, "172.17.0.2")
    assert len(ports) == 4


def test_a_port_on_both_wildcards_is_the_same_and_given_whole_or_not_at_all():
    ports, host = table()
    take(ports, exact(100, "::"))
    both = ANY_PORT._replace(both=True)
    given = ports.take(both, both.targets("172.17.0.2", "fd00::2"))
    assert [(port.host_ip, port.host_port, port.container_ip) for port in given] == [
        ("0.0.0.0", 101, "172.17.0.2"),
        ("::", 101, "fd00::2"),
    ]
    assert host.sockets[1].closed  # of 100 on IPv4, which IPv6 did not have
    assert take(ports, exact(100)).host_port == 100


def test_a_port_that_is_given_back_is_free_and_its_socket_closed():
    ports, host = table()
    port = take(ports, exact(80), "172.17.0.2")
    ports.give_back(port)
    ports.give_back(port)
    assert host.sockets[0].closed
    assert take(ports, exact(80), "172.17.0.3").container_ip == "172.17.0.3"


def test_random_ports_rotate_and_skip_what_the_host_uses():
    ports, _ = table({101: errno.EADDRINUSE})
    first = take(ports, ANY_PORT, "172.17.0.2")
    ports.give_back(first)
    assert [first.host_port, take(ports, ANY_PORT, "c").host_port, take(ports, ANY_PORT, "c").host_port] == [
        100,
        102,
        100,
    ]
    with pytest.raises(PortTaken):
        take(ports, ANY_PORT, "c")


def test_a_range_gives_its_first_free_port():
    ports, _ = table({8000: errno.EADDRINUSE})
    claim = Claim("tcp", "0.0.0.0", 8000, 8002, 80)
    assert [take(ports, claim, "c").host_port for _ in range(2)] == [8001, 8002]
    with pytest.raises(PortTaken) as raised:
        take(ports, claim, "c")
    assert (raised.value.port, raised.value.error) == (8000, errno.EADDRINUSE)


def test_an_address_that_is_not_the_hosts_ends_the_search():
    ports, _ = table({100: errno.EADDRNOTAVAIL})
    with pytest.raises(PortTaken) as raised:
        take(ports, ANY_PORT, "c")
    assert raised.value.error == errno.EADDRNOTAVAIL


def test_an_adopted_port_is_taken_even_when_its_socket_is_lost():
    ports, _ = table({80: errno.EADDRINUSE})
    ports.adopt(PublishedPort(protocol="tcp", host_ip="0.0.0.0", host_port=80, container_ip="c", container_port=80))
    with pytest.raises(PortTaken, match="already allocated"):
        take(ports, exact(80), "c")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_reserved_port_keeps_every_other_program_out(kind):
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    held = reserve(protocol, "127.0.0.1", port)
    assert held is not None
    with held, socket.socket(socket.AF_INET, kind) as other:
        if kind == socket.SOCK_STREAM:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError) as raised:
            other.bind(("127.0.0.1", port))
        assert raised.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError):
            reserve(protocol, "127.0.0.1", port)


def test_a_port_with_connections_in_time_wait_can_be_reserved():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first and keeps TIME_WAIT
        client.recv(1)
        client.close()
    held = reserve("tcp", "127.0.0.1", port)
    assert held is not None
    held.close()
