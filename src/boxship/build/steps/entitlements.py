"""What steps may do beyond other containers, when both the engine's owner and the one who builds allow it (pure).

``network.host``       ``RUN --network=host``: the host's network
``security.insecure``  ``RUN --security=insecure``: a privileged container
``device``             ``RUN --device=NAME``: the host's CDI devices; ``device=NAME`` for one of them

The engine offers them in ``builder.entitlements`` of daemon.json, the client asks with ``--allow``; the Dockerfile alone gives itself nothing.
Texts are BuildKit's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from boxship.base.errors import InvalidInput
from boxship.build.graph import Run
from boxship.build.steps.runner import HostDevice

NETWORK_HOST, SECURITY_INSECURE, DEVICE = "network.host", "security.insecure", "device"


class Offered(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """``builder.entitlements`` of daemon.json, with Docker's defaults."""

    network_host: bool = True
    security_insecure: bool = False
    device: bool = True


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps of one build may do; ``devices`` are names or kinds of single devices."""

    network_host: bool = False
    security_insecure: bool = False
    all_devices: bool = False
    devices: frozenset[str] = frozenset()


def offered(builder: Mapping[str, Any]) -> Offered:
    """Return what ``builder`` of daemon.json offers. Raises InvalidInput."""
    try:
        return msgspec.convert(builder.get("entitlements", {}), Offered)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"builder.entitlements: {exc}") from exc


def grant(asked: Sequence[str], offer: Offered) -> Granted:
    """Return what a build may do that asks for ``asked``. Raises InvalidInput."""
    devices = set()
    for item in asked:
        name, equals, device = item.partition("=")
        if name not in (NETWORK_HOST, SECURITY_INSECURE, DEVICE) or (equals and name != DEVICE):
            raise InvalidInput(f"unknown entitlement {item}")
        if not getattr(offer, name.replace(".", "_")):
            raise InvalidInput(f"granting entitlement {name} is not allowed by build daemon configuration")
        if equals:
            devices.add(device)
    return Granted(
        network_host=NETWORK_HOST in asked,
        security_insecure=SECURITY_INSECURE in asked,
        all_devices=DEVICE in asked,
        devices=frozenset(devices),
    )


def check(run: Run, granted: Granted) -> None:
    """Raise InvalidInput for what a program may not ask for."""
    if run.network == "host" and not granted.network_host:
        raise InvalidInput(f"{NETWORK_HOST} is not allowed")
    if run.security == "insecure" and not granted.security_insecure:
        raise InvalidInput(f"{SECURITY_INSECURE} is not allowed")


def devices(run: Run, granted: Granted, found: Sequence[HostDevice]) -> list[str]:
    """Return the names of the devices that a program gets of those that the host has. Raises InvalidInput."""
    chosen: dict[str, HostDevice] = {}
    for wanted in run.devices:
        fitting = _fitting(wanted, found)
        if not fitting and wanted in run.needed_devices:
            raise InvalidInput(f'required device "{wanted}" is not registered')
        chosen |= {device.name: device for device in fitting}
    refused = [name for name, device in chosen.items() if not _is_allowed(device, granted)]
    if len(refused) == 1:
        raise InvalidInput(f"device {refused[0]} is requested by the build but not allowed")
    if refused:
        raise InvalidInput(f"devices {', '.join(refused)} are requested by the build but not allowed")
    return list(chosen)


def _is_allowed(device: HostDevice, granted: Granted) -> bool:
    names = {device.name, device.name.partition("=")[0]}
    return device.allowed or granted.all_devices or bool(names & granted.devices)


def _fitting(wanted: str, found: Sequence[HostDevice]) -> list[HostDevice]:
    """Return the devices of ``vendor/class`` (the first), ``vendor/class=*`` (all), or those of a name or else an annotated class."""
    kind, _, name = wanted.partition("=")
    vendor, slash, _ = kind.partition("/")
    if not vendor or not slash:
        raise InvalidInput(f'invalid device "{wanted}"')
    of_kind = [device for device in found if device.name.startswith(f"{kind}=")]
    if name == "*":
        return of_kind
    if not name:
        return of_kind[:1]
    return [device for device in of_kind if device.name == wanted] or [
        device for device in of_kind if device.class_name == name
    ]
