from __future__ import annotations

from ipaddress import IPv4Network

from boxship.networks.firewall import BridgeRules, add_ports, delete_ports, table
from boxship.networks.models import PublishedPort

BRIDGE = BridgeRules("docker0", IPv4Network("172.17.0.0/16"))


def port(protocol, ip, number):
    return PublishedPort(protocol=protocol, host_ip=ip, host_port=number, container_ip="172.17.0.2", container_port=80)


def test_ports_are_elements_of_the_map_for_their_kind_of_address():
    ports = [port("tcp", "0.0.0.0", 8080), port("udp", "127.0.0.1", 53)]
    assert add_ports("boxship_x", ports) == (
        "add element ip boxship_x published { udp . 127.0.0.1 . 53 : 172.17.0.2 . 80 }\n"
        "add element ip boxship_x published-any { tcp . 8080 : 172.17.0.2 . 80 }\n"
    )
    assert delete_ports("boxship_x", ports) == (
        "delete element ip boxship_x published { udp . 127.0.0.1 . 53 }\n"
        "delete element ip boxship_x published-any { tcp . 8080 }\n"
    )
    assert add_ports("boxship_x", []) == ""


def test_the_table_replaces_an_older_one_in_the_same_transaction():
    text = table("boxship_x", [BRIDGE], [port("tcp", "0.0.0.0", 8080)], forward_drop=False)
    assert text.startswith("add table ip boxship_x\ndelete table ip boxship_x\ntable ip boxship_x {\n")
    assert "tcp . 8080 : 172.17.0.2 . 80" in text
    assert "policy drop" not in text
    assert "policy drop" in table("boxship_x", [BRIDGE], [], forward_drop=True)


def test_icc_and_masquerade_are_rules_of_the_bridge():
    open_text = table("x", [BRIDGE], [], forward_drop=False)
    shut_text = table("x", [BRIDGE._replace(icc=False, masquerade=False)], [], forward_drop=False)
    masquerade = 'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'
    assert masquerade in open_text
    assert masquerade not in shut_text
    assert open_text.count('iifname "docker0" accept') == 2
    assert shut_text.count('iifname "docker0" accept') == 1
