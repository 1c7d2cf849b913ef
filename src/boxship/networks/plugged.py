"""What of networks plugins do: whole networks, or the addresses in them.

Every step at a plugin is a debt (see ``plugins.debts``), of ``network/<id>`` as long as there is the network, or of
``endpoint/<id>`` as long as a container is in it. So whatever is cut off, by an error, a client that leaves or the end of the
daemon, is given back in the reverse order.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from boxship.base.errors import BoxshipError, InvalidInput, SystemFailure
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks.addressing.remote_ipam import RemoteIpam
from boxship.networks.catalog import Network
from boxship.networks.drivers.remote import RemoteDriver
from boxship.networks.gateways import Gateways
from boxship.networks.live import Chosen, LiveNetwork
from boxship.networks.models import AttachRequest, Endpoint, EndpointRequest, Sandbox
from boxship.networks.publishing.publish import parse_port
from boxship.plugins import Ledger, Plugins

BUILT_IN_IPAM = ("default", "null")
_EXPOSED = "com.docker.network.endpoint.exposedports"
_PORTS = "com.docker.network.portmap"
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}  # IANA's numbers

_log = logging.getLogger(__name__)


class PluggedNetworks:
    """Networks and endpoints at plugins."""

    def __init__(self, plugins: Plugins, ledger: Ledger) -> None:
        self._plugins = plugins
        self._ledger = ledger
        self._requests: dict[str, AttachRequest] = {}  # what attached containers asked for, by id
        self._replaying: set[asyncio.Task[None]] = set()

    def driver(self, name: str) -> RemoteDriver:
        """Return the driver of a plugin, which is not looked for yet."""
        return RemoteDriver(name, self._plugins, self._ledger)

    # -- networks ----------------------------------------------------------------------------------------------------

    async def prepare(self, network: Network, driver: object) -> Network:
        """Return a network that is to be made with its scope, and with its pools where a plugin gives them.

        Raises NotFound when there is no such plugin, SystemFailure.
        """
        if isinstance(driver, RemoteDriver):
            network = msgspec.structs.replace(network, scope=await driver.scope())
        if network.ipam_driver not in BUILT_IN_IPAM:
            network = await self._ipam(network).complete(network, _of_network(network.id))
        return network

    async def create(self, live: LiveNetwork) -> None:
        """Have a network made; raises SystemFailure."""
        if isinstance(live.driver, RemoteDriver):
            await live.driver.create(live.spec, _of_network(live.id))

    async def give_back(self, network_id: str) -> None:
        """Give back all of a network; what a plugin does not answer to goes on in the background."""
        await self._ledger.settle(_of_network(network_id))

    def adopt(self, networks: Sequence[LiveNetwork], sandboxes: Collection[Sandbox]) -> None:
        """Keep what belongs to these, in the background give back all else, and tell forgetful plugins again; at a start."""
        claimed = {_of_network(live.id) for live in networks}
        claimed |= {_of_endpoint(endpoint.endpoint_id) for sandbox in sandboxes for endpoint in sandbox.endpoints}
        self._ledger.settle_others(claimed, {"network", "endpoint"})
        for live in networks:
            if live.spec.ipam_driver in BUILT_IN_IPAM or live.spec.config_only:
                continue
            endpoints = [e for sandbox in sandboxes for e in sandbox.endpoints if e.network_id == live.id]
            addresses = [address for e in endpoints for address in (e.address, e.address_v6)]
            task = asyncio.create_task(self._replay(live.spec, addresses), name=f"replay {live.name}")
            self._replaying.add(task)
            task.add_done_callback(self._replaying.discard)

    async def stop(self) -> None:
        """End what :meth:`adopt` began."""
        for task in self._replaying:
            task.cancel()
        await asyncio.gather(*self._replaying, return_exceptions=True)

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def concerns(self, live: LiveNetwork) -> bool:
        """Tell whether plugins have a part in a network."""
        return isinstance(live.driver, RemoteDriver) or live.spec.ipam_driver not in BUILT_IN_IPAM

    async def addresses(
        self, live: LiveNetwork, wish: EndpointRequest, endpoint_id: str
    ) -> tuple[Chosen, Chosen, str] | None:
        """Return a new endpoint's addresses, and its MAC address if they depend on it, from an IPAM plugin.

        None: the network's addresses are our own. Raises InvalidInput, SystemFailure.
        """
        network = live.spec
        if network.ipam_driver in BUILT_IN_IPAM:
            return None
        ipam = self._ipam(network)
        mac = wish.mac_address
        if not mac and (await ipam.capabilities(patient=True)).mac:
            mac = "02:42:" + os.urandom(4).hex(":")
        found = []
        for version, text in ((4, wish.address), (6, wish.address_v6)):
            one = Chosen()
            pools = network.pools_of(version)
            for number, pool in enumerate(pools, 1):
                try:
                    one = await ipam.request(pool, text, mac, _of_endpoint(endpoint_id))
                    break
                except SystemFailure:
                    if number == len(pools):
                        raise
            if text and not pools:
                raise InvalidInput(f"no configured subnet or ip-range contain the IP address {text}")
            if one.address and not isinstance(live.driver, RemoteDriver) and not network.internal:
                one = one._replace(gateway=pool.gateway)
            found.append(one)
        return found[0], found[1], mac

    async def join(
        self,
        live: LiveNetwork,
        endpoint: Endpoint,
        request: AttachRequest,
        wish: EndpointRequest,
        others: Iterable[Endpoint],
        sandbox: str,
        mac: str,
    ) -> Endpoint:
        """Return an endpoint as the plugin has made it, ready to be connected; without a ``mac`` it chooses one.

        ``sandbox`` is the namespace's path, ``others`` are the container's other endpoints. Raises SystemFailure in
        Docker's words.
        """
        driver = live.driver
        if not isinstance(driver, RemoteDriver):
            return endpoint
        key = _of_endpoint(endpoint.endpoint_id)
        bare = msgspec.structs.replace(endpoint, gateway="", gateway_v6="", mac_address=mac)
        links = {other.link for other in others}
        ports = _ports(request)
        told = {} if links or live.spec.internal else ports  # as Docker: with the first endpoint that may have them
        try:
            known = await driver.create_endpoint(bare, {**told, **wish.options}, key)
        except BoxshipError as exc:
            raise SystemFailure(f"failed to create endpoint {request.name} on network {live.name}: {exc}") from exc
        joined = await driver.join(known, ports, sandbox, links, key)
        if not joined.mac_address:
            joined = msgspec.structs.replace(joined, mac_address=await asyncio.to_thread(_mac_of, joined.plugin_link))
        return joined

    async def lead_out(
        self, drivers: Mapping[str, LiveNetwork], before: Gateways, after: Gateways, request: AttachRequest
    ) -> None:
        """Open the endpoint that is a container's way out now, and close the one that was; raises SystemFailure."""
        self._requests[request.container_id] = request
        old, new = before.v4 or before.v6, after.v4 or after.v6
        if old is not None and new is not None and old.endpoint_id == new.endpoint_id:
            return
        if old is not None and isinstance(driver := _driver(drivers, old), RemoteDriver):
            await driver.close(old, _of_endpoint(old.endpoint_id))
        if new is not None and isinstance(driver := _driver(drivers, new), RemoteDriver):
            await driver.open(new, request.name, _ports(request), _of_endpoint(new.endpoint_id))

    async def lead_on(
        self, drivers: Mapping[str, LiveNetwork], before: Gateways, after: Gateways, container_id: str
    ) -> None:
        """Do that for a container that left a network, as well as it goes."""
        request = self._requests.get(container_id) or AttachRequest(container_id=container_id, name=container_id)
        try:
            await self.lead_out(drivers, before, after, request)
        except BoxshipError as exc:
            _log.warning("container %s: %s", container_id, exc)

    async def look(self, drivers: Mapping[str, LiveNetwork], endpoints: Iterable[Endpoint]) -> None:
        """Ask the plugins how endpoints are that have joined."""
        for endpoint in endpoints:
            if isinstance(driver := _driver(drivers, endpoint), RemoteDriver):
                await driver.look(endpoint)

    async def part(self, live: LiveNetwork, endpoint: Endpoint) -> None:
        """Close and leave: the plugin lets go of the interface of a container that goes on. Raises SystemFailure."""
        if isinstance(live.driver, RemoteDriver):
            key = _of_endpoint(endpoint.endpoint_id)
            await live.driver.close(endpoint, key)
            await live.driver.leave(endpoint, key)

    async def leave(self, endpoint_ids: Iterable[str]) -> None:
        """Give back all of these endpoints; what a plugin does not answer to goes on in the background."""
        await self._ledger.settle(*map(_of_endpoint, endpoint_ids))

    def forget(self, container_id: str) -> None:
        """Note that a container is attached no more."""
        self._requests.pop(container_id, None)

    # -- parts of the above ------------------------------------------------------------------------------------------

    def _ipam(self, network: Network) -> RemoteIpam:
        return RemoteIpam(network.ipam_driver, self._plugins, self._ledger)

    async def _replay(self, network: Network, addresses: list[str]) -> None:
        try:
            await self._ipam(network).replay(network, addresses)
        except BoxshipError as exc:
            _log.warning("the IPAM plugin %s was not told of network %s: %s", network.ipam_driver, network.name, exc)


