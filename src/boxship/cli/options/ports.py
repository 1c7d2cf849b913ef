"""Published ports: ``[[address:]host-port[-last]:]container-port[-last][/protocol]`` and the long form of ``-p``."""

from __future__ import annotations

from boxship.cli import csvfields
from boxship.cli.options.checks import is_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Bindings = dict[str, list[dict[str, str]]]

PROTOCOLS = ("tcp", "udp", "sctp")
MAX_PORT = 65535
LONG_KEYS = ("protocol", "mode", "target", "published")


def parse_ports(specs: Sequence[str]) -> tuple[set[str], Bindings]:
    """Return the exposed ports and their bindings. Raises ValueError in Docker's words."""
    exposed: set[str] = set()
    bindings: Bindings = {}
    for spec in specs:
        for port, address, host_port in expand(short_form(spec)):
            exposed.add(port)
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": host_port})
    return exposed, bindings


def expand(spec: str) -> list[tuple[str, str, str]]:
    """Return (``80/tcp``, host address, host port) for each port that one specification names."""
    address, host, container, protocol = _split(spec)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address and not is_ip(address):
        raise ValueError(f"invalid IP address: {address}")
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    try:
        first, last = parse_range(container)
    except ValueError:
        raise ValueError(f"invalid containerPort: {container}") from None
    host_first = host_last = 0
    if host:
        try:
            host_first, host_last = parse_range(host)
        except ValueError:
            raise ValueError(f"invalid hostPort: {host}") from None
    if host and last - first != host_last - host_first and last != first:
        # One container port may be bound to any of a range of host ports; ranges of two lengths fit nothing.
        raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    if protocol not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    found = []
    for offset in range(last - first + 1):
        host_port = str(host_first + offset) if host else ""
        if host and first == last and host_first != host_last:
            host_port = f"{host_first}-{host_last}"
        found.append((f"{first + offset}/{protocol}", address, host_port))
    return found


def _split(spec: str) -> tuple[str, str, str, str]:
    """Return address, host ports, container ports and protocol of a specification."""
    rest, _, protocol = spec.rpartition("/") if "/" in spec else (spec, "", "tcp")
    protocol = protocol.lower() or "tcp"
    parts = rest.split(":")
    if len(parts) == 1:
        return "", "", parts[0], protocol
    if len(parts) == 2:
        return "", parts[0], parts[1], protocol
    return ":".join(parts[:-2]), parts[-2], parts[-1], protocol


def parse_range(text: str) -> tuple[int, int]:
    """Return first and last port of ``80`` or ``80-90``. Raises ValueError."""
    if not text:
        raise ValueError("empty string specified for ports.")
    first_text, dash, last_text = text.partition("-")
    first = _port(first_text)
    last = _port(last_text) if dash else first
    if last < first:
        raise ValueError(f"invalid range specified for port: {text}")
    return first, last


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    port = int(text)
    if port > MAX_PORT:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return port


def short_form(spec: str) -> str:
    """Return the short form of a ``-p`` value, which may be ``target=80,published=8080,protocol=tcp``."""
    if "=" not in spec:
        return spec
    given = {"protocol": "tcp", "target": "", "published": ""}
    for field in csvfields.split(spec):
        key, equals, value = field.lower().partition("=")
        if not equals or not value:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        if key not in LONG_KEYS:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        given[key] = value
    published = f"{given['published']}:" if given["published"] else ""
    return f"{published}{given['target']}/{given['protocol']}"


def parse_exposed(specs: Sequence[str]) -> set[str]:
    """Return the ports of ``--expose``. Raises ValueError."""
    exposed: set[str] = set()
    for spec in specs:
        if ":" in spec:
            raise ValueError(f"invalid port format for --expose: {spec}")
        ports, _, protocol = spec.partition("/")
        protocol = protocol.lower() or "tcp"
        try:
            first, last = parse_range(ports)
        except ValueError as exc:
            raise ValueError(f"invalid range format for --expose: {spec}, error: {exc}") from exc
        if protocol not in PROTOCOLS:
            raise ValueError(f"invalid proto: {protocol}")
        exposed.update(f"{port}/{protocol}" for port in range(first, last + 1))
    return exposed
