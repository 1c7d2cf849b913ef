"""Names of servers in options of volumes become addresses, where the kernel wants those."""

from __future__ import annotations

import socket

import pytest

from boxship.base.errors import SystemFailure
from boxship.volumes.local.addresses import look_up, resolved
from boxship.volumes.local.options import mount_options

HOSTS = {"files.example": "192.0.2.7", "six.example": "2001:db8::7"}


def found(name: str) -> str:
    if name not in HOSTS:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return HOSTS[name]


def result(type_: str, device: str, o: str) -> tuple[str, str]:
    options = mount_options({"type": type_, "device": device, "o": o})
    assert options is not None
    done = resolved(options, found)
    return done.device, done.data


@pytest.mark.row("VOL-14")
@pytest.mark.parametrize(
    ("type_", "device", "o", "expected"),
    [
        ("nfs", ":/data", "addr=files.example,rw,vers=4", (":/data", "addr=192.0.2.7,vers=4")),
        ("nfs", ":/data", "vers=4,addr=six.example", (":/data", "vers=4,addr=2001:db8::7")),
        ("nfs", ":/data", "addr=192.0.2.1,nolock", (":/data", "addr=192.0.2.1,nolock")),
        ("nfs", "files.example:/data", "nolock", ("files.example:/data", "nolock")),
        ("cifs", "//files.example/share", "username=me", ("//192.0.2.7/share", "username=me")),
        ("cifs", "//192.0.2.1/share", "username=me", ("//192.0.2.1/share", "username=me")),
        ("cifs", "//files.example/share", "addr=six.example", ("//files.example/share", "addr=2001:db8::7")),
        ("cifs", "//files.example/a b", "", ("//192.0.2.7/a b", "")),
        ("tmpfs", "tmpfs", "addr=files.example", ("tmpfs", "addr=files.example")),
    ],
)
def test_names_become_addresses_where_docker_looks_them_up(
    type_: str, device: str, o: str, expected: tuple[str, str]
) -> None:
    assert result(type_, device, o) == expected


@pytest.mark.row("VOL-14")
def test_a_name_that_nobody_knows_is_an_error() -> None:
    words = "error resolving passed in network volume address: lookup lost.example: no such host"
    for options in (("nfs", ":/x", "addr=lost.example"), ("cifs", "//lost.example/x", "")):
        with pytest.raises(SystemFailure, match=words):
            result(*options)


def test_addresses_look_up_as_themselves() -> None:
    assert (look_up("192.0.2.1"), look_up("2001:db8::1")) == ("192.0.2.1", "2001:db8::1")


def test_a_name_that_is_none_is_an_error() -> None:
    options = mount_options({"type": "nfs", "device": ":/x", "o": f"addr={'a' * 300}.example"})
    assert options is not None
    with pytest.raises(SystemFailure, match="error resolving passed in network volume address"):
        resolved(options)
