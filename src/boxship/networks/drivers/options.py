"""Options of a network (``network create -o``), read by their types; errors in Docker's words."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from boxship.base.errors import InvalidInput
from boxship.networks.options import MIN_MTU

MTU = "com.docker.network.driver.mtu"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
INTERFACE_NAME = "com.docker.network.endpoint.ifname"  # of one endpoint
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def flag(options: Mapping[str, str], name: str, default: bool) -> bool:
    """Return a truth value; raises InvalidInput."""
    text = options.get(name)
    if text is None:
        return default
    if text not in _TRUE and text not in _FALSE:
        raise InvalidInput(
            f'failed to parse {name} value: "{text}" (strconv.ParseBool: parsing "{text}": invalid syntax)'
        )
    return text in _TRUE


def mtu(options: Mapping[str, str], default: int) -> int:
    """Return the MTU; raises InvalidInput."""
    text = options.get(MTU)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise InvalidInput(f'failed to parse {MTU} value: "{text}" (strconv.Atoi: parsing "{text}": invalid syntax)')
    if int(text) and not MIN_MTU <= int(text) <= 65535:
        raise InvalidInput(f"invalid MTU: {text}")
    return int(text) or default


def host_binding(options: Mapping[str, str], default: str) -> str:
    """Return the host address of ports that name none; raises InvalidInput."""
    text = options.get(HOST_BINDING)
    if not text:
        return default
    try:
        return str(ip_address(text))
    except ValueError as exc:
        raise InvalidInput(f"failed to parse {HOST_BINDING} value: {text} (invalid ip address)") from exc


def choice(options: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    """Return one of a few words; raises InvalidInput."""
    text = options.get(name) or default
    if text not in allowed:
        raise InvalidInput(f'invalid value for {name}: "{text}": use {", ".join(allowed)}')
    return text
