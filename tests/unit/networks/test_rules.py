from __future__ import annotations

import pytest

from boxship.networks.filtering.rules import (
    IPV4,
    IPV6,
    ROUTED,
    UNPROTECTED,
    BridgeRules,
    add_bridges,
    add_ports,
    delete_bridge,
    delete_ports,
    guard_ports,
    table,
    unguard_ports,
)
from boxship.networks.models import PublishedPort

BRIDGE = BridgeRules("a1", "docker0", "172.17.0.0/16")


def port(protocol, ip, number, container="172.17.0.2"):
    return PublishedPort(protocol=protocol, host_ip=ip, host_port=number, container_ip=container, container_port=80)


def test_ports_are_elements_of_the_map_for_their_kind_of_address():
    ports = [port("tcp", "0.0.0.0", 8080), port("udp", "127.0.0.1", 53), port("tcp", "::", 8080, "fd00::2")]
    assert add_ports(IPV4, "x", ports) == (
        "add element ip x published-any { tcp . 8080 : 172.17.0.2 . 80 }\n"
        "add element ip x published { udp . 127.0.0.1 . 53 : 172.17.0.2 . 80 }\n"
    )
    assert delete_ports(IPV4, "x", ports) == (
        "delete element ip x published-any { tcp . 8080 }\ndelete element ip x published { udp . 127.0.0.1 . 53 }\n"
    )
    assert add_ports(IPV6, "x", ports) == "add element ip6 x published-any { tcp . 8080 : fd00::2 . 80 }\n"
    assert add_ports(IPV4, "x", []) == ""


def test_a_port_of_a_routed_network_is_open_at_the_containers_own_address():
    assert add_ports(IPV4, "x", [port("tcp", "", 0)]) == "add element ip x open { tcp . 172.17.0.2 . 80 }\n"


def test_the_table_replaces_an_older_one_in_the_same_transaction():
    text = table(IPV4, "x", [BRIDGE], [port("tcp", "0.0.0.0", 8080)], forward_drop=False)
    assert text.startswith("add table ip x\ndelete table ip x\ntable ip x {\n")
    assert "tcp . 8080 : 172.17.0.2 . 80" in text
    assert "policy drop" not in text
    assert "policy drop" in table(IPV4, "x", [BRIDGE], [], forward_drop=True)


def test_rules_of_the_administrator_are_kept_word_by_word():
    text = table(IPV4, "x", [], [], forward_drop=False, user_rules=["ip saddr 192.0.2.1 drop"])
    assert " chain BOXSHIP-USER { \n  ip saddr 192.0.2.1 drop\n }\n" in text


@pytest.mark.parametrize(
    ("bridge", "masqueraded", "among_themselves", "direct"),
    [
        (BRIDGE, True, True, False),
        (BRIDGE._replace(icc=False), True, False, False),
        (BRIDGE._replace(masquerade=False), False, True, False),
        (BRIDGE._replace(mode=ROUTED), False, True, True),
        (BRIDGE._replace(mode=UNPROTECTED), True, True, True),
        (BRIDGE._replace(internal=True), False, True, False),
        (BRIDGE._replace(internal=True, mode=ROUTED), False, True, False),
    ],
)
def test_what_a_bridge_allows_is_in_its_chains_and_sets(bridge, masqueraded, among_themselves, direct):
    text = add_bridges(IPV4, "x", [bridge])
    assert ("add element ip x masqueraded" in text) is masqueraded
    assert ('add element ip x same { "docker0" . "docker0" }' in text) is among_themselves
    assert ("add element ip x reachable" in text) is direct
    assert ("add element ip x internal" in text) is bridge.internal
    kind = "internal" if bridge.internal else bridge.mode
    chain = f"to-{kind}{'-icc' if bridge.icc else ''}"
    assert f'add element ip x entering {{ "docker0" : jump {chain} }}' in text
    whole = table(IPV4, "x", [], [], forward_drop=False)
    rules = whole.partition(f" chain {chain} {{")[2].partition("}")[0]
    assert ("@same accept" in rules) is among_themselves
    assert ("ct status dnat accept" in rules) is ("established" in rules) is not bridge.internal
    assert ("@open" in rules) is (kind == ROUTED)
    assert rules.split()[-1] == ("accept" if kind == UNPROTECTED else "drop")


def test_a_bridge_without_a_family_is_closed_to_it():
    assert add_bridges(IPV6, "x", [BRIDGE]) == 'add element ip6 x closed { "docker0" }\n'


def test_all_that_is_known_of_a_bridge_can_be_forgotten():
    bridge = BRIDGE._replace(internal=True)
    text = delete_bridge(IPV4, "x", bridge)
    for line in add_bridges(IPV4, "x", [bridge]).splitlines():
        if line.startswith("add element"):
            where, _, element = line.removeprefix("add element ").partition(" { ")
            assert f"delete element {where} {{ {element.partition(' : ')[0].removesuffix(' }')} }}\n" in text
    assert text.endswith("flush chain ip x from-a1\ndelete chain ip x from-a1\n")


def test_a_bridge_has_one_chain_and_no_set_of_plain_intervals_knows_it():
    """What nft reads before each change grows with these."""
    bridge = BRIDGE._replace(internal=True)
    assert add_bridges(IPV4, "x", [bridge]).count(" chain ") == 1
    for line in table(IPV4, "x", [bridge], [], forward_drop=False).splitlines():
        assert "interval" not in line or " . " in line


def test_ports_that_the_host_judges_are_in_sets_beside_the_maps():
    ports = [port("tcp", "0.0.0.0", 8080), port("udp", "192.0.2.1", 53), port("tcp", "0.0.0.0", 0)]
    assert guard_ports(IPV4, "x", ports) == (
        "add element ip x guarded-any { tcp . 8080 }\nadd element ip x guarded { udp . 192.0.2.1 . 53 }\n"
    )
    assert unguard_ports(IPV4, "x", ports[:1]) == "delete element ip x guarded-any { tcp . 8080 }\n"
    for respect_host in (False, True):
        text = table(IPV4, "x", [BRIDGE], ports, forward_drop=False, respect_host=respect_host)
        assert ("hook input" in text) is ("guarded-any" in text) is respect_host
