"""Netlink messages as bytes, and what a batch does with the answers."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.linux import conntrack, rtnetlink
from boxship.linux.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Request,
    Socket,
    attribute,
    nested,
    read_attributes,
    read_messages,
    text,
    uint32,
)


def message(type, sequence, payload=b"", flags=0):
    return HEADER.pack(HEADER.size + len(payload), type, flags, sequence, 0) + payload


def acknowledge(sequence, error=0):
    return message(NLMSG_ERROR, sequence, struct.pack("=i", -error) + bytes(16))


@pytest.fixture
def kernel():
    """A socket to talk to, and the other end, which plays the kernel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.settimeout(5)
    with Socket(ours), theirs:
        yield Socket(ours), theirs


def test_attributes_are_padded_and_nested():
    assert attribute(3, b"ab") == b"\x06\x00\x03\x00ab\x00\x00"
    assert text(3, "lo") == b"\x07\x00\x03\x00lo\x00\x00"
    assert nested(18, uint32(1, 5)) == b"\x0c\x00\x12\x80\x08\x00\x01\x00\x05\x00\x00\x00"
    assert read_attributes(nested(18, uint32(1, 5))) == {18: uint32(1, 5)}


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=64)))
def test_attributes_come_back_as_they_went(attributes):
    assert read_attributes(b"".join(attribute(type, value) for type, value in attributes.items())) == attributes


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_but_never_hangs(data):
    for read in (read_attributes, lambda data: list(read_messages(data))):
        try:
            read(data)
        except ValueError:
            pass


def test_a_length_that_leaves_the_data_is_refused():
    with pytest.raises(ValueError, match="netlink attribute of 8 bytes"):
        read_attributes(b"\x08\x00\x01\x00")
    with pytest.raises(ValueError, match="netlink message of 99 bytes"):
        list(read_messages(HEADER.pack(99, 1, 0, 1, 0)))


def test_a_batch_is_one_datagram_and_every_request_asks_for_an_answer(kernel):
    sock, other = kernel
    other.send(acknowledge(1) + acknowledge(2))
    sock.execute([Request("one", 16, 0, b"abcd"), Request("two", 17, 0x400, b"")])
    sent = list(read_messages(other.recv(1000)))
    assert [(m.type, m.sequence, m.payload) for m in sent] == [(16, 1, b"abcd"), (17, 2, b"")]
    assert all(m.flags & NLM_F_ACK for m in sent)


def test_an_error_names_its_request_and_the_rest_is_read(kernel):
    sock, other = kernel
    other.send(acknowledge(1))
    other.send(acknowledge(2, errno.EEXIST) + acknowledge(3, errno.ENODEV))
    with pytest.raises(OSError) as raised:
        sock.execute([Request(name, 16, 0, b"") for name in ("first", "second", "third")])
    assert raised.value.errno == errno.EEXIST
    assert raised.value.strerror == "second: File exists"
    other.send(acknowledge(4))
    sock.execute([Request("next", 16, 0, b"")])


def test_answers_to_earlier_requests_are_skipped(kernel):
    sock, other = kernel
    other.send(acknowledge(77, errno.EPERM) + acknowledge(1))
    sock.execute([Request("one", 16, 0, b"")])


def test_a_disturbed_dump_is_asked_again(kernel):
    sock, other = kernel
    other.send(message(16, 1, b"half"))
    other.send(message(NLMSG_DONE, 1, b"\0\0\0\0", flags=NLM_F_DUMP_INTR))
    other.send(message(16, 2, b"good") + message(NLMSG_DONE, 2, b"\0\0\0\0"))
    assert [m.payload for m in sock.dump(Request("list", 18, 0, b""))] == [b"good"]


def test_a_refused_dump_raises(kernel):
    sock, other = kernel
    other.send(acknowledge(1, errno.EPERM))
    with pytest.raises(OSError, match="list: Operation not permitted"):
        sock.dump(Request("list", 18, 0, b""))


def test_a_veth_request_carries_its_peer_and_the_peers_namespace():
    request = rtnetlink.new_veth(
        "veth1", master=4, mtu=1400, peer_name="eth0", peer_mac="02:42:ac:11:00:02", peer_ns_fd=9
    )
    link = rtnetlink.read_link(request.payload)
    assert (link.name, link.kind, link.master, link.mtu, link.up) == ("veth1", "veth", 4, 1400, True)
    info = read_attributes(read_attributes(request.payload, 16)[rtnetlink.IFLA_LINKINFO])
    peer_payload = read_attributes(info[rtnetlink.IFLA_INFO_DATA])[rtnetlink.VETH_INFO_PEER]
    peer = rtnetlink.read_link(peer_payload)
    assert (peer.name, peer.address, peer.mtu, peer.up) == ("eth0", "02:42:ac:11:00:02", 1400, False)
    assert read_attributes(peer_payload, 16)[rtnetlink.IFLA_NET_NS_FD] == struct.pack("=I", 9)


def test_addresses_and_routes_are_read_as_they_are_written():
    address = rtnetlink.read_address(rtnetlink.new_address(3, "10.0.0.1", 24, broadcast="10.0.0.255").payload)
    assert (address.index, address.address, address.prefix) == (3, "10.0.0.1", 24)
    address = rtnetlink.read_address(rtnetlink.new_address(3, "2001:db8::1", 64).payload)
    assert (address.address, address.prefix) == ("2001:db8::1", 64)
    route = rtnetlink.read_route(rtnetlink.new_route("0.0.0.0", 0, gateway="10.0.0.1").payload)
    assert (route.destination, route.prefix, route.gateway, route.table) == ("", 0, "10.0.0.1", 254)
    route = rtnetlink.read_route(rtnetlink.new_route("10.1.0.0", 16, index=3).payload)
    assert (route.destination, route.prefix, route.gateway, route.index) == ("10.1.0.0", 16, "", 3)


@pytest.mark.parametrize("mac", ["", "02:42", "02:42:ac:11:00:0g", "024:2ac:11:00:02", "02-42-ac-11-00-02"])
def test_what_is_no_mac_address_is_refused(mac):
    with pytest.raises(ValueError, match="not a MAC address"):
        rtnetlink.mac_bytes(mac)


def test_a_link_is_named_by_index_or_by_name():
    by_index = rtnetlink.read_link(rtnetlink.set_link(7, up=True, alias="boxship:x").payload)
    assert (by_index.index, by_index.name, by_index.up, by_index.alias) == (7, "", True, "boxship:x")
    by_name = rtnetlink.read_link(rtnetlink.set_link("veth1", up=False, master=0).payload)
    assert (by_name.index, by_name.name, by_name.up) == (0, "veth1", False)


def test_flows_are_filtered_by_the_source_of_the_side_that_is_named():
    for replies, tuple_type in ((False, conntrack.CTA_TUPLE_ORIG), (True, conntrack.CTA_TUPLE_REPLY)):
        attributes = read_attributes(conntrack.forget_source("172.17.0.2", replies=replies).payload, 4)
        address = read_attributes(read_attributes(attributes[tuple_type])[conntrack.CTA_TUPLE_IP])
        assert address[conntrack.CTA_IP_V4_SRC] == bytes([172, 17, 0, 2])
