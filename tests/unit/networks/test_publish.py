from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.networks.publishing.publish import Claim, claims
from boxship.spec.docker.container import PortBinding


def ask(bindings, exposed=(), publish_all=False):
    places = {key: [PortBinding(host_ip=ip, host_port=port) for ip, port in value] for key, value in bindings.items()}
    return claims(places, exposed, publish_all=publish_all, default_ip="0.0.0.0")


@pytest.mark.row("NET-18")
@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"80/tcp": [("", "8080")]}, [Claim("tcp", "0.0.0.0", 8080, 8080, 80, True)]),
        ({"80": [("127.0.0.1", "")]}, [Claim("tcp", "127.0.0.1", 0, 0, 80)]),
        ({"53/udp": [("10.0.0.1", "0")]}, [Claim("udp", "10.0.0.1", 0, 0, 53)]),
        ({"80/tcp": [("", "8000-8010")]}, [Claim("tcp", "0.0.0.0", 8000, 8010, 80, True)]),
        ({"80/tcp": [("[fd00::1]", "80")]}, [Claim("tcp", "fd00::1", 80, 80, 80)]),
        ({"9/sctp": [("", "9")]}, [Claim("sctp", "0.0.0.0", 9, 9, 9, True)]),
        ({"80/tcp": [("", "80"), ("0.0.0.0", "80")]}, [Claim("tcp", "0.0.0.0", 80, 80, 80, True)]),
    ],
)
def test_bindings_become_claims(bindings, expected):
    assert ask(bindings) == expected


def test_claims_without_a_choice_come_first():
    found = ask({"1/tcp": [("", "")], "2/tcp": [("", "8000-8001")], "3/tcp": [("", "8000")]})
    assert [claim.container_port for claim in found] == [3, 2, 1]


@pytest.mark.row("NET-19")
def test_publish_all_gives_each_exposed_port_without_a_binding_a_random_one():
    found = ask({"80/tcp": [("", "8080")], "81/tcp": []}, ["80/tcp", "53/udp", "81/tcp"], publish_all=True)
    assert [(claim.protocol, claim.container_port, claim.first) for claim in found] == [
        ("tcp", 80, 8080),
        ("tcp", 81, 0),
        ("udp", 53, 0),
    ]


@pytest.mark.row("NET-23")
def test_exposing_publishes_nothing():
    assert ask({}, ["80/tcp"]) == []


@pytest.mark.parametrize(
    ("bindings", "text"),
    [
        ({"0/tcp": [("", "1")]}, 'invalid port specification: "0/tcp"'),
        ({"x/tcp": [("", "1")]}, 'invalid port specification: "x/tcp"'),
        ({"65536/tcp": [("", "1")]}, 'invalid port specification: "65536/tcp"'),
        ({"80/icmp": [("", "1")]}, "invalid proto: icmp"),
        ({"80/tcp": [("", "70000")]}, "invalid port specification: 70000"),
        ({"80/tcp": [("", "-5")]}, "invalid port specification: -5"),
        ({"80/tcp": [("", "10-5")]}, "invalid port specification: 10-5"),
        ({"80/tcp": [("", "\u0663")]}, "invalid port specification: \u0663"),
        ({"80/tcp": [("1.2.3", "80")]}, "invalid IP address: 1.2.3"),
    ],
)
def test_bad_bindings_are_refused(bindings, text):
    with pytest.raises(InvalidInput) as raised:
        ask(bindings)
    assert str(raised.value).startswith(text)
