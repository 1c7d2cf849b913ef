"""``--network``: a network's name, or ``name=...,alias=...,ip=...`` for one attachment with its own settings."""

from __future__ import annotations

from boxship.cli import csvfields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.flags import Values

PREDEFINED = ("bridge", "host", "none", "default")


def parse_network(text: str) -> dict[str, Any]:
    """Return one attachment: ``target`` and the settings that were given. Raises ValueError."""
    if "=" not in text:
        return {"target": text}
    network: dict[str, Any] = {"target": "", "aliases": [], "driver_opts": {}, "link_local_ips": []}
    for field in csvfields.split(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        value = value.strip()
        if not equals:
            raise ValueError(f"invalid field {field}")
        match key:
            case "name":
                network["target"] = value
            case "alias":
                network["aliases"].append(value)
            case "ip":
                network["ip"] = value
            case "ip6":
                network["ip6"] = value
            case "mac-address":
                check_mac(value)
                network["mac_address"] = value
            case "link-local-ip":
                network["link_local_ips"].append(value)
            case "driver-opt":
                name, separator, option = value.partition("=")
                if not separator:
                    raise ValueError("invalid key value pair format in driver options")
                network["driver_opts"][name.strip().lower()] = option.strip()
            case "gw-priority":
                network["gw_priority"] = int(value)
            case _:
                raise ValueError(f"invalid field key {key}")
    if not network["target"]:
        raise ValueError("network name/id is not specified")
    return network


def check_mac(text: str) -> None:
    """Raise ValueError unless ``text`` is a hardware address."""
    parts = text.replace("-", ":").split(":")
    if len(parts) not in (6, 8, 20) or not all(len(part) == 2 and _is_hex(part) for part in parts):
        raise ValueError(f"{text} is not a valid mac address")


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def is_user_defined(name: str) -> bool:
    """Whether a network mode names a network that a user made."""
    return bool(name) and name not in PREDEFINED and not name.startswith("container:")


def endpoints(values: Values) -> tuple[str, dict[str, Any]]:
    """Return the network mode and the endpoint settings by network. Raises ValueError.

    Settings that are flags of their own (``--ip``, ``--network-alias``) belong to the first network.
    """
    attachments: list[dict[str, Any]] = [dict(item) for item in values.value("network")]  # type: ignore[attr-defined]  # a list
    if not attachments:
        attachments = [{"target": "default"}]
    mode = attachments[0]["target"]
    _merge_flags(attachments[0], values)
    result: dict[str, Any] = {}
    has_user_defined = any(is_user_defined(item["target"]) for item in attachments)
    for index, item in enumerate(attachments):
        name = item["target"]
        if len(attachments) > 1 and has_user_defined != is_user_defined(name):
            raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
        if index == 0 and name in ("host", "none") and "settings" not in item and not _has_settings(item):
            continue
        if name.startswith("container:") and not _has_settings(item):
            continue
        if name in result:
            raise ValueError(f'network "{name}" is specified multiple times')
        result[name] = endpoint(item)
    return mode, result


def _has_settings(item: dict[str, Any]) -> bool:
    return any(value for key, value in item.items() if key != "target")


def _merge_flags(item: dict[str, Any], values: Values) -> None:
    aliases, links = values.many("network-alias"), values.many("link")
    local_ips = values.many("link-local-ip")
    name = item["target"]
    for flag, key in (("ip", "ip"), ("ip6", "ip6"), ("mac-address", "mac_address")):
        value = values.text(flag)
        if value and item.get(key):
            raise ValueError(f"conflicting options: cannot specify both --{flag} and per-network {_words(key)}")
        if value:
            item[key] = value
    if aliases and item.get("aliases"):
        raise ValueError("conflicting options: cannot specify both --network-alias and per-network alias")
    if local_ips and item.get("link_local_ips"):
        raise ValueError(
            "conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses"
        )
    if aliases and not is_user_defined(name):
        raise ValueError("network-scoped aliases are only supported for user-defined networks")
    if aliases:
        item["aliases"] = list(aliases)
    if local_ips:
        item["link_local_ips"] = list(local_ips)
    if links and is_user_defined(name):
        item["links"] = list(links)


def _words(key: str) -> str:
    return {"ip": "IPv4 address", "ip6": "IPv6 address", "mac_address": "MAC address"}[key]


def endpoint(item: dict[str, Any]) -> dict[str, Any]:
    """Return one element of ``EndpointsConfig`` with all its fields."""
    ipam: dict[str, Any] = {}
    if item.get("ip"):
        ipam["IPv4Address"] = item["ip"]
    if item.get("ip6"):
        ipam["IPv6Address"] = item["ip6"]
    if item.get("link_local_ips"):
        ipam["LinkLocalIPs"] = item["link_local_ips"]
    return {
        "IPAMConfig": ipam or None,
        "Links": item.get("links") or None,
        "Aliases": item.get("aliases") or None,
        "MacAddress": item.get("mac_address", ""),
        "DriverOpts": item.get("driver_opts") or None,
        "GwPriority": item.get("gw_priority", 0),
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
