"""The half of the network service that containers see: their sandboxes, endpoints and published ports.

A container's network costs about a millisecond: one batch of requests on the host's netlink socket, one on the socket
inside its namespace, one nftables command. They run on the event loop, one container after the other, which is what
keeps the bookkeeping free of locks; what takes longer (making namespaces, tearing them down) does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack

import msgspec

from boxship.base import ids
from boxship.base.errors import BoxshipError, Forbidden, InvalidInput, SystemFailure
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks import catalog, endpoints, gateways, names, namespaces
from boxship.networks.drivers import options
from boxship.networks.drivers.macvlan import MacvlanDriver
from boxship.networks.files import DNSDefaults, name_servers
from boxship.networks.filtering.rules import ROUTED
from boxship.networks.gateways import Gateways
from boxship.networks.host import Host
from boxship.networks.live import Chosen, LiveNetwork, mac_address
from boxship.networks.models import AttachRequest, Endpoint, EndpointRequest, NamespaceFactory, PublishedPort, Sandbox
from boxship.networks.names import EndpointNames, NameTable, NoNames, Resolver
from boxship.networks.namespaces import NamespacePool
from boxship.networks.options import NetworkOptions
from boxship.networks.plugged import PluggedNetworks
from boxship.networks.publishing import publish, republish
from boxship.networks.publishing.ports import PortTaken
from boxship.networks.publishing.publish import Claim
from boxship.networks.publishing.relay import NoRelay, Relay
from boxship.networks.publishing.republish import PortChange
from boxship.spec.docker.container import PortBinding

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publish an event: object type, action, id, attributes."""

_log = logging.getLogger(__name__)

_LINK_BYTES = 15  # linux/if.h: IFNAMSIZ, without the zero


