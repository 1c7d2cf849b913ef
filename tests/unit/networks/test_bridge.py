from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from boxship.base.errors import InvalidInput
from boxship.linux.rtnetlink import Address, Link, Route
from boxship.networks import NetworkOptions
from boxship.networks.bridge import choose_interface, choose_name, taken_networks

OURS = "boxship:one"


def link(name, alias="", kind="bridge"):
    return Link(index=1, name=name, up=True, kind=kind, alias=alias, address="", mtu=1500, master=0, peer=0)


@pytest.mark.parametrize(
    ("links", "name"),
    [
        ([], "docker0"),
        ([link("docker0", OURS)], "docker0"),
        ([link("docker0")], "boxship0"),
        ([link("docker0", "boxship:two"), link("boxship0", "boxship:three")], "boxship1"),
        ([link("docker0"), link("boxship0"), link("boxship1", OURS)], "boxship1"),
        ([link("veth1", OURS, kind="veth")], "docker0"),
    ],
)
def test_a_bridge_of_somebody_else_is_left_alone(links, name):
    assert choose_name(links, OURS) == name


def test_addresses_routes_and_name_servers_of_the_host_are_taken():
    found = taken_networks(
        [Address(1, "192.168.1.5", 24), Address(7, "172.17.0.1", 16)],
        [
            Route("", 0, "192.168.1.1", 1, 254),
            Route("0.0.0.0", 1, "10.8.0.1", 3, 254),  # a VPN's way to everywhere
            Route("128.0.0.0", 1, "10.8.0.1", 3, 254),
            Route("10.8.0.0", 16, "", 3, 254),
            Route("172.17.0.0", 16, "", 7, 254),
        ],
        ["10.255.0.53", "2001:db8::1"],
        except_index=7,
    )
    assert found == [IPv4Network("192.168.1.0/24"), IPv4Network("10.8.0.0/16"), IPv4Network("10.255.0.53/32")]


def test_the_bridges_address_is_the_one_asked_for_used_present_or_free():
    present, used = IPv4Interface("172.20.0.1/16"), IPv4Interface("172.19.0.1/16")
    taken = [IPv4Network("172.17.0.0/16")]
    plain = NetworkOptions()
    assert choose_interface(NetworkOptions(bip="10.0.0.1/24"), present, used, taken) == IPv4Interface("10.0.0.1/24")
    assert choose_interface(plain, present, used, taken) == used
    assert choose_interface(plain, present, None, taken) == present
    assert choose_interface(plain, None, None, taken) == IPv4Interface("172.18.0.1/16")


@pytest.mark.row("ENG-17")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bridge": "br0", "bip": "10.0.0.1/24"}, "You specified -b & --bip, mutually exclusive options"),
        ({"iptables": False, "icc": False}, "You specified --iptables=false with --icc=false"),
        ({"bip": "10.0.0.300/24"}, "invalid bip"),
        ({"ip": "localhost"}, "invalid ip"),
        ({"mtu": 10}, "invalid MTU: 10"),
        ({"bridge": 'x" drop; #'}, "invalid bridge name"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(InvalidInput) as raised:
        NetworkOptions(**options)
    assert str(raised.value).startswith(text)
