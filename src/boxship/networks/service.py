"""The networks of one boxshipd: what the engine attaches containers to, and what the API shows."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from boxship.base import clock, failpoints, ids
from boxship.base.errors import BoxshipError, Forbidden, InvalidInput, NotFound, SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks import bridge, catalog, definition, inquiry
from boxship.networks.addressing import pools
from boxship.networks.catalog import Filters, Network
from boxship.networks.drivers import Driver
from boxship.networks.drivers.bare import BareDriver
from boxship.networks.drivers.bridge import BridgeDriver, turn_on_forwarding_v6
from boxship.networks.drivers.macvlan import IpvlanDriver, MacvlanDriver
from boxship.networks.drivers.remote import RemoteDriver
from boxship.networks.explain import Facts
from boxship.networks.files import DNSDefaults
from boxship.networks.filtering.rules import IPV6
from boxship.networks.live import LiveNetwork
from boxship.networks.models import NamespaceFactory, PublishedPort, Sandbox, UserNamespace
from boxship.networks.names import NameTable
from boxship.networks.namespaces import NamespacePool
from boxship.networks.options import NetworkOptions
from boxship.networks.plugged import PluggedNetworks
from boxship.networks.publishing.relay import Relay
from boxship.networks.sandboxes import Emit, Sandboxes, endpoint_names
from boxship.networks.setup import SetUp
from boxship.spec.docker.network import NetworkCreate, NetworkCreated, NetworkInspect
from boxship.store import NameTaken, Store

_INSTANCE = re.compile(r"[A-Za-z0-9_]+")
_RESTORE_PAUSE = (
    0.2  # seconds between two repairs of the firewall, so that a quarrel with another program stays bounded
)

_log = logging.getLogger(__name__)


def _tell_nobody(type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
    """The events of a service whose user listens to none."""


class NetworkService(Sandboxes):
    """Networks from their creation to their removal.

    Between :meth:`start` and :meth:`close` it owns the bridges, the firewall's tables, the sockets that keep published
    ports, and the namespaces' files below the exec root. All but the sockets stay when the process dies.
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
        dns: DNSDefaults | None = None,
        names: NameTable | None = None,
        relay: Relay | None = None,
        plugged: PluggedNetworks | None = None,
    ) -> None:
        """``instance`` tells our interfaces and rules from those of another boxshipd on this host: letters, digits, _.

        With ``identity`` most containers have user namespaces with these ids, and namespaces for them are kept ready.
        """
        if not _INSTANCE.fullmatch(instance):
            raise InvalidInput(f"invalid instance name: {instance}")
        self._store = store
        self._directory = f"{exec_root}/netns"
        self._instance = instance
        alias = bridge.owner_alias(instance)
        super().__init__(
            factory=namespaces,
            pool=NamespacePool(
                namespaces, self._directory, owner=UserNamespace(identity=identity) if identity else None
            ),
            options=options,
            alias=alias,
            dns=dns or DNSDefaults(),
            name_table=names,
            emit=emit,
            relay=relay,
            plugged=plugged,
        )
        self._making: dict[str, Network] = {}  # those that plugins are busy with, by id
        self._now_ns = now_ns
        self._bridges = BridgeDriver(options, alias)
        bare = BareDriver()
        self._drivers: dict[str, Driver] = {
            "bridge": self._bridges,
            "host": bare,
            "null": bare,
            "macvlan": MacvlanDriver(alias),
            "ipvlan": IpvlanDriver(alias),
        }
        self._creating = asyncio.Lock()  # names and subnets are chosen by one at a time
        self._disturbed = False
        self._restoring: asyncio.Task[None] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, sandboxes: Mapping[str, Sandbox]) -> None:
        """Make the networks ready and take over the sandboxes of running containers (by container id).

        What nobody claims is removed: namespaces, veth pairs, bridges and published ports of earlier runs. What the claimed
        ones miss is put in place: bridges, their ports, firewall, sockets. Raises InvalidInput for options that don't fit
        the host, SystemFailure when the host refuses.
        """
        await self._store.write(lambda tx: catalog.create_built_in(tx, self._now_ns()))
        with self._store.read() as tx:
            known = sorted(catalog.load(tx), key=lambda network: (network.created_ns, network.name))
        self._attached = dict(sandboxes)
        if self._options.bridge == "none":
            known = [network for network in known if network.name != "bridge"]
        drivers = {network.driver: self._driver_named(network.driver) for network in known}
        set_up = SetUp(
            self._host,
            drivers,
            self._bridges,
            options=self._options,
            instance=self._instance,
            alias=self._alias,
            directory=self._directory,
            servers=self._dns.host,
        )
        try:
            self._live = {
                live.id: live for live in await asyncio.to_thread(set_up.run, known, list(sandboxes.values()))
            }
        except OSError as exc:
            raise SystemFailure(f"failed to start the default network: {exc.strerror}") from exc
        if self._host.firewall is not None:
            asyncio.get_running_loop().add_reader(self._host.firewall.fileno(), self._firewall_changed)
        for container_id, sandbox in sandboxes.items():
            missing = [e for e in sandbox.endpoints if e.host_link and e.host_link not in set_up.links]
            if missing or ids.short(container_id) in set_up.swept:
                await self._repair(container_id, sandbox, missing)
        resolving = [sandbox for sandbox in sandboxes.values() if sandbox.resolves]
        await self._names.start(
            [self._resolver(sandbox) for sandbox in resolving],
            [endpoint_names(endpoint) for sandbox in resolving for endpoint in sandbox.endpoints if endpoint.names],
        )
        relayed = self._host.relayed(port for sandbox in sandboxes.values() for port in sandbox.ports)
        await self._host.relay.start(relayed, self._host.ports.socket_of)
        if self._plugged is not None:
            self._plugged.adopt(list(self._live.values()), sandboxes.values())
        self._pool.fill()

    async def close(self) -> None:
        """Let go of everything; when no container uses the networks any more, remove bridges and firewall."""
        if self._plugged is not None:
            await self._plugged.stop()
        await self._names.close(stop=not self._attached)
        await self._host.relay.stop(stop=not self._attached)
        await self._pool.close()
        if self._host.firewall is not None:
            asyncio.get_running_loop().remove_reader(self._host.firewall.fileno())
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        await asyncio.to_thread(self._tear_down)

    def _tear_down(self) -> None:
        try:
            if not self._attached and self._live:
                if self._host.firewall is not None:
                    with contextlib.suppress(OSError):
                        self._host.firewall.remove()
                if self._host.guard is not None:
                    with contextlib.suppress(OSError):
                        self._host.guard.end(self._host.route)
                with contextlib.suppress(OSError):
                    self._remove_bridges()
                for live in self._live.values():
                    if live.name != "bridge" or not self._options.bridge:
                        with contextlib.suppress(OSError):
                            live.driver.remove(self._host.route, live.spec)
        finally:
            self._host.close()

    def _remove_bridges(self) -> None:
        """Remove all bridges of ours at once; there may be thousands."""
        sock = self._host.route
        links = rtnetlink.list_links(sock)
        ours = [link for link in links if link.alias == self._alias or link.alias.startswith(f"{self._alias}:")]
        chosen = self._options.bridge  # the administrator's
        rtnetlink.delete_links(sock, [link.index for link in ours if link.kind == "bridge" and link.name != chosen])

    # -- what the API asks -------------------------------------------------------------------------------------------

    async def create(self, request: NetworkCreate) -> NetworkCreated:
        """Make a network; a failure leaves nothing of it.

        Raises what :func:`definition.define` and the driver raise, NotFound for a driver that there is not, SystemFailure
        when no subnet is left or the host refuses.
        """
        async with self._creating:
            others = [*(live.spec for live in self._live.values()), *self._making.values()]
            network = definition.define(request, others, id=ids.new_id(), created_ns=self._now_ns())
            driver = self._driver(network)
            driver.check(network)
            if network.ipam_driver == "null" and not network.config_only and not isinstance(driver, RemoteDriver):
                raise InvalidInput("ipv4 pool is empty")
            plugged: PluggedNetworks | None = None
            if not network.config_only and (network.ipam_driver != "default" or isinstance(driver, RemoteDriver)):
                plugged = self._plugged
                if plugged is None or not driver.needs_pools:
                    raise NotFound(f'plugin "{network.ipam_driver}" not found')
            if driver.needs_pools and not network.config_only and network.ipam_driver == "default":
                network = await asyncio.to_thread(
                    pools.complete,
                    network,
                    self._options.pools,
                    several=driver.several_pools,
                    others=[pool for other in others for pool in other.pools],
                    servers=self._dns.host(),
                    seed=self._instance,
                )
            if plugged is not None:
                self._making[network.id] = network
            else:
                await asyncio.shield(asyncio.create_task(self._make(LiveNetwork(network, driver))))
        if plugged is not None:
            await self._make_plugged(network, driver, plugged)
        self._emit("network", "create", network.id, {"name": network.name, "type": network.driver})
        return NetworkCreated(id=network.id)

    async def _make_plugged(self, network: Network, driver: Driver, plugged: PluggedNetworks) -> None:
        """Make a network with plugins, which may take their time: others are made meanwhile."""
        try:
            try:
                prepared = await plugged.prepare(network, driver)
                if not isinstance(driver, RemoteDriver):
                    definition.check_pools(prepared, [live.spec for live in self._live.values()])
            except BaseException:
                await plugged.give_back(network.id)
                raise
            await asyncio.shield(asyncio.create_task(self._make(LiveNetwork(prepared, driver))))
        finally:
            self._making.pop(network.id, None)

    async def _make(self, live: LiveNetwork) -> None:
        """Make a network on the host and then in the store: a crash between leaves what the next start sweeps."""
        network = live.spec
        try:
            await asyncio.to_thread(_with_socket, live.driver.make, network)
            if self._plugged is not None:
                await self._plugged.create(live)
            if network.ipv6 and self._options.ip_forward:
                await self._forward_ipv6()
            rules = live.driver.rules(network)
            if rules is not None:
                self._host.admit(rules)
            failpoints.hit("network.made")
            await self._store.write(lambda tx: catalog.insert(tx, network))
        except (OSError, NameTaken, BoxshipError) as exc:
            await self._unmake(live)
            if isinstance(exc, NameTaken):
                raise definition.NetworkNameTaken(network.name) from exc
            if isinstance(exc, OSError):
                raise SystemFailure(f"failed to create network {network.name}: {exc.strerror}") from exc
            raise
        self._live[network.id] = live

    async def _forward_ipv6(self) -> None:
        """Let the host forward IPv6; what others send through it is dropped if it did not before."""
        firewall = self._host.firewall
        if await asyncio.to_thread(turn_on_forwarding_v6) and firewall is not None:
            firewall.forward_drop.add(IPV6)
            firewall.apply()

    async def _unmake(self, live: LiveNetwork) -> None:
        """Remove what a network has on the host; what the kernel keeps, the next start sweeps."""
        rules = live.driver.rules(live.spec)
        if rules is not None:
            self._host.forget(rules)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_with_socket, live.driver.remove, live.spec)
        if self._plugged is not None:
            await self._plugged.give_back(live.id)

    async def list(self, filters: Filters) -> list[NetworkInspect]:
        """Return the networks that pass the filters, without their containers."""
        used = {endpoint.network_id for sandbox in self._attached.values() for endpoint in sandbox.endpoints}
        return [
            catalog.document(live.spec, {})
            for live in self._live.values()
            if catalog.matches(live.spec, filters, used=live.id in used)
        ]

    async def inspect(self, ref: str) -> NetworkInspect:
        """Return one network with its containers; raises NotFound."""
        live = self._find(ref)
        found = catalog.document(live.spec, self._attached)
        collisions = await inquiry.collisions([live], self._alias)
        return msgspec.structs.replace(found, warnings=inquiry.warnings(collisions)) if collisions else found

    async def facts(self) -> Facts:
        """Return what explanations go by."""
        return await inquiry.facts(list(self._live.values()), self._host, self._alias)

    def drivers(self) -> builtins.list[str]:
        """Return the names of the drivers that there are, with those of plugins that networks have."""
        return sorted({*self._drivers, *(live.spec.driver for live in self._live.values())})

    async def warnings(self) -> builtins.list[str]:
        """Return what is wrong with the networks as ``docker info`` shows it."""
        return inquiry.warnings(await inquiry.collisions(list(self._live.values()), self._alias))

    def publishers(self, number: int, protocol: str) -> builtins.list[tuple[str, Sandbox, PublishedPort]]:
        """Return container ids and sandboxes that publish a port of the host, of any protocol if it is empty."""
        return [
            (container_id, sandbox, port)
            for container_id, sandbox in self._attached.items()
            for port in sandbox.ports
            if port.host_port == number and protocol in ("", port.protocol)
        ]

    async def remove(self, ref: str) -> None:
        """Remove a network that no running container is in; raises Forbidden or NotFound."""
        live = self._find(ref)
        if live.spec.built_in:
            raise Forbidden(f"{live.name} is a pre-defined network and cannot be removed")
        users = [
            f'name:"{sandbox.name.removeprefix("/")}" id:"{endpoint.endpoint_id[:12]}"'
            for sandbox in self._attached.values()
            for endpoint in sandbox.endpoints
            if endpoint.network_id == live.id
        ]
        if users or live.joining:
            named = f" ({', '.join(users)})" if users else ""
            raise Forbidden(f"error while removing network: network {live.name} has active endpoints{named}")
        if live.spec.config_only:
            dependants = [other.name for other in self._live.values() if other.spec.config_from == live.name]
            if dependants:
                raise Forbidden(
                    f'configuration network "{live.name}" is in use by network(s): {", ".join(sorted(dependants))}'
                )
        del self._live[live.id]  # from here on nobody joins it
        await asyncio.shield(asyncio.create_task(self._remove(live)))
        self._emit("network", "destroy", live.id, {"name": live.name, "type": live.spec.driver})

    async def _remove(self, live: LiveNetwork) -> None:
        try:
            await self._store.write(lambda tx: catalog.delete(tx, live.spec))
        except BaseException:
            self._live[live.id] = live
            raise
        failpoints.hit("network.forgotten")
        await self._unmake(live)

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove the networks of users that no running container is in. Raises InvalidInput for wrong filters."""
        catalog.check_prune(filters, self._now_ns())
        deleted: builtins.list[str] = []
        for live in list(self._live.values()):
            if not catalog.prunable(live.spec, filters, self._now_ns()) or live.id not in self._live:
                continue
            with contextlib.suppress(Forbidden):
                await self.remove(live.id)
                deleted.append(live.name)
        self._emit("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": deleted}

    # -- what the engine tells ---------------------------------------------------------------------------------------

    def connected(self, ref: str, container_id: str) -> None:
        """Note that a container that starts is in the network of this id or name, "host" too."""
        self._tell("connect", ref, container_id)

    def disconnected(self, ref: str, container_id: str) -> None:
        """Note that a container left a network, since it ended."""
        self._tell("disconnect", ref, container_id)

    def find(self, ref: str) -> Network:
        """Return what is kept of a network; raises NotFound or Conflict."""
        return self._find(ref).spec

    def name_of(self, ref: str) -> str:
        """Return the name of the network of a reference, the reference itself where there is none."""
        try:
            return self._find(ref).name
        except BoxshipError:
            return ref

    # -- parts of the above ------------------------------------------------------------------------------------------

    def _tell(self, action: str, ref: str, container_id: str) -> None:
        for network in (live.spec for live in self._live.values()):
            if ref in (network.id, network.name):
                attributes = {"container": container_id, "name": network.name, "type": network.driver}
                self._emit("network", action, network.id, attributes)

    def _find(self, ref: str) -> LiveNetwork:
        return self._live[catalog.find((live.spec for live in self._live.values()), ref).id]

    def _driver(self, network: Network) -> Driver:
        if network.driver == "overlay":
            raise Forbidden(
                'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
                "to swarm and try again."
            )
        if network.driver == "host" or (network.driver == "null" and not network.config_only):
            raise Forbidden(f'only one instance of "{network.driver}" network is allowed')
        if network.driver not in self._drivers and self._plugged is None:
            raise NotFound(f'plugin "{network.driver}" not found')
        return self._driver_named(network.driver)

    def _driver_named(self, name: str) -> Driver:
        """Return a driver; all that are not built in are plugins, of which nobody knows yet whether they are there."""
        driver = self._drivers.get(name)
        if driver is None:
            return self._plugged.driver(name) if self._plugged is not None else BareDriver()
        return driver

    # -- rules that others have changed ------------------------------------------------------------------------------

    def _firewall_changed(self) -> None:
        if self._host.firewall is None or not self._host.firewall.disturbed():
            return
        self._disturbed = True
        if self._restoring is None:
            self._restoring = asyncio.create_task(self._restore_firewall(), name="firewall repair")

    async def _restore_firewall(self) -> None:
        try:
            while self._disturbed and self._host.firewall is not None:
                self._disturbed = False
                self._host.firewall.apply()
                _log.warning("the firewall table of %s was changed by another program and is restored", self._instance)
                await asyncio.sleep(_RESTORE_PAUSE)
        except OSError as exc:
            _log.error("the firewall table of %s can't be restored: %s", self._instance, exc.strerror)
        finally:
            self._restoring = None


def _with_socket(change: Callable[[Socket, Network], None], network: Network) -> None:
    """Carry out a driver's change with a socket of its own: the service's is the event loop's."""
    with Socket.open() as sock:
        change(sock, network)
