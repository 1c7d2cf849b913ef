"""Connecting containers to networks and taking them out, running or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from boxship.base import failpoints
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, SystemFailure
from boxship.engine import explaining, networking
from boxship.engine.container import Container
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import ContainerSpec, State
from boxship.engine.rows import ContainerRows
from boxship.engine.start import StartComposer
from boxship.networks import NetworkService, Sandbox
from boxship.spec.boxship.explanation import NetworkExplanation
from boxship.spec.docker.network import (
    EndpointSettings,
    NetworkConnect,
    NetworkCreate,
    NetworkCreated,
    NetworkDisconnect,
    NetworkInspect,
)

Filters = Mapping[str, Sequence[str]]


class ContainerNetworks:
    """The networks as the API asks of them: the network service's, and who of the containers is in which."""

    def __init__(
        self, networks: NetworkService, *, lifecycle: Lifecycle, rows: ContainerRows, composer: StartComposer
    ) -> None:
        self._networks = networks
        self._lifecycle = lifecycle
        self._rows = rows
        self._composer = composer

    async def list(self, filters: Filters) -> list[NetworkInspect]:
        """Return the networks that pass the filters, without their containers."""
        return await self._networks.list(filters)

    async def inspect(self, ref: str) -> NetworkInspect:
        """Return one network with its containers."""
        return await self._networks.inspect(ref)

    async def explain(self, target: str) -> NetworkExplanation:
        """Tell who reaches a port of the host or a container."""
        return await explaining.explain(self._networks, self._lifecycle.index, target)

    async def create(self, request: NetworkCreate) -> NetworkCreated:
        """Make a network."""
        return await self._networks.create(request)

    async def remove(self, ref: str) -> None:
        """Remove a network that no running container is in."""
        await self._networks.remove(ref)

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove the networks that no running container is in."""
        return await self._networks.prune(filters)

    async def connect(self, ref: str, request: NetworkConnect) -> None:
        """Put a container into a network, now if it runs, and at its starts.

        Raises InvalidInput, Forbidden (it is in it already), Conflict, and what attaching raises, with nothing changed.
        """
        container = self._lifecycle.index.find(request.container)
        network = self._networks.find(ref)
        settings = request.endpoint_config or EndpointSettings()
        networking.check(network.name, settings)
        for link in settings.links or []:
            networking.link_parts(link)
        async with container.lock:
            _check_state(container)
            _check_mode(container, network.name)
            spec = networking.with_endpoint(container.spec, network.name, settings)
            before = container.status.sandbox
            if not container.status.alive or before is None:
                await self._write(container, spec, before)
                return
            request_to_attach = networking.attach_request(spec, {network.name: settings})
            sandbox = await self._networks.connect(request_to_attach)
            try:
                failpoints.hit("connect.attached")
                await self._write(container, spec, sandbox)
            except BoxshipError:
                self._lifecycle.set_status(container, sandbox=await self._networks.disconnect(container.id, network.id))
                raise
            await asyncio.to_thread(self._composer.write_files, container, self._lifecycle.index)
        self._networks.connected(network.id, container.id)

    async def disconnect(self, ref: str, request: NetworkDisconnect) -> None:
        """Take a container out of a network, now and at its starts. Raises SystemFailure when it is not in it."""
        container = self._lifecycle.index.find(request.container)
        network = self._networks.find(ref)
        async with container.lock:
            _check_state(container)
            if network.name == "host":
                raise InvalidInput("container cannot be disconnected from host network or connected to host network")
            before = container.status.sandbox
            there = before is not None and any(e.network_id == network.id for e in before.endpoints)
            if not there and network.name not in networking.connections(container.spec):
                raise SystemFailure(f"container {container.id} is not connected to network {network.name}")
            spec = networking.with_endpoint(container.spec, network.name, None)
            if not container.status.alive or before is None or not there:
                await self._write(container, spec, before)
                return
            sandbox = await self._networks.disconnect(container.id, network.id)
            failpoints.hit("disconnect.detached")
            await self._write(container, spec, sandbox)
            await asyncio.to_thread(self._composer.write_files, container, self._lifecycle.index)
        self._networks.disconnected(network.id, container.id)

    async def _write(self, container: Container, spec: ContainerSpec, sandbox: Sandbox | None) -> None:
        """Keep the new specification and the sandbox as it is now."""
        status = msgspec.structs.replace(container.status, sandbox=sandbox)
        await self._rows.save_both(spec, status)
        container.spec = spec
        if container.status.alive:
            self._lifecycle.set_status(container, sandbox=sandbox)


def _check_state(container: Container) -> None:
    if container.status.state in (State.REMOVING, State.DEAD):
        raise Conflict(
            f"container {container.id} is marked for removal and cannot be connected or disconnected to the network"
        )


def _check_mode(container: Container, network: str) -> None:
    """Raise InvalidInput for a container that has no network of its own, in Docker's words."""
    mode = container.spec.host_config.network_mode
    names = networking.connections(container.spec)
    if mode.startswith("container:"):
        raise InvalidInput(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if network == "host" or "host" in names:
        raise InvalidInput("container cannot be disconnected from host network or connected to host network")
    if (network == "none" and names) or "none" in names:
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