class Sandboxes:
    """Attaches containers, and remembers who is where."""

    def __init__(
        self,
        *,
        factory: NamespaceFactory,
        pool: NamespacePool,
        options: NetworkOptions,
        alias: str,
        dns: DNSDefaults,
        name_table: NameTable | None,
        emit: Emit,
        relay: Relay | None,
        plugged: PluggedNetworks | None,
    ) -> None:
        self._factory = factory
        self._pool = pool
        self._options = options
        self._alias = alias
        self._dns = dns
        self._names: NameTable = name_table or NoNames()
        self._resolving = name_table is not None
        self._emit = emit
        self._plugged = plugged
        self._host = Host(options, relay or NoRelay())
        self._live: dict[str, LiveNetwork] = {}  # by id
        self._attached: dict[str, Sandbox] = {}  # by container id
        self._held: dict[str, dict[str, Endpoint]] = {}  # by container and network id: addresses kept without a sandbox

    # -- attach and release ------------------------------------------------------------------------------------------

    async def attach(self, request: AttachRequest) -> Sandbox:
        """Give a container its namespace, endpoints and ports; a failure or cancellation leaves nothing of it.

        Raises NotFound (no such network), InvalidInput, SystemFailure (no address or port is left, the host refuses) in
        Docker's words.
        """
        async with AsyncExitStack() as later:
            sandbox = await self._attach(request, later)
            later.pop_all()
        self._publish_names(sandbox.endpoints)
        return sandbox

    async def _attach(self, request: AttachRequest, later: AsyncExitStack) -> Sandbox:
        """Do that; ``later`` gets what is to be undone after all else."""
        wanted = [(self._joinable(wish.network), wish) for wish in request.endpoints]
        claims = self._claims(request, [network for network, _ in wanted])
        with _joining([network for network, _ in wanted]), ExitStack() as undo:
            namespace = await self._pool.take(request.user_namespace)
            undo.callback(self._remove_in_background, namespace.path)
            with Socket.from_fd(namespace.route_fd) as first:
                inside = first
                if any(network.spec.ipv6 for network, _ in wanted):
                    fd = await self._factory.open(namespace.path, ipv6=True)
                    inside = undo.enter_context(Socket.from_fd(fd))
                found: list[Endpoint] = []
                for network, wish in wanted:
                    found.append(await self._new(request, network, wish, found, undo, later, namespace.path))
                chosen = gateways.choose(found)
                ports = self._take_ports(request.name, claims, chosen, undo)
                for endpoint in found:
                    self._connect(request, endpoint, namespace.path, inside, undo, hairpin=bool(claims))
                _route(inside, Gateways(None, None), chosen, request.name)
                self._publish(request.name, ports, undo)
                if self._host.relayed(ports):
                    await self._host.relay.settle()
                if inside is not first:
                    inside.close()
            sandbox = Sandbox(
                id=namespace.id,
                key=namespace.path,
                name=request.name,
                endpoints=found,
                ports=ports,
                resolving=request.resolving,
            )
            if self._plugged is not None:
                await self._plugged.lead_out(self._live, Gateways(None, None), chosen, request)
            if sandbox.resolves:
                await self._names.attach(self._resolver(sandbox))
            undo.pop_all()
            self._attached[request.container_id] = sandbox
        if self._plugged is not None:
            await self._plugged.look(self._live, sandbox.endpoints)
        return sandbox

    async def release(self, sandbox: Sandbox) -> None:
        """Free all that a sandbox has; doing it twice is no error.

        Ports, addresses and rules are free at once; the veth pairs go with the namespace, in the kernel's own time.
        """
        for container_id, attached in list(self._attached.items()):
            if attached.id == sandbox.id:
                del self._attached[container_id]
                self._free(container_id, attached)
                if self._plugged is not None:
                    self._plugged.forget(container_id)
                if attached.resolves:
                    await self._names.detach(sandbox.id)
                if self._host.relayed(attached.ports):
                    await self._host.relay.settle()
                await self._remove_links(attached)
        if self._plugged is not None:
            await self._plugged.leave(endpoint.endpoint_id for endpoint in sandbox.endpoints)
        await asyncio.to_thread(namespaces.remove, sandbox.key)

    async def _remove_links(self, sandbox: Sandbox) -> None:
        """Remove interfaces that sit on the host's own links, whose MAC addresses or whole links would be busy else.

        The kernel does it with the namespace, but in its own time; a container that is restarted wants the same again.
        """
        links = [e for e in sandbox.endpoints if e.mac_address and not e.host_link and self._is_on_parent(e)]
        if not links:
            return
        with contextlib.suppress(BoxshipError, OSError):
            fd = await self._factory.open(sandbox.key, ipv6=False)
            with Socket.from_fd(fd) as inside:
                for endpoint in links:
                    await asyncio.to_thread(endpoints.remove, inside, endpoint)

    def _is_on_parent(self, endpoint: Endpoint) -> bool:
        network = self._live.get(endpoint.network_id)
        return network is not None and isinstance(network.driver, MacvlanDriver)

    # -- while a container runs --------------------------------------------------------------------------------------

    async def connect(self, request: AttachRequest) -> Sandbox:
        """Put an attached container into further networks, those of the request; return its sandbox as it is then.

        The request's ports are published when the container gets a way out by that. Raises what :meth:`attach` raises,
        with nothing changed, and Forbidden for a network that it is in already.
        """
        before = self._attached[request.container_id]
        async with AsyncExitStack() as later:
            sandbox = await self._connect_all(request, before, later)
            later.pop_all()
        self._publish_names(sandbox.endpoints[len(before.endpoints) :])
        return sandbox

    async def _connect_all(self, request: AttachRequest, before: Sandbox, later: AsyncExitStack) -> Sandbox:
        wanted = [(self._joinable(wish.network), wish) for wish in request.endpoints]
        for network, _ in wanted:
            if any(endpoint.network_id == network.id for endpoint in before.endpoints):
                raise Forbidden(f"endpoint with name {request.name} already exists in network {network.name}")
        claims = self._claims(request, [network for network, _ in wanted])
        ipv6 = any(network.spec.ipv6 for network, _ in wanted)
        with _joining([network for network, _ in wanted]), ExitStack() as undo:
            inside = undo.enter_context(Socket.from_fd(await self._factory.open(before.key, ipv6=ipv6)))
            with ExitStack() as failed:
                found = list(before.endpoints)
                for network, wish in wanted:
                    endpoint = await self._new(request, network, wish, found, failed, later, before.key)
                    failed.callback(endpoints.remove, inside, endpoint)
                    self._connect(request, endpoint, before.key, inside, failed, hairpin=True)
                    found.append(endpoint)
                after = msgspec.structs.replace(before, endpoints=found)
                sandbox = self._rewire(before, after, inside, claims, failed)
                if self._plugged is not None:
                    ways = gateways.choose(before.endpoints), gateways.choose(found)
                    await self._plugged.lead_out(self._live, *ways, request)
                if sandbox.resolves:
                    await self._names.attach(self._resolver(sandbox))
                if self._attached.get(request.container_id) is not before:
                    raise SystemFailure(f"container {request.container_id} ended while it was connected")
                failed.pop_all()
                self._attached[request.container_id] = sandbox
        if self._plugged is not None:
            await self._plugged.look(self._live, sandbox.endpoints[len(before.endpoints) :])
        return sandbox

    async def disconnect(self, container_id: str, network_id: str) -> Sandbox:
        """Take an attached container out of a network; return its sandbox as it is then. Raises SystemFailure."""
        before = self._attached[container_id]
        gone = next(endpoint for endpoint in before.endpoints if endpoint.network_id == network_id)
        live = self._live.get(network_id)
        if self._plugged is not None and live is not None:
            await self._plugged.part(live, gone)
        with Socket.from_fd(await self._factory.open(before.key, ipv6=False)) as inside:
            await asyncio.to_thread(endpoints.give_up, inside, gone)
            if self._attached.get(container_id) is not before:
                raise SystemFailure(f"container {container_id} ended while it was disconnected")
            rest = [endpoint for endpoint in before.endpoints if endpoint is not gone]
            after = msgspec.structs.replace(before, endpoints=rest)
            with ExitStack() as undo:
                sandbox = self._rewire(before, after, inside, [], undo)
                undo.pop_all()
        self._attached[container_id] = sandbox
        self._free_endpoint(container_id, gone, flows=True)
        if self._plugged is not None:
            ways = gateways.choose(before.endpoints), gateways.choose(sandbox.endpoints)
            await self._plugged.lead_on(self._live, *ways, container_id)
            await self._plugged.leave([gone.endpoint_id])
        if sandbox.resolves:
            await self._names.attach(self._resolver(sandbox))
        elif before.resolves:
            await self._names.detach(before.id)
        return sandbox

    def change_ports(
        self,
        sandbox: Sandbox,
        bindings: Mapping[str, Sequence[PortBinding] | None],
        removed: Sequence[PublishedPort],
    ) -> PortChange:
        """End some ports of an attached container and publish others, at once; connections of the rest go on.

        On "none" nothing is published, as on attach. Raises what attach raises for its ports, with nothing changed.
        """
        chosen = gateways.choose(sandbox.endpoints)
        live = [self._live[e.network_id] for e in sandbox.endpoints if e.network_id in self._live]
        claims = (
            publish.claims(bindings, (), publish_all=False, default_ip=self._default_ip(live))
            if any(network.publishes for network in live)
            else []
        )
        endpoint = chosen.v4 or chosen.v6
        try:
            if claims and endpoint is not None and endpoint.host_link:
                isolated = not self._icc(endpoint)
                self._host.route.execute(
                    [rtnetlink.set_bridge_port(endpoint.host_link, hairpin=True, isolated=isolated)]
                )
            change = republish.change(
                sandbox,
                claims,
                removed,
                addresses=self._targets(chosen),
                host=self._host,
                crossing=self._options.userland_proxy,
                attached=self._replace_attached,
            )
        except PortTaken as exc:
            raise SystemFailure(_connectivity_failure(sandbox.name, endpoint, exc)) from exc
        except OSError as exc:
            raise SystemFailure(f"failed to publish ports of {sandbox.name}: {exc.strerror}") from exc
        if self._host.flows is not None:
            endpoints.forget_datagrams(self._host.flows, {*change.added, *removed})
        return change

    def rename(self, container_id: str, name: str) -> None:
        """Show a container under a new name, and let others find it by that."""
        sandbox = self._attached.get(container_id)
        if sandbox is None:
            return
        renamed = [
            msgspec.structs.replace(endpoint, names=[name, *endpoint.names[1:]]) if endpoint.names else endpoint
            for endpoint in sandbox.endpoints
        ]
        self._attached[container_id] = msgspec.structs.replace(sandbox, name=name, endpoints=renamed)
        self._publish_names(renamed)

    def attached(self, container_id: str) -> Sandbox | None:
        """Return the sandbox of an attached container as it is now."""
        return self._attached.get(container_id)

    def hold_address(self, container_id: str) -> None:
        """Keep the addresses of an attached container for its next attach, until :meth:`let_address_go`."""
        sandbox = self._attached.get(container_id)
        if sandbox is not None:
            self._held[container_id] = {endpoint.network_id: endpoint for endpoint in sandbox.endpoints}

    def let_address_go(self, container_id: str) -> None:
        """End :meth:`hold_address`; addresses that nobody uses are free then."""
        sandbox = self._attached.get(container_id)
        used = {endpoint.network_id: endpoint for endpoint in sandbox.endpoints} if sandbox else {}
        for network_id, held in self._held.pop(container_id, {}).items():
            network, user = self._live.get(network_id), used.get(network_id)
            if network is not None:
                kept = (user.address, user.address_v6) if user else ()
                network.release(*(text for text in (held.address, held.address_v6) if text not in kept))

    def host_address(self, text: str) -> str:
        """Return where a binding without or with a host address is published; raises InvalidInput."""
        return publish.host_address(text, self._options.ip)

    async def _repair(self, container_id: str, sandbox: Sandbox, missing: Sequence[Endpoint]) -> None:
        """Make an adopted sandbox what it is said to be, after a connect or disconnect that was cut off.

        ``missing`` are its endpoints whose links are gone; the default routes may have been another network's.
        """
        request = AttachRequest(container_id=container_id, name=sandbox.name)
        try:
            fd = await self._factory.open(sandbox.key, ipv6=any(endpoint.address_v6 for endpoint in missing))
            with Socket.from_fd(fd) as inside, ExitStack() as undo:
                for endpoint in missing:
                    self._connect(request, endpoint, sandbox.key, inside, undo, hairpin=True)
                _route(inside, Gateways(None, None), gateways.choose(sandbox.endpoints), sandbox.name)
                undo.pop_all()
        except (BoxshipError, KeyError) as exc:
            _log.error("container %s is not in all of its networks: %s", container_id, exc)

    # -- one endpoint ------------------------------------------------------------------------------------------------

    def _joinable(self, ref: str) -> LiveNetwork:
        network = self._live[catalog.find((live.spec for live in self._live.values()), ref).id]
        if network.name == "host":
            raise InvalidInput("a container in the host's network has no sandbox")
        if network.spec.config_only:
            raise Forbidden(f"cannot connect a container to {network.name}: it is a configuration-only network")
        return network

    async def _new(
        self,
        request: AttachRequest,
        network: LiveNetwork,
        wish: EndpointRequest,
        others: Sequence[Endpoint],
        undo: ExitStack,
        later: AsyncExitStack,
        key: str,
    ) -> Endpoint:
        """Return a new endpoint of the sandbox ``key``, with everything done that plugins do for it."""
        id = ids.new_id()
        if self._plugged is None or not self._plugged.concerns(network):
            return self._plan(request, network, wish, others, undo, id)
        later.push_async_callback(self._plugged.leave, [id])
        given = await self._plugged.addresses(network, wish, id)
        endpoint = self._plan(request, network, wish, others, undo, id, given)
        mac = given[2] if given else wish.mac_address
        return await self._plugged.join(network, endpoint, request, wish, others, key, mac)

    def _plan(
        self,
        request: AttachRequest,
        network: LiveNetwork,
        wish: EndpointRequest,
        others: Sequence[Endpoint],
        undo: ExitStack,
        endpoint_id: str,
        given: tuple[Chosen, Chosen, str] | None = None,
    ) -> Endpoint:
        """Return a new endpoint with its addresses taken, or as they are ``given``; nothing of it is in the kernel yet."""
        if not network.driver.needs_pools:
            return Endpoint(network=network.name, network_id=network.id, endpoint_id=endpoint_id, link="")
        held = self._held.get(request.container_id, {}).get(network.id)
        v4, v6 = given[:2] if given else self._addresses(network, wish, held, undo)
        bridged = network.driver.rules(network.spec) is not None
        return Endpoint(
            network=network.name,
            network_id=network.id,
            endpoint_id=endpoint_id,
            mac_address=(given[2] if given else "") or mac_address(wish, v4.address),
            address=v4.address,
            prefix_length=v4.prefix_length,
            gateway=v4.gateway,
            address_v6=v6.address,
            prefix_length_v6=v6.prefix_length,
            gateway_v6=v6.gateway,
            link_local=wish.link_local,
            link=_link_name(network, wish, others),
            host_link=f"veth{endpoint_id[:7]}" if bridged else "",
            mtu=network.driver.mtu(network.spec),
            names=_names(request, wish) if network.resolves_names and self._resolving else [],
            priority=wish.priority,
        )

    def _connect(
        self,
        request: AttachRequest,
        endpoint: Endpoint,
        namespace: str,
        inside: Socket,
        undo: ExitStack,
        *,
        hairpin: bool,
    ) -> None:
        """Do the millisecond's work for one endpoint; every step leaves its reverse in ``undo``."""
        if not endpoint.link:
            return
        network = self._live[endpoint.network_id]
        try:
            undo.callback(endpoints.disconnect, self._host.route, endpoint)
            ns_fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                network.driver.connect(
                    self._host.route,
                    network.spec,
                    endpoint,
                    ns_fd=ns_fd,
                    alias=f"{self._alias}:{ids.short(request.container_id)}",
                    hairpin=hairpin and network.publishes,
                )
            finally:
                os.close(ns_fd)
            endpoints.configure(inside, endpoint)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise SystemFailure(
                f"failed to create endpoint {request.name} on network {network.name}: {reason}"
            ) from exc

    def _addresses(
        self, network: LiveNetwork, wish: EndpointRequest, held: Endpoint | None, undo: ExitStack
    ) -> tuple[Chosen, Chosen]:
        if held is not None:
            return (
                Chosen(held.address, held.prefix_length, held.gateway),
                Chosen(held.address_v6, held.prefix_length_v6, held.gateway_v6),
            )
        chosen = []
        for version, text in ((4, wish.address), (6, wish.address_v6)):
            one = network.allocate(version, text)
            undo.callback(network.release, one.address)
            chosen.append(one)
        return chosen[0], chosen[1]

    def _free(self, container_id: str, sandbox: Sandbox) -> None:
        """Free ports, rules, flows and addresses of a sandbox; goes on where the kernel has lost something already."""
        self._host.unpublish(sandbox.ports)
        self._host.give_back(sandbox.ports)
        for endpoint in sandbox.endpoints:
            # Until the namespace is gone its interface would answer for an address that may be somebody else's.
            if endpoint.host_link:
                endpoints.disconnect(self._host.route, endpoint)
            self._free_endpoint(container_id, endpoint, flows=bool(sandbox.ports))

    def _free_endpoint(self, container_id: str, endpoint: Endpoint, *, flows: bool) -> None:
        if endpoint.names:
            self._names.withdraw(endpoint.endpoint_id)
        addresses = [text for text in (endpoint.address, endpoint.address_v6) if text]
        if flows and self._host.flows is not None:
            endpoints.forget_flows(self._host.flows, addresses)
        network = self._live.get(endpoint.network_id)
        if network is not None and endpoint.network_id not in self._held.get(container_id, {}):
            network.release(*addresses)

    # -- routes and ports --------------------------------------------------------------------------------------------

    def _claims(self, request: AttachRequest, networks: Sequence[LiveNetwork]) -> list[Claim]:
        if not any(network.publishes for network in networks):
            return []
        return publish.claims(
            request.port_bindings,
            request.exposed_ports,
            publish_all=request.publish_all,
            default_ip=self._default_ip(networks),
        )

    def _default_ip(self, networks: Sequence[LiveNetwork]) -> str:
        publishing = [network for network in networks if network.publishes]
        return options.host_binding(publishing[0].spec.options if publishing else {}, self._options.ip)

    def _targets(self, chosen: Gateways) -> tuple[str, str]:
        """Return at which IPv4 and IPv6 address of a container its ports are published; "": not at all."""
        v4 = chosen.v4.address if chosen.v4 and self._live[chosen.v4.network_id].publishes else ""
        v6 = chosen.v6.address_v6 if chosen.v6 and self._live[chosen.v6.network_id].publishes else ""
        return v4, v6

    def _icc(self, endpoint: Endpoint) -> bool:
        network = self._live[endpoint.network_id]
        rules = network.driver.rules(network.spec)
        return rules is None or rules.icc

    def _take_ports(self, name: str, claims: Sequence[Claim], chosen: Gateways, undo: ExitStack) -> list[PublishedPort]:
        """Take the ports of claims for a container with these ways out."""
        ports: list[PublishedPort] = []
        direct = self._is_direct(chosen)
        try:
            for claim in claims:
                targets = claim.targets(*self._targets(chosen), crossing=self._options.userland_proxy)
                if not targets and ":" in claim.host_ip and chosen.v4 is not None:
                    raise InvalidInput(f"cannot publish on {claim.host_ip}: the container has no IPv6 address")
                ports += [open_port(claim, own) for _, own in targets if direct[":" in own]]
                targets = [(host_ip, own) for host_ip, own in targets if not direct[":" in own]]
                if not targets:
                    continue
                for port in self._host.ports.take(claim, targets):
                    undo.callback(self._host.ports.give_back, port)
                    ports.append(port)
        except PortTaken as exc:
            raise SystemFailure(_connectivity_failure(name, chosen.v4 or chosen.v6, exc)) from exc
        return ports

    def _is_direct(self, chosen: Gateways) -> tuple[bool, bool]:
        """Tell of IPv4 and IPv6 whether ports are open at the container's own address (gateway mode "routed")."""
        found = []
        for endpoint, index in ((chosen.v4, 0), (chosen.v6, 1)):
            network = self._live[endpoint.network_id] if endpoint is not None else None
            rules = network.driver.rules(network.spec) if network is not None else None
            found.append(rules is not None and (rules.mode, rules.mode_v6)[index] == ROUTED)
        return found[0], found[1]

    def _publish(self, name: str, ports: Sequence[PublishedPort], undo: ExitStack) -> None:
        try:
            undo.callback(self._host.unpublish, ports)
            self._host.publish(ports)
        except OSError as exc:
            raise SystemFailure(f"failed to publish ports of {name}: {exc.strerror}") from exc

    def _rewire(
        self, before: Sandbox, after: Sandbox, inside: Socket, claims: Sequence[Claim], undo: ExitStack
    ) -> Sandbox:
        """Lead routes and published ports to where they belong after a change of endpoints."""
        old, new = gateways.choose(before.endpoints), gateways.choose(after.endpoints)
        undo.callback(_route, inside, new, old, before.name)
        _route(inside, old, new, before.name)
        was, now = self._targets(old), self._targets(new)
        if was == now:
            return after
        moved: list[PublishedPort] = []
        ended: list[PublishedPort] = []
        for port in before.ports:
            address = now[":" in port.container_ip]
            if address:
                moved.append(msgspec.structs.replace(port, container_ip=address))
            else:
                ended.append(port)
        self._host.unpublish(before.ports)
        undo.callback(self._host.publish, before.ports)
        self._publish(before.name, moved, undo)
        self._host.give_back(ended)
        if self._host.flows is not None:
            endpoints.forget_datagrams(self._host.flows, before.ports)
        added = self._take_ports(before.name, claims, new, undo) if not before.ports else []
        self._publish(before.name, added, undo)
        return msgspec.structs.replace(after, ports=[*moved, *added])

    def _replace_attached(self, old: Sandbox, new: Sandbox) -> bool:
        """Show ``new`` in place of ``old``; return False when the container has ended."""
        for container_id, attached in self._attached.items():
            if attached.id == old.id:
                self._attached[container_id] = new
                return True
        return False

    # -- names -------------------------------------------------------------------------------------------------------

    def _resolver(self, sandbox: Sandbox) -> Resolver:
        in_use = [endpoint for endpoint in sandbox.endpoints if endpoint.names]
        outward = any(endpoint.gateway or endpoint.gateway_v6 for endpoint in sandbox.endpoints)
        return Resolver(
            sandbox_id=sandbox.id,
            key=sandbox.key,
            network_ids=[endpoint.network_id for endpoint in in_use],
            links=sandbox.resolving.links,
            upstreams=names.upstreams(sandbox.resolving.dns or self._dns.dns, name_servers(self._dns.host())),
            forward=outward,
            single_labels=sandbox.resolving.single_labels,
        )

    def _publish_names(self, found: Sequence[Endpoint]) -> None:
        for endpoint in found:
            if endpoint.names:
                self._names.publish(endpoint_names(endpoint))

    def _remove_in_background(self, path: str) -> None:
        """Remove the namespace of a failed attach; a failure is left to the next start's sweep."""
        asyncio.get_running_loop().run_in_executor(None, _try_remove, path)


