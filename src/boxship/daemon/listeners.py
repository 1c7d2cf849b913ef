"""Which listeners the configuration means, and whether they may be opened."""

from __future__ import annotations

import logging
import ssl

from boxship.daemon.config import ConfigError, DaemonConfig
from boxship.http.listeners import Address, ListenError, parse_address
from boxship.http.tls import server_context

log = logging.getLogger("boxship.daemon")

_ATTACK_SURFACE = """
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/"""


def addresses(config: DaemonConfig, *, warn: bool = True) -> list[Address]:
    """Return the addresses to listen on. Raises ConfigError.

    TCP without client certificates gives root to whoever reaches it: it takes an explicit ``--tls=false`` or
    ``--tlsverify=false`` (or the same in daemon.json), and is warned about in the log unless ``warn`` is False.
    """
    try:
        found = [
            parse_address(host, tls=config.uses_tls, default_socket=f"{config.exec_root}/boxship.sock")
            for host in config.hosts
        ]
    except ListenError as exc:
        raise ConfigError(str(exc)) from exc
    for address in found:
        if address.scheme == "tcp" and not config.tlsverify:
            _accept_insecure(address, config, warn=warn)
    return found


def exposure_warnings(config: DaemonConfig) -> list[str]:
    """Return what ``info`` says, in Docker's words, of TCP listeners that anybody may use."""
    if config.tlsverify:
        return []
    scheme, lack = ("https", "TLS client verification") if config.uses_tls else ("http", "encryption")
    return [
        f"WARNING: API is accessible on {scheme}://{str(address).removeprefix('tcp://')} without {lack}.{_ATTACK_SURFACE}"
        for address in addresses(config, warn=False)
        if address.scheme == "tcp"
    ]


def tls_context(config: DaemonConfig) -> ssl.SSLContext | None:
    """Return the TLS settings of TCP listeners, None for plain TCP. Raises ConfigError."""
    if not config.uses_tls:
        return None
    try:
        return server_context(
            certificate=config.tlscert or "",
            key=config.tlskey or "",
            authority=config.tlscacert,
            verify=bool(config.tlsverify),
        )
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"invalid TLS configuration: {exc} (tlscert {config.tlscert}, tlskey {config.tlskey})"
        ) from exc


def _accept_insecure(address: Address, config: DaemonConfig, *, warn: bool) -> None:
    if config.tls is not False and config.tlsverify is not False:
        raise ConfigError(
            f"refusing to listen on {address} without --tlsverify: it gives root access on this machine to everyone "
            "who can reach it. Use TLS with client certificates, or say --tls=false if you accept that"
        )
    if not warn:
        return
    log.warning(
        "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who "
        "has access to your network. host=%s",
        address,
    )
    log.warning(
        "Binding to an IP address, even on localhost, can also give access to scripts run in a browser. "
        "Be safe out there! host=%s",
        address,
    )
