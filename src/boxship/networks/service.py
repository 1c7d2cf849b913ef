"""The networks of one boxshipd: what the engine attaches containers to, and what the API shows.

A container's network costs about a millisecond: one batch of requests on the host's netlink socket, one on the socket
inside its namespace, one nftables command. They run on the event loop, one container after the other, which is what
keeps the bookkeeping free of locks; what takes longer (making namespaces, tearing them down, start-up) does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import msgspec

from boxship.base import clock, ids
from boxship.base.errors import Forbidden, InvalidInput, SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.linux import rtnetlink
from boxship.linux.netlink import NETLINK_NETFILTER, Socket
from boxship.networks import bridge, catalog, endpoints, files, ipam, namespaces, publish, republish
from boxship.networks.bridge import Bridge
from boxship.networks.catalog import Filters, Network
from boxship.networks.firewall import BridgeRules, Firewall
from boxship.networks.models import AttachRequest, Endpoint, NamespaceFactory, PublishedPort, Sandbox, UserNamespace
from boxship.networks.namespaces import Namespace, NamespacePool
from boxship.networks.options import NetworkOptions
from boxship.networks.ports import PortTable, PortTaken, read_random_range, reserve
from boxship.networks.republish import PortChange
from boxship.spec.docker.container import PortBinding
from boxship.spec.docker.network import IPAMPool, NetworkInspect
from boxship.store import Store

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publish an event: object type, action, id, attributes."""

_INSTANCE = re.compile(r"[A-Za-z0-9_]+")
_RESTORE_PAUSE = (
    0.2  # seconds between two repairs of the firewall, so that a quarrel with another program stays bounded
)

_log = logging.getLogger(__name__)


