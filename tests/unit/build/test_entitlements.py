"""What steps may do beyond other containers: offered, asked for, granted."""

from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.build.graph import Run
from boxship.build.steps.entitlements import Offered, check, devices, grant, offered
from boxship.build.steps.runner import HostDevice

FOUND = [HostDevice(name=f"v.w/x={name}", class_name=name.upper()) for name in "abc"]


def test_the_owner_offers_what_docker_offers_unless_told_otherwise() -> None:
    assert offered({}) == Offered(network_host=True, security_insecure=False, device=True)
    assert offered({"gc": {}, "entitlements": {"security-insecure": True}}).security_insecure
    with pytest.raises(InvalidInput, match=r"builder\.entitlements: .*everything"):
        offered({"entitlements": {"everything": True}})
    with pytest.raises(InvalidInput, match=r"builder\.entitlements: "):
        offered({"entitlements": {"device": "yes"}})


def test_only_what_is_offered_can_be_granted() -> None:
    granted = grant(["network.host", "device=v.w/x=a"], Offered())
    assert granted.network_host and granted.devices == {"v.w/x=a"} and not granted.all_devices
    with pytest.raises(InvalidInput, match=r"granting entitlement security.insecure is not allowed by build daemon"):
        grant(["security.insecure"], Offered())
    for unknown in ("", "network", "network.host=x", "Device"):
        with pytest.raises(InvalidInput, match=f"unknown entitlement {unknown}"):
            grant([unknown], Offered())


def test_a_program_needs_a_grant_for_what_it_asks() -> None:
    everything = grant(["network.host", "security.insecure"], Offered(security_insecure=True))
    for run, words in (
        (Run(args=("a",), network="host"), "network.host is not allowed"),
        (Run(args=("a",), security="insecure"), "security.insecure is not allowed"),
    ):
        check(run, everything)
        with pytest.raises(InvalidInput, match=words):
            check(run, grant([], Offered()))


@pytest.mark.parametrize(
    ("wanted", "names"),
    [("v.w/x", "a"), ("v.w/x=*", "abc"), ("v.w/x=b", "b"), ("v.w/x=C", "c"), ("v.w/x=d", ""), ("v.w/y", "")],
)
def test_devices_are_found_by_name_kind_and_class(wanted: str, names: str) -> None:
    every = grant(["device"], Offered())
    assert devices(Run(args=("a",), devices=(wanted,)), every, FOUND) == [f"v.w/x={name}" for name in names]
    needed = Run(args=("a",), devices=(wanted,), needed_devices=(wanted,))
    if not names:
        with pytest.raises(InvalidInput, match="is not registered"):
            devices(needed, every, FOUND)


def test_a_device_that_was_not_allowed_is_refused_by_name() -> None:
    one = grant(["device=v.w/x=a"], Offered())
    assert devices(Run(args=("a",), devices=("v.w/x",)), one, FOUND) == ["v.w/x=a"]
    with pytest.raises(InvalidInput, match=r"devices v.w/x=b, v.w/x=c are requested by the build but not allowed"):
        devices(Run(args=("a",), devices=("v.w/x=*",)), one, FOUND)


def test_a_device_without_a_vendor_is_none() -> None:
    with pytest.raises(InvalidInput, match='invalid device "thing"'):
        devices(Run(args=("a",), devices=("thing",)), grant(["device"], Offered()), FOUND)
