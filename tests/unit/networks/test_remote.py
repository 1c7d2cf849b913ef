"""What a network plugin answers is taken over only where it makes sense."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from boxship.base.errors import SystemFailure
from boxship.networks.drivers.remote import Interface, Joined, decided, joined
from boxship.networks.models import Endpoint, StaticRoute

ENDPOINT = Endpoint(network="mine", network_id="n", endpoint_id="e", address="10.0.0.2", prefix_length=24)


def after_join(answer: dict[str, Any], *taken: str) -> Endpoint:
    document = {"InterfaceName": {"SrcName": "veth1", "DstPrefix": "eth"}, **answer}
    return joined(ENDPOINT, msgspec.convert(document, Joined), set(taken))


def after_create(endpoint: Endpoint = ENDPOINT, **answer: str) -> Endpoint:
    return decided(endpoint, msgspec.convert(answer, Interface))


@pytest.mark.row("NET-30")
def test_an_endpoint_that_joined_has_names_gateways_and_routes() -> None:
    routes = [{"Destination": "169.254.1.1/32", "RouteType": 1}, {"Destination": "10.9.0.0/16", "NextHop": "10.0.0.1"}]
    found = after_join({"Gateway": "169.254.1.1", "GatewayIPv6": "fe80::1", "StaticRoutes": routes}, "eth0", "eth2")
    assert (found.plugin_link, found.link) == ("veth1", "eth1")
    assert (found.gateway, found.gateway_v6) == ("169.254.1.1", "fe80::1")
    assert found.routes == [StaticRoute("169.254.1.1/32"), StaticRoute("10.9.0.0/16", "10.0.0.1")]
    assert after_join({"InterfaceName": {"SrcName": "v", "DstName": "data0"}}).link == "data0"
    assert after_join({"InterfaceName": {"SrcName": "v"}}).link == "eth0"


@pytest.mark.parametrize(
    "answer",
    [
        {"InterfaceName": {}},
        {"InterfaceName": {"SrcName": "../../proc", "DstPrefix": "eth"}},
        {"InterfaceName": {"SrcName": "v" * 16, "DstPrefix": "eth"}},
        {"InterfaceName": {"SrcName": "v\n", "DstPrefix": "eth"}},
        {"InterfaceName": {"SrcName": "v", "DstPrefix": "e" * 15}},
        {"InterfaceName": {"SrcName": "v", "DstName": "eth0"}},
        {"Gateway": "everywhere"},
        {"Gateway": "fe80::1"},
        {"GatewayIPv6": "10.0.0.1"},
        {"StaticRoutes": [{"Destination": "10.0.0.0/99"}]},
        {"StaticRoutes": [{"Destination": "10.0.0.0/8", "NextHop": "x"}]},
        {"StaticRoutes": [{"Destination": "10.0.0.0/8"}] * 1001},
    ],
)
def test_answers_to_a_join_that_make_no_sense_are_errors(answer: dict[str, Any]) -> None:
    with pytest.raises(SystemFailure):
        after_join(answer, "eth0")


def test_a_plugin_decides_what_is_not_decided() -> None:
    bare = Endpoint(network="mine", network_id="n", endpoint_id="e")
    found = after_create(bare, Address="10.1.0.7/16", AddressIPv6="fd00::7/64", MacAddress="02:00:00:00:00:0A")
    assert (found.address, found.prefix_length) == ("10.1.0.7", 16)
    assert (found.address_v6, found.prefix_length_v6, found.mac_address) == ("fd00::7", 64, "02:00:00:00:00:0a")
    assert after_create(Address="10.0.0.2/24").address == "10.0.0.2"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"Address": "10.0.0.3/24"}, r"driver modified interface address: .*\(10.0.0.2\). Cannot be modified with"),
        ({"Address": "10.0.0.2/99"}, "invalid CIDR address"),
        ({"AddressIPv6": "10.0.0.2/24"}, "invalid CIDR address"),
        ({"MacAddress": "02:zz"}, "MAC address"),
    ],
)
def test_a_plugin_does_not_change_what_is_decided(answer: dict[str, str], words: str) -> None:
    with pytest.raises(SystemFailure, match=words):
        after_create(**answer)
