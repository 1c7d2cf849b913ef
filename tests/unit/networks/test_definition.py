from __future__ import annotations

import pytest

from boxship.base.errors import BoxshipError, Conflict, Forbidden, InvalidInput
from boxship.networks.addressing.pools import with_gateway
from boxship.networks.catalog import Network, Pool
from boxship.networks.definition import define
from boxship.spec.docker.network import IPAM, ConfigReference, IPAMPool, NetworkCreate

THERE = Network(
    id="a" * 64, name="there", driver="bridge", created_ns=0, pools=[Pool(subnet="10.1.0.0/16", gateway="10.1.0.1")]
)


def ask(*others: Network, **fields: object) -> Network:
    request = NetworkCreate(**{"name": "new", **fields})
    return define(request, others, id="b" * 64, created_ns=7)


def pool(subnet: str, **fields: object) -> IPAM:
    return IPAM(config=[IPAMPool(subnet=subnet, **fields)])


def test_a_plain_request_is_a_bridge_of_ipv4():
    network = ask(labels={"a": "b"}, options={"c": "d"})
    assert (network.driver, network.scope, network.ipv4, network.ipv6) == ("bridge", "local", True, False)
    assert (network.labels, network.options, network.pools) == ({"a": "b"}, {"c": "d"}, [])


@pytest.mark.row("NET-05")
@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"name": ""}, InvalidInput, "invalid name: name is empty"),
        ({"name": "a/b"}, InvalidInput, "invalid network name 'a/b'"),
        ({"name": "none"}, Forbidden, "operation is not permitted on predefined none network"),
        ({"name": "there"}, Conflict, "network with name there already exists"),
        ({"scope": "swarm"}, InvalidInput, "cannot create a network of scope swarm"),
        ({"ingress": True}, InvalidInput, "an ingress network needs a swarm"),
        ({"enable_ipv4": False}, InvalidInput, "IPv4 or IPv6 must be enabled"),
        ({"ipam": pool("10.1.5.0/24")}, Forbidden, "invalid pool request: Pool overlaps with other one"),
        ({"ipam": pool("10.0.0.0/8")}, Forbidden, "invalid pool request: Pool overlaps with other one"),
        ({"ipam": pool("10.2.0.1/24")}, InvalidInput, "invalid network config:\ninvalid subnet 10.2.0.1/24"),
        ({"ipam": pool("x")}, InvalidInput, "invalid network config:\ninvalid subnet x: invalid CIDR block"),
        ({"ipam": pool("10.2.0.0/24", gateway="10.3.0.1")}, InvalidInput, "invalid network config:\ninvalid gateway"),
        ({"ipam": pool("10.2.0.0/24", gateway="x")}, InvalidInput, "invalid network config:\ninvalid gateway x"),
        (
            {"ipam": pool("10.2.0.0/24", ip_range="10.2.0.0/16")},
            InvalidInput,
            "invalid network config:\ninvalid ip-ran",
        ),
        (
            {"ipam": pool("10.2.0.0/24", auxiliary_addresses={"a": "10.3.0.1"})},
            InvalidInput,
            "invalid network config:\ninvalid auxiliary address 10.3.0.1: parent subnet is 10.2.0.0/24",
        ),
        (
            {"config_from": ConfigReference(network="there")},
            InvalidInput,
            'configuration network "there" is not a conf',
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(fields, kind, text):
    with pytest.raises(BoxshipError) as raised:
        ask(THERE, **fields)
    assert isinstance(raised.value, kind)
    assert str(raised.value).startswith(text)


def test_a_configuration_is_taken_over_and_stands_alone():
    source = ask(config_only=True, name="settings", ipam=pool("10.2.0.0/24"), labels={"a": "b"})
    assert source.driver == "null"
    network = ask(source, config_from=ConfigReference(network="settings"))
    assert ([p.subnet for p in network.pools], network.labels) == (["10.2.0.0/24"], {"a": "b"})
    with pytest.raises(InvalidInput, match="user specified IPAM configuration is not supported"):
        ask(source, config_from=ConfigReference(network="settings"), ipam=pool("10.3.0.0/24"))


@pytest.mark.parametrize(
    ("given", "gateway"),
    [
        (Pool(subnet="10.2.0.0/24"), "10.2.0.1"),
        (Pool(subnet="10.2.0.0/24", gateway="10.2.0.9"), "10.2.0.9"),
        (Pool(subnet="10.2.0.0/16", ip_range="10.2.5.0/24"), "10.2.5.0"),
        (Pool(subnet="10.2.0.0/24", auxiliary={"a": "10.2.0.1"}), "10.2.0.2"),
        (Pool(subnet="10.2.0.0/31"), "10.2.0.0"),
        (Pool(subnet="fd00:1::/64"), "fd00:1::1"),
    ],
)
def test_a_gateway_is_the_first_address_that_is_free_for_it(given, gateway):
    assert with_gateway(given).gateway == gateway