@contextlib.contextmanager
def _joining(networks: Sequence[LiveNetwork]) -> Iterator[None]:
    """Keep networks from being removed while a container joins them."""
    for network in networks:
        network.joining += 1
    try:
        yield
    finally:
        for network in networks:
            network.joining -= 1


def endpoint_names(endpoint: Endpoint) -> EndpointNames:
    """Return what the nameserver is told of an endpoint that has names."""
    return EndpointNames(
        endpoint_id=endpoint.endpoint_id,
        network_id=endpoint.network_id,
        network=endpoint.network,
        name=endpoint.names[0],
        aliases=endpoint.names[1:],
        addresses=[text for text in (endpoint.address, endpoint.address_v6) if text],
    )


def open_port(claim: Claim, address: str) -> PublishedPort:
    """Return a port that is open at the container's own address, and nowhere on the host."""
    return PublishedPort(
        protocol=claim.protocol, host_ip="", host_port=0, container_ip=address, container_port=claim.container_port
    )


def _names(request: AttachRequest, wish: EndpointRequest) -> list[str]:
    """Return a container's names in a network that resolves them: its own, then those wished for, id and host name."""
    found = [request.name, *wish.names, ids.short(request.container_id), request.hostname]
    return [name for name in dict.fromkeys(found) if name]


