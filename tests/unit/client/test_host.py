"""Addresses of engines."""

from __future__ import annotations

import shlex

import pytest

from boxship.client.errors import HostError, UnreachableError
from boxship.client.host import dial, parse_host
from boxship.client.ssh import ssh_command


@pytest.mark.row("CLI-03")
@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("unix:///x/y.sock", "unix:///x/y.sock"),
        ("unix://", "unix:///var/run/docker.sock"),
        ("tcp://", "tcp://localhost:2375"),
        ("tcp://h", "tcp://h:2375"),
        ("tcp://h:1/base", "tcp://h:1/base"),
        ("10.123.2.1:2375", "tcp://10.123.2.1:2375"),
        ("127.0.0.1", "tcp://127.0.0.1:2375"),
        (" h:1 ", "tcp://h:1"),
        ("tcp://[::1]:5", "tcp://[::1]:5"),
        ("tcp://[::1]", "tcp://[::1]:2375"),
        ("ssh://user@host", "ssh://user@host"),
    ],
)
def test_an_address_is_completed_as_docker_does(text: str, whole: str) -> None:
    assert parse_host(text) == whole


def test_tls_has_a_port_of_its_own() -> None:
    assert parse_host("tcp://h", tls=True) == "tcp://h:2376"


@pytest.mark.parametrize("text", ["foo://x", "tcp://h:port"])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(HostError, match="invalid bind address format: " + text):
        parse_host(text)


@pytest.mark.row("CLI-06")
def test_a_socket_that_is_not_there_is_docker_words(tmp_path) -> None:
    with pytest.raises(UnreachableError) as caught:
        dial(f"unix://{tmp_path}/none", None)
    assert str(caught.value) == (
        f"Cannot connect to the Docker daemon at unix://{tmp_path}/none. Is the docker daemon running?"
    )


@pytest.mark.row("CLI-03")
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ssh://h", "-T -- h 'boxship system dial-stdio'"),
        ("ssh://me@Build-1:2222", "-T -l me -p 2222 -- Build-1 'boxship system dial-stdio'"),
        ("ssh://me@[::1]:22", "-T -l me -p 22 -- ::1 'boxship system dial-stdio'"),
        ("ssh://h/", "-T -- h 'boxship system dial-stdio'"),
        ("ssh://h/a b.sock", """-T -- h 'boxship --host '"'"'unix:///a b.sock'"'"' system dial-stdio'"""),
        ("ssh://-oProxyCommand=x", "-T -- -oProxyCommand=x 'boxship system dial-stdio'"),
    ],
)
def test_ssh_gets_the_parts_of_the_address_as_separate_words(address: str, words: str) -> None:
    assert shlex.join(ssh_command(address)) == f"ssh -o ConnectTimeout=30 {words}"


@pytest.mark.row("CLI-03")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ssh://", "hostname is empty"),
        ("ssh://u:p@h", "plain-text password is not supported"),
        ("ssh://h?x=1", 'query parameters are not allowed: "x=1"'),
        ("ssh://h#f", 'fragments are not allowed: "f"'),
        ("ssh://h:port", "Port could not be cast"),
    ],
)
def test_an_address_that_ssh_cannot_take_is_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(HostError) as caught:
        parse_host(address)
    assert str(caught.value).startswith(f"ssh host connection is not valid: invalid SSH URL: {reason}")
