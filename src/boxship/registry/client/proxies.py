"""Which proxy a request goes through: the daemon's settings, else the environment (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from boxship.registry.client.hosts import RegistrySettings


def proxy_for(url: str, settings: RegistrySettings, environment: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for ``url``, or None; loopback is always reached directly, as in Go."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or _is_loopback(host):
        return None
    variable = f"{parts.scheme}_proxy"
    configured = settings.https_proxy if parts.scheme == "https" else settings.http_proxy
    proxy = configured or environment.get(variable.upper(), "") or environment.get(variable, "")
    if not proxy:
        return None
    exceptions = settings.no_proxy or environment.get("NO_PROXY", "") or environment.get("no_proxy", "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if any(_excepts(entry.strip().lower(), host.lower(), port) for entry in exceptions.split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _excepts(entry: str, host: str, port: int) -> bool:
    """Return whether a ``NO_PROXY`` entry means the host: ``*``, a domain with all below it, an address or CIDR."""
    if not entry:
        return False
    if entry == "*":
        return True
    name, colon, wanted_port = entry.rpartition(":")
    if colon and wanted_port.isdecimal() and "]" not in wanted_port and name.count(":") == 0:
        if int(wanted_port) != port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    bare = entry.removeprefix("*").removeprefix(".")
    return host.endswith(f".{bare}") or (host == bare and not entry.startswith("."))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
