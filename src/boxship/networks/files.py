"""The texts of /etc/hosts and /etc/resolv.conf in a container, as Docker writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import msgspec

from boxship.base.errors import InvalidInput
from boxship.networks.names import ADDRESS

_HOSTS_HEAD = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
_DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")
_RESOLV_CONF = "/etc/resolv.conf"
_RESOLVED_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
_RESOLVED_STUB = "127.0.0.53"
_HOST_GATEWAY = "host-gateway"


def hosts_file(
    *,
    hostname: str,
    domainname: str = "",
    addresses: Sequence[str],
    extra_hosts: Sequence[str],
    host_gateway: str = "",
    linked: Sequence[tuple[str, str]] = (),
) -> str:
    """Return a container's /etc/hosts.

    ``addresses`` are its own, ``extra_hosts`` entries of ``--add-host``, ``host_gateway`` what that word means in them
    ("": unknown), ``linked`` address and names of other containers. Raises InvalidInput for a bad entry.
    """
    full = f"{hostname}.{domainname}" if domainname else hostname
    first, dot, _ = full.partition(".")
    names = f"{full} {first}" if dot else full
    lines = [f"{address}\t{name}\n" for name, address in (extra_host(entry, host_gateway) for entry in extra_hosts)]
    lines += [f"{address}\t{others}\n" for address, others in linked]
    lines += [f"{address}\t{names}\n" for address in addresses]
    return _HOSTS_HEAD + "".join(lines)


def read_host_hosts(path: str = "/etc/hosts") -> str:
    """Return the host's /etc/hosts, "" if there is none."""
    return _read(path)


def host_hosts_file(text: str, *, extra_hosts: Sequence[str], host_gateway: str = "") -> str:
    """Return /etc/hosts of a container in the host's network: the host's ``text``, or with own entries Docker's frame."""
    if not extra_hosts:
        return text
    return hosts_file(hostname="", addresses=(), extra_hosts=extra_hosts, host_gateway=host_gateway)


def extra_host(entry: str, host_gateway: str) -> tuple[str, str]:
    """Return name and address of one ``--add-host`` entry: ``name:address`` or ``name=address``, IPv6 also in brackets.

    Raises InvalidInput in Docker's words.
    """
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not name or not address or any(character.isspace() for character in name):
        raise InvalidInput(f'bad format for add-host: "{entry}"')
    if address == _HOST_GATEWAY:
        if not host_gateway:
            raise InvalidInput("unable to derive the IP value for host-gateway")
        return name, host_gateway
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        ip_address(address)
    except ValueError as exc:
        raise InvalidInput(f'invalid IP address in add-host: "{address}"') from exc
    return name, address


def resolv_conf(
    defaults: DNSDefaults,
    *,
    host_network: bool,
    dns: Sequence[str],
    search: Sequence[str],
    options: Sequence[str],
    embedded: bool = False,
) -> str:
    """Return /etc/resolv.conf of a container that asked for ``dns``, ``search`` and ``options``; empty ones default.

    In the host's network the host's text is taken as it is where nothing else was asked for. With ``embedded`` the server
    is the one inside, which asks the others. Reads the host's file.
    """
    servers, domains, settings = dns or defaults.dns, search or defaults.search, options or defaults.options
    host = defaults.host()
    if embedded:
        ndots = any(option.startswith("ndots:") for option in settings or _last(host.splitlines(), "options"))
        settings = [*(settings or _last(host.splitlines(), "options")), *([] if ndots else ["ndots:0"])]
        return edit_resolv_conf(host, servers=[ADDRESS], search=domains, options=settings)
    if host_network and not (servers or domains or settings):
        return host
    return edit_resolv_conf(host, servers=servers, search=domains, options=settings)


def edit_resolv_conf(host: str, *, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """Return a container's /etc/resolv.conf made from the host's text and what was chosen instead.

    The host's loopback servers can't be reached from a container and its IPv6 servers not without IPv6: they are left
    out, and public ones stand in when none is left. A search list of "." alone means none.
    """
    lines = [line for line in host.splitlines() if _is_reachable(line)]
    if not _values(lines, "nameserver"):
        lines += [f"nameserver {server}" for server in _DEFAULT_SERVERS]
    if not (servers or search or options):
        return "".join(f"{line}\n" for line in lines)
    chosen_search = list(search) or _last(lines, "search")
    chosen_options = list(options) or _last(lines, "options")
    text = f"search {' '.join(chosen_search)}\n" if chosen_search and chosen_search != ["."] else ""
    text += "".join(f"nameserver {server}\n" for server in servers or _values(lines, "nameserver"))
    return text + (f"options {' '.join(chosen_options)}\n" if chosen_options else "")


def read_host_resolv_conf(path: str = _RESOLV_CONF, resolved_path: str = _RESOLVED_RESOLV_CONF) -> str:
    """Return the host's resolv.conf, "" if there is none; where it only names systemd-resolved's stub, resolved's own."""
    text = _read(path)
    if _values(text.splitlines(), "nameserver") == [_RESOLVED_STUB]:
        return _read(resolved_path) or text
    return text


def name_servers(text: str) -> list[str]:
    """Return the servers that a resolv.conf names."""
    return _values(text.splitlines(), "nameserver")


class DNSDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's ``--dns``, ``--dns-search``, ``--dns-opt``, and how to read the host's resolv.conf."""

    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    host: Callable[[], str] = read_host_resolv_conf


def _is_reachable(line: str) -> bool:
    """Tell whether a container may keep the line; every line that is no nameserver it may."""
    values = _values([line], "nameserver")
    if not values:
        return True
    try:
        address = ip_address(values[0].partition("%")[0])
    except ValueError:
        return True
    return not (address.is_loopback or isinstance(address, IPv6Address))


def _values(lines: Sequence[str], keyword: str) -> list[str]:
    """Return the first word after ``keyword`` of each line that starts with it."""
    words = [line.split() for line in lines]
    return [found[1] for found in words if len(found) > 1 and found[0] == keyword]


def _last(lines: Sequence[str], keyword: str) -> list[str]:
    """Return the words of the last line that starts with ``keyword``, the one that counts (resolv.conf(5))."""
    words = [line.split() for line in lines]
    return next((found[1:] for found in reversed(words) if found and found[0] == keyword), [])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
