from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.networks.addressing.ipam import AddressInUse, AddressSpace, free_subnet, mac_of, span, subnets
from boxship.networks.addressing.pools import local_pool
from boxship.networks.options import DEFAULT_ADDRESS_POOLS, SMALL_ADDRESS_POOLS, AddressPool


def space(subnet="172.17.0.0/16", gateway="172.17.0.1", allocation_range=None):
    fixed = IPv4Network(allocation_range) if allocation_range else None
    return AddressSpace("bridge", IPv4Network(subnet), IPv4Address(gateway), fixed)


def test_the_lowest_free_address_is_next():
    addresses = space()
    assert [str(addresses.allocate()) for _ in range(3)] == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]
    addresses.release(IPv4Address("172.17.0.3"))
    assert str(addresses.allocate()) == "172.17.0.3"


def test_gateway_network_and_broadcast_are_never_given_out_and_the_end_is_told():
    addresses = space("10.0.0.0/29", "10.0.0.3")
    assert [str(addresses.allocate()) for _ in range(5)] == ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(SystemFailure) as raised:
        addresses.allocate()
    assert str(raised.value) == "no available IPv4 addresses on this network's address pools: bridge"


def test_reserve_refuses_what_is_taken_reserved_or_elsewhere():
    addresses = space()
    assert addresses.reserve(IPv4Address("172.17.0.2"))
    assert not addresses.reserve(IPv4Address("172.17.0.2"))
    assert not addresses.reserve(IPv4Address("172.17.0.1"))
    assert not addresses.reserve(IPv4Address("10.0.0.1"))
    assert str(addresses.allocate()) == "172.17.0.3"


def test_a_fixed_range_limits_what_is_allocated():
    addresses = space(allocation_range="172.17.4.0/30")
    assert [str(addresses.allocate()) for _ in range(4)] == [f"172.17.4.{n}" for n in range(4)]
    with pytest.raises(SystemFailure):
        addresses.allocate()


def test_a_gateway_or_range_outside_the_subnet_is_refused():
    with pytest.raises(InvalidInput):
        space(gateway="10.0.0.1")
    with pytest.raises(InvalidInput):
        space(allocation_range="10.0.0.0/24")


@pytest.mark.parametrize(
    ("taken", "subnet"),
    [
        ([], "172.17.0.0/16"),
        (["172.17.5.0/24"], "172.18.0.0/16"),
        (["172.16.0.0/12"], "192.168.0.0/20"),
        (["172.16.0.0/12", "192.168.0.0/16", "10.0.0.53/32"], "10.1.0.0/16"),
    ],
)
def test_the_first_subnet_that_overlaps_nothing_is_taken(taken, subnet):
    found = free_subnet(DEFAULT_ADDRESS_POOLS, [span(network) for network in taken])
    assert found == IPv4Network(subnet)


def test_pools_are_cut_into_subnets_until_none_is_left():
    pools = [AddressPool(base="10.10.0.0/23", size=24)]
    assert free_subnet(pools, [span("10.10.0.0/24")]) == IPv4Network("10.10.1.0/24")
    with pytest.raises(SystemFailure, match="non-overlapping IPv4 address pool"):
        free_subnet(pools, [span("10.0.0.0/8")])
    with pytest.raises(InvalidInput):
        free_subnet([AddressPool(base="10.10.0.0/24", size=16)], [])


def test_the_mac_address_is_made_of_the_address():
    assert mac_of(IPv4Address("172.17.0.10")) == "02:42:ac:11:00:0a"


def test_four_thousand_networks_find_room_beside_a_vpn():
    vpn = IPv4Network("10.8.0.0/16")
    possible = [subnet for subnet in itertools.islice(subnets(SMALL_ADDRESS_POOLS), 8000) if not subnet.overlaps(vpn)]
    taken = [span(str(subnet)) for subnet in (vpn, *possible[:3999])]
    assert free_subnet(SMALL_ADDRESS_POOLS, taken) == possible[3999]
    taken.remove(span(str(possible[17])))
    assert free_subnet(SMALL_ADDRESS_POOLS, taken) == possible[17]


def test_a_subnet_of_ipv6_comes_from_a_pool_of_its_own():
    pools = [local_pool("one")]
    first = free_subnet(pools, [])
    assert first.subnet_of(IPv6Network("fd00::/8"))
    assert first.prefixlen == 64
    assert free_subnet(pools, [span(str(first))]) == IPv6Network((int(first.network_address) + (1 << 64), 64))
    assert local_pool("two") != local_pool("one")


def test_an_address_of_the_users_choice_is_given_once():
    addresses = space("10.0.0.0/24", "10.0.0.1")
    addresses.choose(IPv4Address("10.0.0.9"))
    with pytest.raises(AddressInUse, match="Address already in use"):
        addresses.choose(IPv4Address("10.0.0.9"))
