"""Network documents (Engine API, tag Network)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field


class EndpointIPAMConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = field(default=None, name="LinkLocalIPs")


class EndpointSettings(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One container's place in one network."""

    ipam_config: EndpointIPAMConfig | None = field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: list[str] | None = field(default=None, name="DNSNames")


class IPAMPool(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMPool] | None = None


class NetworkContainer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str
    endpoint_id: str = field(name="EndpointID")
    mac_address: str
    ipv4_address: str = field(name="IPv4Address")  # with prefix length
    ipv6_address: str = field(default="", name="IPv6Address")


class NetworkInspect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of GET /networks/{id}; a listing leaves ``containers`` empty."""

    name: str
    id: str
    created: str
    scope: str = "local"
    driver: str = ""
    enable_ipv4: bool = field(default=True, name="EnableIPv4")
    enable_ipv6: bool = field(default=False, name="EnableIPv6")
    ipam: IPAM = field(default=IPAM(), name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: dict[str, Any] = field(default_factory=lambda: {"Network": ""})
    config_only: bool = False
    containers: dict[str, NetworkContainer] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET  # ours: what overlaps its subnets since


class ConfigReference(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    network: str = ""


class NetworkCreate(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /networks/create; what is None was not said."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    enable_ipv4: bool | None = field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = field(default=None, name="EnableIPv6")
    ipam: IPAM | None = field(default=None, name="IPAM")
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    check_duplicate: bool | None = None  # of old clients; names are unique


class NetworkCreated(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    id: str
    warning: str = ""


class NetworkConnect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False
