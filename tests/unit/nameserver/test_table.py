"""Which names there are, and for whom."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from boxship.nameserver.table import Table, normal_links
from boxship.wire import dns


def endpoint(name: str, *addresses: str, network: str = "front", aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "endpoint_id": f"{network}/{name}",
        "network_id": f"id-{network}",
        "network": network,
        "name": name,
        "aliases": list(aliases),
        "addresses": list(addresses),
    }


@pytest.fixture
def table() -> Table:
    table = Table()
    table.replace(
        [
            endpoint("web", "10.0.0.2", "fd00::2", aliases=("c0ffee", "www", "Shared")),
            endpoint("api", "10.0.0.3", aliases=("shared",)),
            endpoint("web", "10.1.0.2", network="back"),
            endpoint("db", "10.1.0.3", network="back"),
        ]
    )
    return table


def ipv4(table: Table, name: str, *networks: str, links: dict[str, str] | None = None) -> list[str] | None:
    found = table.find(name, [f"id-{network}" for network in networks], normal_links(links or {}))
    return None if found is None else [socket.inet_ntop(socket.AF_INET, each) for each in found.ipv4]


def test_a_container_is_found_by_name_short_id_and_alias(table: Table) -> None:
    assert [ipv4(table, name, "front") for name in ("web", "c0ffee", "www")] == [["10.0.0.2"]] * 3


def test_an_alias_of_several_containers_has_all_addresses(table: Table) -> None:
    assert ipv4(table, "shared", "front") == ["10.0.0.2", "10.0.0.3"]


def test_the_first_network_that_knows_a_name_answers(table: Table) -> None:
    assert ipv4(table, "web", "back", "front") == ["10.1.0.2"]
    assert ipv4(table, "web", "front", "back") == ["10.0.0.2"]


def test_names_of_other_networks_are_unknown(table: Table) -> None:
    assert ipv4(table, "db", "front") is None


def test_a_network_name_behind_the_name_chooses_the_network(table: Table) -> None:
    assert ipv4(table, "web.back", "front", "back") == ["10.1.0.2"]
    assert ipv4(table, "web.other", "front", "back") is None


def test_a_link_is_a_name_for_this_sandbox_only(table: Table) -> None:
    assert ipv4(table, "database", "back", links={"Database": "db"}) == ["10.1.0.3"]
    assert ipv4(table, "database", "back") is None


def test_a_link_counts_more_than_a_name(table: Table) -> None:
    assert ipv4(table, "web", "back", links={"web": "db"}) == ["10.1.0.3"]


def test_localhost_is_the_loopback_everywhere(table: Table) -> None:
    assert ipv4(table, "localhost") == ["127.0.0.1"]
    assert ipv4(table, "a.localhost") == ["127.0.0.1"]


def test_what_is_withdrawn_is_unknown(table: Table) -> None:
    table.withdraw("front/web")
    table.withdraw("front/web")
    assert ipv4(table, "web", "front") is None
    assert ipv4(table, "shared", "front") == ["10.0.0.3"]
    assert table.find_address("2.0.0.10.in-addr.arpa", ["id-front"]) is None


def test_an_endpoint_published_again_has_its_new_address_only(table: Table) -> None:
    table.publish(endpoint("web", "10.0.0.9"))
    assert ipv4(table, "web", "front") == ["10.0.0.9"]
    assert ipv4(table, "www", "front") is None


def test_addresses_are_found_backwards(table: Table) -> None:
    assert table.find_address("2.0.0.10.in-addr.arpa", ["id-front"]) == ["web.front"]
    ipv6 = ".".join(reversed(socket.inet_pton(socket.AF_INET6, "fd00::2").hex())) + ".ip6.arpa"
    assert table.find_address(ipv6, ["id-front"]) == ["web.front"]
    assert table.find_address("2.0.0.10.in-addr.arpa", ["id-back"]) is None


@pytest.mark.parametrize(
    "name",
    ["in-addr.arpa", "1.in-addr.arpa", "a.b.c.d.in-addr.arpa", "1.2.ip6.arpa", "..in-addr.arpa", "10.in-addr.arpa"],
)
def test_half_an_address_is_none(table: Table, name: str) -> None:
    assert table.find_address(name, ["id-front"]) is None


def test_names_that_cannot_be_asked_for_are_left_out() -> None:
    table = Table()
    table.publish(endpoint("web", "10.0.0.2", "nonsense", aliases=("a" * 64, "", "x..y")))
    assert ipv4(table, "web", "front") == ["10.0.0.2"]


def test_several_addresses_come_in_every_order() -> None:
    table = Table()
    for number in range(3):
        table.publish(endpoint(f"c{number}", f"10.0.0.{number}", aliases=("all",)))
    found = table.find("all", ["id-front"], {})
    assert found is not None
    orders = {tuple(found.shuffled(dns.A)) for _ in range(400)}
    assert len(orders) == 6
