"""Who reaches a port or an address, and why not, from plain values."""

from __future__ import annotations

import pytest

from boxship.networks.explain import Facts, overlaps, own_address, published, text
from boxship.networks.filtering.host_rules import Obstacle
from boxship.networks.filtering.rules import ROUTED, UNPROTECTED, BridgeRules
from boxship.networks.models import Endpoint, PublishedPort, Sandbox

FRONT = BridgeRules("f1", "br-front", "172.20.0.0/24", "fd00:20::/64")
BACK = BridgeRules("b1", "br-back", "172.21.0.0/24")
SHUT = BridgeRules("s1", "br-shut", "172.22.0.0/24", internal=True)
FACTS = Facts(table="boxship_x", bridges={"front": FRONT, "back": BACK, "shut": SHUT})
WALL = Obstacle("inet", "host", "in", "input", True, "policy drop")
SIEVE = Obstacle("inet", "host", "fw", "forward", False, "1 rule may drop it")
ENDPOINT = Endpoint(network="front", network_id="f" * 64, endpoint_id="e" * 64, address="172.20.0.2")
ROUTED_PORT = PublishedPort(protocol="tcp", host_ip="", host_port=0, container_ip="172.20.0.2", container_port=80)
BOX = Sandbox(id="1" * 64, key="/x", name="web", endpoints=[ENDPOINT], ports=[ROUTED_PORT])


def port(host_ip, container_ip="172.20.0.2"):
    return PublishedPort(protocol="tcp", host_ip=host_ip, host_port=8080, container_ip=container_ip, container_port=80)


def verdicts(way):
    return [reach.reached for reach in way.reach]


@pytest.mark.parametrize(
    ("published_port", "facts", "expected"),
    [  # host, loopback, LAN, front, back, shut
        (port("0.0.0.0"), FACTS, ["yes", "yes", "yes", "yes", "yes", "no"]),
        (port("192.0.2.1"), FACTS, ["yes", "no", "yes", "yes", "yes", "no"]),
        (port("127.0.0.1"), FACTS, ["no", "yes", "no", "no", "no", "no"]),
        (port("::", "fd00:20::2"), FACTS, ["yes", "yes", "yes", "yes", "no", "no"]),
        (port("::"), FACTS._replace(obstacles=[WALL]), ["yes", "yes", "no", "no", "no", "no"]),
        (port("::1"), FACTS, ["no", "yes", "no", "no", "no", "no"]),
        (port("0.0.0.0"), FACTS._replace(table="", userland_proxy=True), ["yes", "yes", "yes", "yes", "yes", "no"]),
        (port("0.0.0.0"), FACTS._replace(obstacles=[WALL]), ["yes", "yes", "yes", "yes", "yes", "no"]),
        (
            port("0.0.0.0"),
            FACTS._replace(obstacles=[WALL], respect_host=True),
            ["yes", "yes", "no", "yes", "yes", "no"],
        ),
        (port("0.0.0.0"), FACTS._replace(obstacles=[SIEVE]), ["yes", "yes", "depends", "depends", "depends", "no"]),
        (port("0.0.0.0"), FACTS._replace(table=""), ["no", "no"]),
    ],
)
def test_who_reaches_a_published_port(published_port, facts, expected):
    assert verdicts(published(published_port, BOX, facts)) == expected


@pytest.mark.parametrize(
    ("bridge", "expected"),
    [  # host, front, back, shut, LAN
        (FRONT, ["yes", "yes", "no", "no", "no"]),
        (FRONT._replace(icc=False), ["yes", "no", "no", "no", "no"]),
        (FRONT._replace(internal=True), ["yes", "yes", "no", "no", "no"]),
        (FRONT._replace(mode=ROUTED), ["yes", "yes", "yes", "no", "yes"]),
        (FRONT._replace(mode=UNPROTECTED), ["yes", "yes", "yes", "no", "yes"]),
    ],
)
def test_who_reaches_a_containers_own_address(bridge, expected):
    facts = FACTS._replace(bridges={**FACTS.bridges, "front": bridge})
    (way,) = own_address(ENDPOINT, BOX, facts)
    assert verdicts(way) == expected


def test_a_network_without_a_bridge_is_apart_from_the_host():
    (way,) = own_address(ENDPOINT, BOX, FACTS._replace(bridges={}))
    assert verdicts(way) == ["no", "depends"]


def test_the_text_names_rule_and_table():
    way = published(port("127.0.0.1"), BOX, FACTS)
    shown = text([way], ["a note"]).splitlines()
    assert shown[0] == "127.0.0.1:8080/tcp leads to web, 172.20.0.2:80"
    assert "table ip boxship_x, map published: tcp . 127.0.0.1 . 8080" in shown[2]
    assert shown[3].split() == ["no", "the", "LAN", "the", "port", "is", "bound", "to", "127.0.0.1"]
    assert shown[-1] == "a note"


def test_overlaps_are_found_within_a_family():
    others = {"10.0.0.0/8": "route 10.0.0.0/8 by tun0", "172.20.0.128/25": "address", "fd00::/16": "route"}
    assert overlaps(["10.1.0.0/16"], others) == ["route 10.0.0.0/8 by tun0"]
    assert overlaps(["172.20.0.0/24", "fd00:1::/64"], others) == ["address", "route"]
    assert overlaps(["192.168.0.0/24"], others) == []