def _link_name(network: LiveNetwork, wish: EndpointRequest, others: Sequence[Endpoint]) -> str:
    """Return the name of the interface in the container: the one wished for, else the first free of eth0, eth1..."""
    taken = {endpoint.link for endpoint in others}
    name = wish.options.get(options.INTERFACE_NAME, "")
    if name:
        if name in taken or len(name) > _LINK_BYTES or "/" in name or any(letter.isspace() for letter in name):
            raise InvalidInput(f"invalid interface name: {name}")
        return name
    prefix = network.spec.options.get(options.INTERFACE_PREFIX) or "eth"
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def _route(inside: Socket, before: Gateways, after: Gateways, name: str) -> None:
    try:
        endpoints.route(inside, before, after)
    except OSError as exc:
        reason = "the gateway is not reachable" if exc.errno == errno.ENETUNREACH else exc.strerror
        raise SystemFailure(f"failed to set the default route of {name}: {reason}") from exc


def _try_remove(path: str) -> None:
    with contextlib.suppress(OSError):
        namespaces.remove(path)


def _connectivity_failure(name: str, endpoint: Endpoint | None, taken: PortTaken) -> str:
    """Return Docker's sentence for a port that is not to be had."""
    head = f"driver failed programming external connectivity on endpoint {name}"
    if endpoint is not None:
        head += f" ({endpoint.endpoint_id})"
    claim = taken.claim
    if taken.error == 0 or endpoint is None:
        return f"{head}: {taken}"
    address = f"[{endpoint.address_v6}]" if ":" in claim.host_ip else endpoint.address
    host = f"[{claim.host_ip}]" if ":" in claim.host_ip else claim.host_ip
    target = f"{host}:{taken.port}:{address}:{claim.container_port}/{claim.protocol}"
    return f"{head}: failed to bind host port for {target}: {os.strerror(taken.error).lower()}"
