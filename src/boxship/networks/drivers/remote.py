"""Networks of plugins: Docker's ``NetworkDriver`` interface, and what its answers may say.

The plugin makes the network, and for each endpoint an interface on the host, which is moved into the container's
namespace. Names, addresses and routes that it answers are checked before anybody goes by them.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec

from boxship.base.errors import BoxshipError, Forbidden, SystemFailure
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks.catalog import Network, Pool
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.models import Endpoint, StaticRoute
from boxship.plugins import Call, Ledger, PluginRefused, Plugins

INTERFACE = "NetworkDriver"
_LOCAL_SPACE = {"local": "LocalDefault", "global": "GlobalDefault"}  # of the built-in IPAM
_LINK_BYTES = 15  # linux/if.h: IFNAMSIZ, without the zero
_MAX_ROUTES = 1000
_NOT_THERE = 404  # a call that a plugin need not have


class _Capability(msgspec.Struct, rename="pascal"):
    scope: str = ""


class Interface(msgspec.Struct):
    """What a plugin decides about an endpoint, addresses with their prefix length."""

    address: str = msgspec.field(default="", name="Address")
    address_v6: str = msgspec.field(default="", name="AddressIPv6")
    mac_address: str = msgspec.field(default="", name="MacAddress")


class _Created(msgspec.Struct, rename="pascal"):
    interface: Interface | None = None


class _Route(msgspec.Struct, rename="pascal"):
    destination: str = ""
    next_hop: str = ""


class _Link(msgspec.Struct, rename="pascal"):
    src_name: str = ""
    dst_prefix: str = ""
    dst_name: str = ""


class Joined(msgspec.Struct):
    """What a plugin answers when an endpoint joins."""

    link: _Link = msgspec.field(default_factory=_Link, name="InterfaceName")
    gateway: str = msgspec.field(default="", name="Gateway")
    gateway_v6: str = msgspec.field(default="", name="GatewayIPv6")
    routes: list[_Route] = msgspec.field(default_factory=list, name="StaticRoutes")


class RemoteDriver:
    """The networks of one plugin; a ``Driver`` that makes nothing itself, and the plugin's calls."""

    needs_pools = True
    several_pools = True

    def __init__(self, name: str, plugins: Plugins, ledger: Ledger) -> None:
        self._name = name
        self._plugins = plugins
        self._ledger = ledger

    # -- what every driver does --------------------------------------------------------------------------------------

    def check(self, network: Network) -> None:
        """Take whatever options: the plugin knows them."""

    def make(self, host: Socket, network: Network) -> None:
        """Make nothing: see :meth:`create`."""

    def remove(self, host: Socket, network: Network) -> None:
        """Remove nothing: what was created is a debt to the plugin."""

    def host_links(self, network: Network) -> list[str]:  # noqa: ARG002
        """Return none of ours."""
        return []

    def mtu(self, network: Network) -> int:  # noqa: ARG002
        """Return 0: the plugin's interfaces stay as they are."""
        return 0

    def rules(self, network: Network) -> BridgeRules | None:  # noqa: ARG002
        """Return None: the plugin opens its networks to the outside."""
        return None

    def connect(
        self,
        host: Socket,
        network: Network,
        endpoint: Endpoint,
        *,
        ns_fd: int,
        alias: str,  # noqa: ARG002
        hairpin: bool,  # noqa: ARG002
    ) -> None:
        """Move the interface that the plugin has made; raises SystemFailure, Forbidden, OSError."""
        name = endpoint.plugin_link
        link = rtnetlink.find_link(host, name)
        if link is None:
            raise SystemFailure(
                f"failed to create endpoint on network {network.name}: failed to get link by name {name!r}: Link not found"
            )
        if link.alias.startswith("boxship:") or name == "lo":
            raise Forbidden(f"the interface {name} that the plugin {self._name} names is none of its own")
        mac = endpoint.mac_address if endpoint.mac_address != link.address else None
        host.execute([rtnetlink.set_link(link.index, name=endpoint.link, mac=mac or None, ns_fd=ns_fd)])

    def adopt(self, host: Socket, network: Network, endpoint: Endpoint) -> None:
        """Do nothing: the plugin keeps the host's end."""

    # -- what the plugin does ----------------------------------------------------------------------------------------

    async def scope(self) -> str:
        """Return "local" or "global"; raises NotFound when there is no such plugin, SystemFailure."""
        answer = await self._plugins.ask(self._name, "NetworkDriver.GetCapabilities", None, _Capability, patient=False)
        if answer.scope not in _LOCAL_SPACE:
            raise SystemFailure(f"invalid capability: expecting 'local' or 'global', got {answer.scope[:100]}")
        return answer.scope

    async def create(self, network: Network, key: str) -> None:
        """Make a network, a debt of ``key``; raises SystemFailure."""
        chosen: dict[str, Any] = {
            "com.docker.network.enable_ipv6": network.ipv6,
            "com.docker.network.generic": network.options,
        }
        if network.internal:
            chosen["com.docker.network.internal"] = True
        pools = network.pools
        if network.ipam_driver == "null":
            pools = [Pool(subnet="0.0.0.0/0", space="null")]
        body = {
            "NetworkID": network.id,
            "Options": chosen,
            "IPv4Data": [_pool(pool, network.scope) for pool in pools if pool.version == 4],
            "IPv6Data": [_pool(pool, network.scope) for pool in pools if pool.version == 6],
        }
        undo = Call(self._name, "NetworkDriver.DeleteNetwork", {"NetworkID": network.id})
        await self._ledger.do(key, "NetworkDriver.CreateNetwork", body, dict[str, Any], undo=undo)

    async def create_endpoint(self, endpoint: Endpoint, options: dict[str, Any], key: str) -> Endpoint:
        """Announce an endpoint and return it with what the plugin decides: addresses and MAC that it has not yet.

        Raises SystemFailure.
        """
        place = _place(endpoint)
        offered = {
            "Address": f"{endpoint.address}/{endpoint.prefix_length}" if endpoint.address else "",
            "AddressIPv6": f"{endpoint.address_v6}/{endpoint.prefix_length_v6}" if endpoint.address_v6 else "",
            "MacAddress": endpoint.mac_address,
        }
        answer = await self._ledger.do(
            key,
            "NetworkDriver.CreateEndpoint",
            {**place, "Interface": offered, "Options": options},
            _Created,
            undo=Call(self._name, "NetworkDriver.DeleteEndpoint", place),
        )
        return decided(endpoint, answer.interface) if answer.interface is not None else endpoint

    async def join(
        self, endpoint: Endpoint, options: dict[str, Any], sandbox: str, taken: set[str], key: str
    ) -> Endpoint:
        """Have the interface made, and return the endpoint with its names, gateways and routes.

        ``taken`` are the names of interfaces that the container has. Raises SystemFailure.
        """
        place = _place(endpoint)
        answer = await self._ledger.do(
            key,
            "NetworkDriver.Join",
            {**place, "SandboxKey": sandbox, "Options": options},
            Joined,
            undo=Call(self._name, "NetworkDriver.Leave", place),
        )
        return joined(endpoint, answer, taken)

    async def open(self, endpoint: Endpoint, name: str, options: dict[str, Any], key: str) -> None:
        """Open an endpoint to the outside: it is the container's way there. Raises SystemFailure."""
        place = _place(endpoint)
        try:
            await self._ledger.do(
                key,
                "NetworkDriver.ProgramExternalConnectivity",
                {**place, "Options": options},
                dict[str, Any],
                undo=self._closing(endpoint),
            )
        except PluginRefused as exc:
            if exc.status != _NOT_THERE:
                raise SystemFailure(
                    "driver failed programming external connectivity on endpoint "
                    f"{name} ({endpoint.endpoint_id}): {exc}"
                ) from exc

    async def close(self, endpoint: Endpoint, key: str) -> None:
        """Close what :meth:`open` opened."""
        await self._ledger.repay(key, self._closing(endpoint))

    async def leave(self, endpoint: Endpoint, key: str) -> None:
        """Have the interface's other end taken away."""
        await self._ledger.repay(key, Call(self._name, "NetworkDriver.Leave", _place(endpoint)))

    async def look(self, endpoint: Endpoint) -> None:
        """Ask how an endpoint is, as Docker does once it has joined; whatever the answer, it is of no consequence."""
        try:
            await self._plugins.ask(
                self._name, "NetworkDriver.EndpointOperInfo", _place(endpoint), dict[str, Any], patient=False
            )
        except BoxshipError:
            return

    def _closing(self, endpoint: Endpoint) -> Call:
        return Call(self._name, "NetworkDriver.RevokeExternalConnectivity", _place(endpoint))


