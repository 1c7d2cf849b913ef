"""Which host ports a container wants: bindings of a request turned into a list of claims.

Pure: what is free is found out by :mod:`boxship.networks.publishing.ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")
ANY = "0.0.0.0"
ANY_V6 = "::"
_HIGHEST = 65535


class Claim(NamedTuple):
    """A wish for one host port that leads to ``container_port``; ``first`` 0 means any free one, else one of a range.

    With ``both`` the same port is wanted on ``host_ip``, which is IPv4's wildcard, and on that of IPv6.
    """

    protocol: str
    host_ip: str
    first: int
    last: int
    container_port: int
    both: bool = False

    def targets(self, address: str, address_v6: str, *, crossing: bool = False) -> list[tuple[str, str]]:
        """Return on which host addresses a container with these addresses ("": none) is published, and at which of its own.

        With ``crossing`` an address of one family may lead to one of the other.
        """
        hosts = (ANY, ANY_V6) if self.both else (self.host_ip,)
        pairs = [(host_ip, address_v6 if ":" in host_ip else address) for host_ip in hosts]
        return [(host_ip, found) for host_ip, own in pairs if (found := own or (crossing and (address or address_v6)))]


def claims(
    bindings: Mapping[str, Sequence[PortBinding] | None], exposed: Sequence[str], *, publish_all: bool, default_ip: str
) -> list[Claim]:
    """Return the claims of a request, those that leave no choice first so that a random port never takes their place.

    With ``publish_all`` each exposed port without a binding gets a random one. Raises InvalidInput in Docker's words.
    """
    wanted: list[Claim] = []
    bound: set[tuple[int, str]] = set()
    for key, places in bindings.items():
        container_port, protocol = parse_port(key)
        for place in places or ():
            bound.add((container_port, protocol))
            first, last = _host_range(place.host_port)
            address = host_address(place.host_ip, default_ip)
            both = not place.host_ip and default_ip == ANY
            wanted.append(Claim(protocol, address, first, last, container_port, both))
    if publish_all:
        for key in [*exposed, *bindings]:
            container_port, protocol = parse_port(key)
            if (container_port, protocol) not in bound:
                bound.add((container_port, protocol))
                wanted.append(Claim(protocol, default_ip, 0, 0, container_port, default_ip == ANY))
    # "-p 80:80 -p 0.0.0.0:80:80" says the second twice.
    wanted = [claim for claim in wanted if claim.both or claim._replace(both=True) not in wanted]
    return sorted(dict.fromkeys(wanted), key=lambda claim: (claim.first == 0, claim.last - claim.first, claim))


def parse_port(key: str) -> tuple[int, str]:
    """Return number and protocol of "80/tcp" or "80"; raises InvalidInput."""
    number, _, protocol = key.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol}")
    if not number.isascii() or not number.isdecimal() or not 0 < int(number) <= _HIGHEST:
        raise InvalidInput(f'invalid port specification: "{key}"')
    return int(number), protocol


def host_address(text: str, default: str) -> str:
    """Return the host address of a binding in its canonical form, the default for none; raises InvalidInput."""
    if not text:
        return default
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError as exc:
        raise InvalidInput(f"invalid IP address: {text}") from exc
    return str(address)


def _host_range(text: str) -> tuple[int, int]:
    """Return the first and last port of "", "80" or "8000-8010"; (0, 0) means any."""
    first_text, dash, last_text = text.partition("-")
    numbers = [first_text, last_text] if dash else [first_text or "0"] * 2
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise InvalidInput(f"invalid port specification: {text}")
    first, last = int(numbers[0]), int(numbers[1])
    if first > last or last > _HIGHEST or (dash and first == 0):
        raise InvalidInput(f"invalid port specification: {text}")
    return first, last
