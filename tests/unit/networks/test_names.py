"""Servers that a sandbox's resolver asks."""

from __future__ import annotations

from boxship.networks.names import Upstream, upstreams


def test_the_hosts_loopback_servers_are_asked_on_the_host() -> None:
    assert upstreams([], ["127.0.0.53", "10.0.0.1", "::1", "fe80::1%eth0", "junk"]) == [
        Upstream(address="127.0.0.53", on_host=True),
        Upstream(address="10.0.0.1"),
        Upstream(address="::1", on_host=True),
        Upstream(address="fe80::1%eth0"),
    ]


def test_chosen_servers_are_those_of_the_container() -> None:
    assert upstreams(["127.0.0.1", "1.1.1.1"], ["10.0.0.1"]) == [
        Upstream(address="127.0.0.1"),
        Upstream(address="1.1.1.1"),
    ]
