from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.networks.files import (
    DNSDefaults,
    edit_resolv_conf,
    host_hosts_file,
    hosts_file,
    name_servers,
    read_host_hosts,
    read_host_resolv_conf,
    resolv_conf,
)

HEAD = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def edit(host, servers=(), search=(), options=()):
    return edit_resolv_conf(host, servers=servers, search=search, options=options)


@pytest.mark.row("NET-13")
def test_hosts_names_the_container_after_the_standard_lines():
    text = hosts_file(hostname="52ffe13f1b84", addresses=["172.17.0.2"], extra_hosts=[])
    assert text == HEAD + "172.17.0.2\t52ffe13f1b84\n"


@pytest.mark.row("NET-14")
def test_hosts_has_extra_hosts_first_and_the_full_name_before_the_short_one():
    text = hosts_file(
        hostname="foo",
        domainname="example.com",
        addresses=["172.17.0.6"],
        extra_hosts=["x:1.2.3.4", "y:host-gateway", "six=[2001:db8::1]", "v6:2001:db8::2"],
        host_gateway="172.17.0.1",
    )
    assert text == HEAD + (
        "1.2.3.4\tx\n172.17.0.1\ty\n2001:db8::1\tsix\n2001:db8::2\tv6\n172.17.0.6\tfoo.example.com foo\n"
    )
    same = hosts_file(hostname="foo.example.com", addresses=["172.17.0.6"], extra_hosts=[])
    assert same == HEAD + "172.17.0.6\tfoo.example.com foo\n"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("name", 'bad format for add-host: "name"'),
        (":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("a b:1.2.3.4", 'bad format for add-host: "a b:1.2.3.4"'),
        ("x:1.2.3", 'invalid IP address in add-host: "1.2.3"'),
        ("x:1.2.3.4\n5.6.7.8 y", 'invalid IP address in add-host: "1.2.3.4'),
        ("x:host-gateway", "unable to derive the IP value for host-gateway"),
    ],
)
def test_a_bad_extra_host_is_refused(entry, text):
    with pytest.raises(InvalidInput) as raised:
        hosts_file(hostname="h", addresses=[], extra_hosts=[entry])
    assert str(raised.value).startswith(text)


@pytest.mark.row("NET-04")
def test_the_host_network_shows_the_hosts_own_file_unless_entries_are_added():
    assert host_hosts_file("127.0.0.1 vm\n", extra_hosts=[]) == "127.0.0.1 vm\n"
    assert host_hosts_file("127.0.0.1 vm\n", extra_hosts=["x:1.2.3.4"]) == HEAD + "1.2.3.4\tx\n"


@pytest.mark.row("NET-16")
@pytest.mark.parametrize(
    ("host", "container"),
    [
        ("# c\nnameserver 10.0.0.1\nsearch a.b\n", "# c\nnameserver 10.0.0.1\nsearch a.b\n"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\n", "nameserver 10.0.0.1\n"),
        ("nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n", "nameserver 10.0.0.1\n"),
        ("search a\nnameserver 127.0.0.53\n", "search a\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver 10.0.0.1", "nameserver 10.0.0.1\n"),
    ],
)
def test_a_container_gets_the_servers_of_the_host_that_it_can_reach(host, container):
    assert edit(host) == container


@pytest.mark.row("NET-15")
def test_chosen_servers_domains_and_options_take_the_place_of_the_hosts():
    host = "search h.i\nnameserver 10.0.0.1\noptions ndots:1\n"
    servers, domains = ["8.8.8.8", "8.8.4.4"], ["example1.com", "example2.com"]
    assert edit("nameserver 1.1.1.1\n", servers, domains) == (
        "search example1.com example2.com\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    )
    assert edit(host, servers=["127.0.0.1"]) == "search h.i\nnameserver 127.0.0.1\noptions ndots:1\n"
    assert edit(host, search=["."]) == "nameserver 10.0.0.1\noptions ndots:1\n"
    assert edit(host, options=["ndots:3", "timeout:1"]) == (
        "search h.i\nnameserver 10.0.0.1\noptions ndots:3 timeout:1\n"
    )


def test_the_container_wins_over_the_daemon_and_the_host_network_over_nothing():
    defaults = DNSDefaults(dns=("9.9.9.9",), host=lambda: "nameserver 127.0.0.1\n")
    assert resolv_conf(defaults, host_network=False, dns=[], search=[], options=[]) == "nameserver 9.9.9.9\n"
    assert resolv_conf(defaults, host_network=True, dns=["1.1.1.1"], search=[], options=[]) == "nameserver 1.1.1.1\n"
    plain = DNSDefaults(host=lambda: "nameserver 127.0.0.1\n")
    assert resolv_conf(plain, host_network=True, dns=[], search=[], options=[]) == "nameserver 127.0.0.1\n"


def test_a_host_may_have_no_hosts_file(tmp_path):
    assert read_host_hosts(str(tmp_path / "missing")) == ""
    (tmp_path / "hosts").write_text("127.0.0.1 here\n")
    assert read_host_hosts(str(tmp_path / "hosts")) == "127.0.0.1 here\n"


@pytest.mark.row("NET-16")
def test_the_stub_of_systemd_resolved_is_replaced_by_what_it_asks(tmp_path):
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    assert name_servers(read_host_resolv_conf(str(stub), str(real))) == ["127.0.0.53"]
    real.write_text("nameserver 10.1.1.1\n")
    assert read_host_resolv_conf(str(stub), str(real)) == "nameserver 10.1.1.1\n"
    assert read_host_resolv_conf(str(tmp_path / "missing"), str(real)) == ""