def _place(endpoint: Endpoint) -> dict[str, Any]:
    return {"NetworkID": endpoint.network_id, "EndpointID": endpoint.endpoint_id}


def _pool(pool: Pool, scope: str) -> dict[str, Any]:
    """Return a pool as plugins read it: addresses with the pool's prefix length."""
    prefix = pool.subnet.partition("/")[2]
    document: dict[str, Any] = {"AddressSpace": pool.space or _LOCAL_SPACE[scope], "Pool": pool.subnet}
    if pool.gateway:
        document["Gateway"] = f"{pool.gateway}/{prefix}"
    if pool.auxiliary:
        document["AuxAddresses"] = {name: f"{address}/{prefix}" for name, address in pool.auxiliary.items()}
    return document


def decided(endpoint: Endpoint, answer: Interface) -> Endpoint:
    """Return an endpoint with what a plugin decided about it; raises SystemFailure when that was decided already."""
    changes: dict[str, Any] = {}
    if answer.mac_address:
        mac = _checked_mac(answer.mac_address)
        if endpoint.mac_address and mac != endpoint.mac_address.lower():
            raise _modified("MAC address", "MAC address", endpoint.mac_address, answer.mac_address)
        changes["mac_address"] = mac
    for text, has, fields in (
        (answer.address, endpoint.address, ("address", "prefix_length")),
        (answer.address_v6, endpoint.address_v6, ("address_v6", "prefix_length_v6")),
    ):
        if not text:
            continue
        try:
            found = ip_interface(text)
        except ValueError as exc:
            raise SystemFailure(f"failed to parse the plugin's address: invalid CIDR address: {text[:100]}") from exc
        if found.version != (6 if fields[0] == "address_v6" else 4):
            raise SystemFailure(f"failed to parse the plugin's address: invalid CIDR address: {text[:100]}")
        if has and str(found.ip) != has:
            raise _modified("address", "IP", has, text)
        changes |= {fields[0]: str(found.ip), fields[1]: found.network.prefixlen}
    return msgspec.structs.replace(endpoint, **changes)