def _driver(networks: Mapping[str, LiveNetwork], endpoint: Endpoint) -> object:
    live = networks.get(endpoint.network_id)
    return live.driver if live is not None else None


def _of_network(id: str) -> str:
    return f"network/{id}"


def _of_endpoint(id: str) -> str:
    return f"endpoint/{id}"


def _mac_of(link: str) -> str:
    with Socket.open() as host:
        found = rtnetlink.find_link(host, link)
    return found.address if found is not None else ""


def _ports(request: AttachRequest) -> dict[str, Any]:
    """Return a container's ports as plugins read them."""
    exposed: list[dict[str, int]] = []
    bound: list[dict[str, Any]] = []
    for key in sorted({*request.exposed_ports, *request.port_bindings}):
        port, protocol = parse_port(key)
        exposed.append({"Proto": _PROTOCOLS[protocol], "Port": port})
        for binding in request.port_bindings.get(key) or ():
            first, _, last = (binding.host_port or "0").partition("-")
            bound.append(
                {
                    "Proto": _PROTOCOLS[protocol],
                    "IP": "",
                    "Port": port,
                    "HostIP": binding.host_ip or "",
                    "HostPort": int(first) if first.isdecimal() else 0,
                    "HostPortEnd": int(last or first) if (last or first).isdecimal() else 0,
                }
            )
    return {_EXPOSED: exposed, _PORTS: bound}
