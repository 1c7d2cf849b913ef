"""Addresses of engines."""

from __future__ import annotations

import pytest

from boxship.client.errors import HostError, UnreachableError
from boxship.client.host import dial, parse_host


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
