from __future__ import annotations

import errno

import pytest

from boxship.base.errors import InvalidInput, NotSupported
from boxship.linux import rtnetlink
from boxship.networks.catalog import Network
from boxship.networks.drivers.macvlan import MacvlanDriver

PARENT = rtnetlink.Link(index=7, name="eth0", up=True, kind="", alias="", address="", mtu=1500, master=0, peer=0)


class Kernel:
    """Knows eth0, and the links that it was told to make."""

    def __init__(self, error=0):
        self.error = error
        self.done = []

    def execute(self, requests):
        if self.error:
            raise OSError(self.error, "no")
        self.done += [request.name for request in requests]


@pytest.fixture(autouse=True)
def links(monkeypatch):
    monkeypatch.setattr(rtnetlink, "find_link", lambda _, name: PARENT if name == "eth0" else None)


def network(parent):
    return Network(id="a" * 64, name="n", driver="macvlan", options={"parent": parent}, created_ns=0)


def test_a_vlan_interface_that_is_not_there_is_made_and_is_ours():
    kernel, driver = Kernel(), MacvlanDriver("boxship:x")
    driver.make(kernel, network("eth0.10"))
    assert kernel.done[0] == "create vlan eth0.10"
    assert driver.host_links(network("eth0.10")) == ["eth0.10"]
    assert driver.host_links(network("eth0")) == []


@pytest.mark.parametrize(
    ("parent", "text"),
    [
        ("eth9", "invalid subinterface vlan name eth9, example formatting is eth0.10"),
        (
            "eth0.ten",
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received eth0.ten",
        ),
        ("eth0.0", "vlan id must be between 1-4094, received: 0"),
        ("eth0.4095", "vlan id must be between 1-4094, received: 4095"),
        ("eth9.10", "failed to find master interface eth9 on the Docker host: Link not found"),
    ],
)
def test_a_name_that_is_no_vlans_is_refused(parent, text):
    kernel = Kernel()
    with pytest.raises(InvalidInput) as raised:
        MacvlanDriver("boxship:x").make(kernel, network(parent))
    assert str(raised.value) == text
    assert kernel.done == []


def test_a_kernel_without_vlans_is_named():
    with pytest.raises(NotSupported, match=r"the kernel of this host has no VLAN interfaces \(8021q\)"):
        MacvlanDriver("boxship:x").make(Kernel(errno.EOPNOTSUPP), network("eth0.10"))