def joined(endpoint: Endpoint, answer: Joined, taken: set[str]) -> Endpoint:
    """Return an endpoint with what a plugin answered to its joining; raises SystemFailure for what makes no sense."""
    source = answer.link.src_name
    prefix = answer.link.dst_prefix or "eth"
    for name in (source, prefix, answer.link.dst_name or prefix):
        if (
            not name
            or len(name) > _LINK_BYTES
            or "/" in name
            or not name.isprintable()
            or " " in name
            or name[0] == "."
        ):
            raise SystemFailure(f"invalid name of an interface from the plugin: {name[:100]!r}")
    link = answer.link.dst_name or next(
        name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken
    )
    if link in taken or len(link) > _LINK_BYTES:
        raise SystemFailure(f"invalid name of an interface from the plugin: {link!r}")
    if len(answer.routes) > _MAX_ROUTES:
        raise SystemFailure(f"the plugin names more than {_MAX_ROUTES} static routes")
    try:
        gateways = [str(ip_address(text)) if text else "" for text in (answer.gateway, answer.gateway_v6)]
        routes = [
            StaticRoute(str(ip_network(route.destination)), str(ip_address(route.next_hop)) if route.next_hop else "")
            for route in answer.routes
        ]
    except ValueError as exc:
        raise SystemFailure(f"failed to parse the plugin's gateways and routes: {str(exc)[:200]}") from exc
    if ":" in gateways[0] or (gateways[1] and ":" not in gateways[1]):
        raise SystemFailure("failed to parse the plugin's gateways and routes: a gateway of the other family")
    return msgspec.structs.replace(
        endpoint, plugin_link=source, link=link, gateway=gateways[0], gateway_v6=gateways[1], routes=routes
    )


def _checked_mac(text: str) -> str:
    try:
        rtnetlink.mac_bytes(text)
    except ValueError as exc:
        raise SystemFailure(f"failed to parse the plugin's MAC address: {text[:100]}") from exc
    return text.lower()


def _modified(what: str, short: str, has: str, wanted: str) -> SystemFailure:
    return SystemFailure(
        f"driver modified interface {what}: endpoint interface {short} present ({has}). "
        f"Cannot be modified with {wanted[:100]}."
    )