def _tell_nobody(type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
    """The events of a service whose user listens to none."""


class NetworkService:
    """Bridge, host and none.

    Between :meth:`start` and :meth:`close` it owns the default bridge, the firewall's table, the sockets that keep
    published ports, and the namespaces' files below the exec root. All but the sockets stay when the process dies.
    """

    def __init__(
        self,
        *,
        store: Store,
        exec_root: str,
        instance: str,
        options: NetworkOptions,
        namespaces: NamespaceFactory,
        emit: Emit = _tell_nobody,
        identity: IdentityMapping | None = None,
        now_ns: Callable[[], int] = clock.now_ns,
        host_resolv_conf: Callable[[], str] = files.read_host_resolv_conf,
    ) -> None:
        """``instance`` tells our interfaces and rules from those of another boxshipd on this host: letters, digits, _.

        With ``identity`` most containers have user namespaces with these ids, and namespaces for them are kept ready.
        """
        if not _INSTANCE.fullmatch(instance):
            raise InvalidInput(f"invalid instance name: {instance}")
        self._store = store
        self._directory = f"{exec_root}/netns"
        self._instance = instance
        self._alias = bridge.owner_alias(instance)
        self._options = options
        self._emit = emit
        self._now_ns = now_ns
        self._host_resolv_conf = host_resolv_conf
        self._pool = NamespacePool(
            namespaces, self._directory, owner=UserNamespace(identity=identity) if identity else None
        )
        self._networks: list[Network] = []
        self._attached: dict[str, Sandbox] = {}  # by container id
        self._held: dict[str, IPv4Address] = {}  # by container id: kept for it while it has no sandbox
        self._host: Socket | None = None
        self._flows: Socket | None = None  # kept open: closing a netfilter socket takes 9 ms
        self._bridge: Bridge | None = None
        self._addresses: ipam.AddressSpace | None = None
        self._firewall: Firewall | None = None
        self._ports = PortTable(reserve, read_random_range())
        self._disturbed = False
        self._restoring: asyncio.Task[None] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, sandboxes: Mapping[str, Sandbox]) -> None:
        """Make the networks ready and take over the sandboxes of running containers (by container id).

        What nobody claims is removed: namespaces, veth pairs and published ports of earlier runs. What the claimed ones
        miss is put in place: bridge, its ports, firewall, sockets. Raises InvalidInput for options that don't fit the
        host, SystemFailure when the host refuses.
        """
        self._networks = await self._store.write(lambda tx: catalog.create_built_in(tx, self._now_ns()))
        self._attached = dict(sandboxes)
        try:
            await asyncio.to_thread(self._set_up)
        except OSError as exc:
            raise SystemFailure(f"failed to start the default network: {exc.strerror}") from exc
        if self._firewall is not None:
            asyncio.get_running_loop().add_reader(self._firewall.fileno(), self._firewall_changed)
        self._pool.fill()

    async def close(self) -> None:
        """Let go of everything; when no container uses the network any more, remove bridge and firewall."""
        await self._pool.close()
        if self._firewall is not None:
            asyncio.get_running_loop().remove_reader(self._firewall.fileno())
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        await asyncio.to_thread(self._tear_down)

    # -- what the engine asks ----------------------------------------------------------------------------------------

    async def attach(self, request: AttachRequest) -> Sandbox:
        """Give a container its namespace, endpoint and ports; a failure or cancellation leaves nothing of it.

        Raises NotFound (no such network), InvalidInput, SystemFailure (no address or port is left, the host refuses) in
        Docker's words.
        """
        network = self._find(request.network)
        if network.name == "host":
            raise InvalidInput("a container in the host's network has no sandbox")
        if network.name == "bridge":
            claims = publish.claims(
                request.port_bindings,
                request.exposed_ports,
                publish_all=request.publish_all,
                default_ip=self._options.ip,
            )
        namespace = await self._pool.take(request.user_namespace)
        with ExitStack() as undo:
            undo.callback(self._remove_in_background, namespace.path)
            with Socket.from_fd(namespace.route_fd) as inside:
                sandbox = Sandbox(id=namespace.id, key=namespace.path, name=request.name)
                if network.name == "bridge":
                    sandbox = self._attach_to_bridge(request, network, namespace, inside, claims, undo)
                else:
                    endpoint = Endpoint(network=network.name, network_id=network.id, endpoint_id=ids.new_id())
                    sandbox = msgspec.structs.replace(sandbox, endpoints=[endpoint])
            undo.pop_all()
        self._attached[request.container_id] = sandbox
        return sandbox

    async def release(self, sandbox: Sandbox) -> None:
        """Free all that a sandbox has; doing it twice is no error.

        Ports, address and rules are free at once; the veth pair goes with the namespace, in the kernel's own time.
        """
        for container_id, attached in list(self._attached.items()):
            if attached.id == sandbox.id:
                del self._attached[container_id]
                self._free(attached)
        await asyncio.to_thread(namespaces.remove, sandbox.key)

    def connected(self, ref: str, container_id: str) -> None:
        """Note that a container that starts is in the network of this id or name, "host" too."""
        self._tell("connect", ref, container_id)

    def disconnected(self, ref: str, container_id: str) -> None:
        """Note that a container left a network, since it ended."""
        self._tell("disconnect", ref, container_id)

    def change_ports(
        self,
        sandbox: Sandbox,
        bindings: Mapping[str, Sequence[PortBinding] | None],
        removed: Sequence[PublishedPort],
    ) -> PortChange:
        """End some ports of an attached container and publish others, at once; connections of the rest go on.

        On "none" nothing is published, as on attach. Raises what attach raises for its ports, with nothing changed.
        """
        endpoint = sandbox.endpoints[0]
        claims = (
            publish.claims(bindings, (), publish_all=False, default_ip=self._options.ip)
            if endpoint.network == "bridge"
            else []
        )
        try:
            if self._host is not None and claims:
                self._host.execute(
                    [rtnetlink.set_bridge_port(endpoint.host_link, hairpin=True, isolated=not self._options.icc)]
                )
            change = republish.change(
                sandbox,
                claims,
                removed,
                table=self._ports,
                firewall=self._firewall,
                attached=self._replace_attached,
            )
        except PortTaken as exc:
            raise SystemFailure(_connectivity_failure(sandbox.name, endpoint, exc)) from exc
        except OSError as exc:
            raise SystemFailure(f"failed to publish ports of {sandbox.name}: {exc.strerror}") from exc
        if self._flows is not None:
            endpoints.forget_datagrams(self._flows, {*change.added, *removed})
        return change

    def host_address(self, text: str) -> str:
        """Return where a binding without or with a host address is published; raises InvalidInput."""
        return publish.host_address(text, self._options.ip)

    def hold_address(self, container_id: str) -> None:
        """Keep the address of an attached container for its next attach, until :meth:`let_address_go`."""
        sandbox = self._attached.get(container_id)
        for endpoint in sandbox.endpoints if sandbox else ():
            if endpoint.address:
                self._held[container_id] = IPv4Address(endpoint.address)

    def let_address_go(self, container_id: str) -> None:
        """End :meth:`hold_address`; an address that nobody uses is free then."""
        address = self._held.pop(container_id, None)
        sandbox = self._attached.get(container_id)
        used = {endpoint.address for endpoint in sandbox.endpoints} if sandbox else set()
        if address is not None and self._addresses is not None and str(address) not in used:
            self._addresses.release(address)

    def rename(self, container_id: str, name: str) -> None:
        """Show a container under a new name."""
        if container_id in self._attached:
            self._attached[container_id] = msgspec.structs.replace(self._attached[container_id], name=name)

    # -- what the API asks -------------------------------------------------------------------------------------------

    async def list(self, filters: Filters) -> list[NetworkInspect]:
        """Return the networks that pass the filters, without their containers."""
        used = {endpoint.network_id for sandbox in self._attached.values() for endpoint in sandbox.endpoints}
        return [
            self._document(network, {})
            for network in self._visible()
            if catalog.matches(network, filters, used=network.id in used)
        ]

    async def inspect(self, ref: str) -> NetworkInspect:
        """Return one network with its containers; raises NotFound."""
        return self._document(self._find(ref), self._attached)

    async def remove(self, ref: str) -> None:
        """Refuse: the networks that there are can't be removed; raises Forbidden or NotFound."""
        raise Forbidden(f"{self._find(ref).name} is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove the networks that nobody uses: none, for the built-in ones stay. Raises InvalidInput for wrong filters."""
        catalog.check_prune(filters, self._now_ns())
        self._emit("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": []}

    # -- parts of the above ------------------------------------------------------------------------------------------

    def _tell(self, action: str, ref: str, container_id: str) -> None:
        for network in self._networks:
            if ref in (network.id, network.name):
                attributes = {"container": container_id, "name": network.name, "type": network.driver}
                self._emit("network", action, network.id, attributes)

    def _find(self, ref: str) -> Network:
        return catalog.find(self._visible(), ref)

    def _visible(self) -> Sequence[Network]:
        return [network for network in self._networks if network.name != "bridge" or self._options.bridge != "none"]

    def _document(self, network: Network, attached: Mapping[str, Sandbox]) -> NetworkInspect:
        if network.name != "bridge" or self._bridge is None:
            return catalog.document(network, attached, pools=[], options={})
        return catalog.document(
            network,
            attached,
            pools=[IPAMPool(subnet=str(self._bridge.subnet), gateway=str(self._bridge.gateway))],
            options={
                "com.docker.network.bridge.default_bridge": "true",
                "com.docker.network.bridge.enable_icc": _flag(self._options.icc),
                "com.docker.network.bridge.enable_ip_masquerade": _flag(self._options.ip_masq),
                "com.docker.network.bridge.host_binding_ipv4": self._options.ip,
                "com.docker.network.bridge.name": self._bridge.name,
                "com.docker.network.driver.mtu": str(self._options.mtu),
            },
        )

    def _attach_to_bridge(
        self,
        request: AttachRequest,
        network: Network,
        namespace: Namespace,
        inside: Socket,
        claims: Sequence[publish.Claim],
        undo: ExitStack,
    ) -> Sandbox:
        """Do the millisecond's work; every step leaves its reverse in ``undo``."""
        host, own, space = self._host, self._bridge, self._addresses
        if host is None or own is None or space is None:
            raise SystemFailure("the default network is not started")
        endpoint_id = ids.new_id()
        held = self._held.get(request.container_id)
        address = held or space.allocate()
        if held is None:
            undo.callback(space.release, address)
        mac = request.mac_address or ipam.mac_of(address)
        endpoint = Endpoint(
            network=network.name,
            network_id=network.id,
            endpoint_id=endpoint_id,
            mac_address=mac,
            address=str(address),
            prefix_length=own.subnet.prefixlen,
            gateway=str(own.gateway),
            host_link=f"veth{endpoint_id[:7]}",
            mtu=self._options.mtu,
        )
        try:
            ports = self._take_ports(claims, str(address), undo)
            undo.callback(endpoints.disconnect, host, endpoint.host_link)
            endpoints.connect(
                host,
                inside,
                own,
                endpoint,
                namespace=namespace.path,
                alias=f"{self._alias}:{ids.short(request.container_id)}",
                hairpin=bool(ports),
                isolated=not self._options.icc,
            )
            if self._firewall is not None and ports:
                undo.callback(self._firewall.unpublish, ports)
                self._firewall.publish(ports)
        except PortTaken as exc:
            raise SystemFailure(_connectivity_failure(request.name, endpoint, exc)) from exc
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise SystemFailure(f"failed to create endpoint {request.name} on network bridge: {reason}") from exc
        return Sandbox(id=namespace.id, key=namespace.path, name=request.name, endpoints=[endpoint], ports=[*ports])

    def _take_ports(self, claims: Sequence[publish.Claim], address: str, undo: ExitStack) -> Sequence[PublishedPort]:
        ports = []
        for claim in claims:
            port = self._ports.take(claim, address)
            undo.callback(self._ports.give_back, port)
            ports.append(port)
        return ports

    def _free(self, sandbox: Sandbox) -> None:
        """Free ports, rules, flows and address of a sandbox; goes on where the kernel has lost something already."""
        if self._firewall is not None and sandbox.ports:
            with contextlib.suppress(OSError):
                self._firewall.unpublish(sandbox.ports)
        for port in sandbox.ports:
            self._ports.give_back(port)
        for endpoint in sandbox.endpoints:
            if endpoint.address and self._host is not None and self._addresses is not None:
                # Until the namespace is gone its interface would answer for an address that may be somebody else's.
                endpoints.disconnect(self._host, endpoint.host_link)
                if sandbox.ports and self._flows is not None:
                    endpoints.forget_flows(self._flows, endpoint.address)
                if IPv4Address(endpoint.address) not in self._held.values():
                    self._addresses.release(IPv4Address(endpoint.address))

    def _replace_attached(self, old: Sandbox, new: Sandbox) -> bool:
        """Show ``new`` in place of ``old``; return False when the container has ended."""
        for container_id, attached in self._attached.items():
            if attached.id == old.id:
                self._attached[container_id] = new
                return True
        return False

    def _remove_in_background(self, path: str) -> None:
        """Remove the namespace of a failed attach; a failure is left to the next start's sweep."""
        asyncio.get_running_loop().run_in_executor(None, _try_remove, path)

    # -- start and end, in a thread ----------------------------------------------------------------------------------

    def _set_up(self) -> None:
        claimed = self._attached.values()
        namespaces.sweep(self._directory, {sandbox.key for sandbox in claimed})
        if self._options.bridge == "none":
            return
        known = [endpoint for sandbox in claimed for endpoint in sandbox.endpoints if endpoint.address]
        used = IPv4Interface(f"{known[0].gateway}/{known[0].prefix_length}") if known else None
        servers = files.name_servers(self._host_resolv_conf())
        self._host = host = Socket.open()
        self._flows = Socket.open(NETLINK_NETFILTER)
        self._bridge = own = bridge.ensure(host, self._options, self._alias, used=used, servers=servers)
        fixed = IPv4Network(self._options.fixed_cidr) if self._options.fixed_cidr else None
        self._addresses = ipam.AddressSpace("bridge", own.subnet, own.gateway, fixed)
        for endpoint in known:
            self._addresses.reserve(IPv4Address(endpoint.address))
        endpoints.adopt(host, own, {endpoint.host_link for endpoint in known}, f"{self._alias}:")
        ports = [port for sandbox in claimed for port in sandbox.ports]
        for port in ports:
            self._ports.adopt(port)
        turned_on = self._options.ip_forward and bridge.turn_on_forwarding()
        if self._options.iptables:
            self._set_up_firewall(own, ports, turned_on)

    def _set_up_firewall(self, own: Bridge, ports: Sequence[PublishedPort], forwarding_turned_on: bool) -> None:
        self._firewall = firewall = Firewall(f"boxship_{self._instance}")
        firewall.bridges = [BridgeRules(own.name, own.subnet, icc=self._options.icc, masquerade=self._options.ip_masq)]
        firewall.forward_drop = forwarding_turned_on or firewall.dropped_forwarding()
        firewall.restore_ports(ports)
        firewall.apply()
        bridge.allow_loopback_sources(own.name)  # after the rules that drop loopback addresses from elsewhere

    def _tear_down(self) -> None:
        unused = not self._attached
        if self._firewall is not None:
            if unused:
                with contextlib.suppress(OSError):
                    self._firewall.remove()
            self._firewall.close()
        if self._host is not None:
            if unused and self._bridge is not None and self._bridge.owned:
                rtnetlink.delete_links(self._host, [self._bridge.link])
            self._host.close()
        if self._flows is not None:
            self._flows.close()
        self._ports.close()

    # -- rules that others have changed ------------------------------------------------------------------------------

    def _firewall_changed(self) -> None:
        if self._firewall is None or not self._firewall.disturbed():
            return
        self._disturbed = True
        if self._restoring is None:
            self._restoring = asyncio.create_task(self._restore_firewall(), name="firewall repair")

    async def _restore_firewall(self) -> None:
        try:
            while self._disturbed and self._firewall is not None:
                self._disturbed = False
                self._firewall.apply()
                _log.warning("the firewall table of %s was changed by another program and is restored", self._instance)
                await asyncio.sleep(_RESTORE_PAUSE)
        except OSError as exc:
            _log.error("the firewall table of %s can't be restored: %s", self._instance, exc.strerror)
        finally:
            self._restoring = None


def _try_remove(path: str) -> None:
    with contextlib.suppress(OSError):
        namespaces.remove(path)


def _connectivity_failure(name: str, endpoint: Endpoint, taken: PortTaken) -> str:
    """Return Docker's sentence for a port that is not to be had."""
    head = f"driver failed programming external connectivity on endpoint {name} ({endpoint.endpoint_id})"
    claim = taken.claim
    if taken.error == 0:
        return f"{head}: {taken}"
    target = f"{claim.host_ip}:{taken.port}:{endpoint.address}:{claim.container_port}/{claim.protocol}"
    return f"{head}: failed to bind host port for {target}: {os.strerror(taken.error).lower()}"


def _flag(value: bool) -> str:
    return "true" if value else "false"
