"""Carries out changes to a container: all of one request, or nothing.

Order, and what a daemon that dies there leaves::

    check, claim volumes, publish ports       the rows rule: the next start publishes what they say, releases the claims
    [rows: specification, unfinished change]  the change is made
    limits, mounts, restart                   the next start carries the unfinished change out
    [row: nothing unfinished]

A failure on the way undoes all of it, last step first. A container that ends meanwhile has its change at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from boxship.base import failpoints
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound, SystemFailure
from boxship.engine import causes
from boxship.engine.container import Container
from boxship.engine.files import ContainerFiles
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import ContainerSpec, ResolvedMount, State, UnfinishedChange
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import devices, limits, mounts, oci, request
from boxship.engine.processes.shims import ShimGone
from boxship.engine.reconfigure import plan
from boxship.engine.reconfigure.resources import apply_update
from boxship.engine.rows import ContainerRows
from boxship.engine.settings import EngineSettings
from boxship.engine.start import StartComposer
from boxship.engine.volume_claims import VolumeClaims, fill, mounted
from boxship.images import ImageService
from boxship.networks import NetworkService
from boxship.snapshots import Snapshotter
from boxship.spec.boxship.changes import LATER, RESTART, ChangesMade, ContainerChanges
from boxship.spec.docker.container import HostConfig
from boxship.volumes import VolumeService

log = logging.getLogger(__name__)

Emit = Callable[[Container, str, dict[str, str]], None]


class MountsRefused(SystemFailure):
    """The running container could not be given its mounts."""


class Reconfigurer:
    """Changes containers, running or not."""

    def __init__(
        self,
        settings: EngineSettings,
        sysinfo: SysInfo,
        *,
        rows: ContainerRows,
        lifecycle: Lifecycle,
        networks: NetworkService,
        volumes: VolumeService,
        images: ImageService,
        snapshotter: Snapshotter,
        composer: StartComposer,
        files: ContainerFiles,
        emit: Emit,
    ) -> None:
        self._settings = settings
        self._sysinfo = sysinfo
        self._rows = rows
        self._lifecycle = lifecycle
        self._networks = networks
        self._volumes = volumes
        self._images = images
        self._snapshotter = snapshotter
        self._composer = composer
        self._files = files
        self._emit = emit
        self._tasks: set[asyncio.Task[Any]] = set()

    async def update(self, container: Container, resources: dict[str, Any]) -> list[str]:
        """Change limits and the restart policy, now and for later starts; return warnings."""
        return (await self.change(container, ContainerChanges(resources=resources))).warnings

    async def change(self, container: Container, changes: ContainerChanges) -> ChangesMade:
        """Carry out ``changes``; a caller that is cancelled leaves them to be finished."""
        plan.check(changes)
        task = asyncio.get_running_loop().create_task(self._change(container, changes, causes.asked("update")))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def resume(self, containers: Iterable[Container]) -> None:
        """Carry out what a former daemon left unfinished; once, before the API listens."""
        for container in containers:
            unfinished = container.status.change
            if unfinished is None:
                continue
            log.info("finishing the change of container %s", container.id)
            try:
                if container.status.alive and not unfinished.restart:
                    async with container.lock:
                        await self._apply_limits(container, container.spec.host_config)
                        await self._mount(container, unfinished.mount, unfinished.unmount, again=True)
                elif container.status.alive:
                    async with container.lock:
                        await self._restart(container, causes.own("update"), None)
                elif unfinished.restart and container.status.state is State.EXITED:
                    self._lifecycle.start_later(container)
            except BoxshipError as exc:
                log.warning("the change of container %s waits for its next start: %s", container.id, exc)
            await self._finished(container)

    # -- one change --------------------------------------------------------------------------------------------------

    async def _change(self, container: Container, changes: ContainerChanges, asked: causes.Request) -> ChangesMade:
        async with container.lock:
            if container.status.state in (State.REMOVING, State.DEAD):
                raise Conflict(
                    f'Cannot update container {container.id}: Container is marked for removal and cannot be "update".'
                )
            old, sandbox = container.spec, container.status.sandbox
            gone = plan.removed_mounts(old, changes)
            ports = plan.ports(old, changes, sandbox.ports if sandbox else [], self._networks.host_address)
            host, warnings = self._host_config(container, changes)
            host = plan.host_config(host, changes, ports.bindings, {mount.target for mount in gone})
            config = plan.config(old, changes, ports.bindings, self._image_ports(old))
            request.check(config, host, self._settings, self._sysinfo)
            warnings += _check_ports(host, changes)
            made = ChangesMade(warnings=warnings)
            if container.status.alive and config.env != old.config.env:
                made = _for_environment(container, changes, made)
            async with AsyncExitStack() as undo:
                added = await self._claim(container, changes, gone, undo)
                kept = [mount for mount in old.mounts if mount not in gone]
                spec = msgspec.structs.replace(old, config=config, host_config=host, mounts=[*kept, *added])
                undo.push_async_callback(self._write_back, container, old)
                if made.restarted:
                    await self._by_restart(container, old, spec, changes, asked, undo)
                elif container.status.alive:
                    self._change_ports(container, changes, ports, undo)
                    unfinished = UnfinishedChange(
                        limits=bool(changes.resources), mount=added, unmount=[mount.target for mount in gone]
                    )
                    made = await self._live(container, spec, unfinished, changes, made, asked, undo)
                else:
                    failpoints.hit("change.before-row")
                    await self._write(container, spec)
                undo.pop_all()
            failpoints.hit("change.done")
            await self._finished(container)
            await self._release(container, gone)
            await asyncio.to_thread(self._files.save, container.spec, container.status)
        self._lifecycle.limits_changed(container)
        self._emit(container, "update", {})
        return made

    async def _live(
        self,
        container: Container,
        spec: ContainerSpec,
        unfinished: UnfinishedChange,
        changes: ContainerChanges,
        made: ChangesMade,
        asked: causes.Request,
        undo: AsyncExitStack,
    ) -> ChangesMade:
        """Give a running container what can be given without a restart."""
        old = container.spec
        self._lifecycle.set_status(container, change=unfinished)
        failpoints.hit("change.before-row")
        await self._write(container, spec)
        failpoints.hit("change.after-row")
        if unfinished.limits:
            undo.push_async_callback(self._apply_limits, container, old.host_config)
            await self._apply_limits(container, spec.host_config)
        if not unfinished.mount and not unfinished.unmount:
            return made
        try:
            await self._mount(container, unfinished.mount, unfinished.unmount, again=False)
        except MountsRefused as exc:
            if changes.apply == LATER:
                return msgspec.structs.replace(made, later=[*made.later, "mounts"])
            if changes.apply == RESTART:
                await self._by_restart(container, old, spec, changes, asked, undo)
                return msgspec.structs.replace(made, restarted=True)
            raise Conflict(f"Cannot update container {container.id}: {exc}: use --apply restart, or later") from exc
        return made

    async def _by_restart(
        self,
        container: Container,
        old: ContainerSpec,
        spec: ContainerSpec,
        changes: ContainerChanges,
        asked: causes.Request,
        undo: AsyncExitStack,
    ) -> None:
        """Write the new specification and restart; when it does not start, the old one shall run again."""

        async def start_again() -> None:
            await self._write_back(container, old)
            if not container.status.alive:
                try:
                    await self._lifecycle.start_locked(container, asked)
                except BoxshipError as exc:
                    log.warning("container %s does not start with its former settings: %s", container.id, exc)

        self._lifecycle.set_status(container, change=UnfinishedChange(restart=True))
        failpoints.hit("change.before-row")
        await self._write(container, spec)
        failpoints.hit("change.after-row")
        undo.push_async_callback(start_again)
        await self._restart(container, asked, changes.timeout)

    async def _restart(self, container: Container, asked: causes.Request, timeout: int | None) -> None:
        """Restart with the same address and, as that follows from it, the same MAC address."""
        self._networks.hold_address(container.id)
        try:
            await self._lifecycle.restart_locked(
                container, asked, timeout=timeout, signal=None, stopped=lambda: failpoints.hit("change.stopped")
            )
        finally:
            self._networks.let_address_go(container.id)

    # -- its parts ---------------------------------------------------------------------------------------------------

    def _host_config(self, container: Container, changes: ContainerChanges) -> tuple[HostConfig, list[str]]:
        """Return the host configuration with new limits and restart policy."""
        if not changes.resources:
            return container.spec.host_config, []
        try:
            host = apply_update(container.spec.host_config, changes.resources)
        except Conflict as exc:
            raise Conflict(f"Cannot update container {container.id}: {exc}") from exc
        request.check(container.spec.config, host, self._settings, self._sysinfo)
        return limits.fit(host, self._sysinfo)

    def _image_ports(self, spec: ContainerSpec) -> set[str]:
        try:
            return set(self._images.get(spec.image_id).config.exposed_ports or {})
        except NotFound:
            return set(spec.config.exposed_ports or {})

    async def _claim(
        self, container: Container, changes: ContainerChanges, gone: Sequence[ResolvedMount], undo: AsyncExitStack
    ) -> list[ResolvedMount]:
        """Resolve the new mounts; their volumes are the container's then."""
        if not changes.add_mounts and not changes.add_binds:
            return []
        old = container.spec
        used = {mount.name for mount in old.mounts if mount.type == "volume"}
        claims = VolumeClaims(self._volumes, container.id, held=used)
        undo.push_async_callback(claims.undo)
        wanted = HostConfig(
            binds=changes.add_binds, mounts=changes.add_mounts, volume_driver=old.host_config.volume_driver
        )
        added = claims.with_drivers(await mounts.resolve(wanted, {}, [], claims))
        taken = {mount.target for mount in old.mounts if mount not in gone}
        for mount in added:
            if mount.target in taken:
                raise InvalidInput(f"Duplicate mount point: {mount.target}")
        await mounts.check_sources(added)
        await mounts.make_sources(added, self._settings.owner)
        parent = await asyncio.to_thread(self._snapshotter.parent, container.id)
        if parent is not None:
            await fill(self._volumes, self._snapshotter, parent, added)
        if not container.status.alive:
            return added
        for name in {mount.name for mount in added if mount.type == "volume"} - used:
            undo.callback(self._volumes.unmounted, name, container.id)
        return await mounted(self._volumes, container.id, added)

    def _change_ports(
        self, container: Container, changes: ContainerChanges, ports: plan.Ports, undo: AsyncExitStack
    ) -> None:
        sandbox = container.status.sandbox
        if sandbox is None or not (ports.ended or changes.add_ports):
            return
        change = self._networks.change_ports(sandbox, changes.add_ports, ports.ended)
        self._lifecycle.set_status(container, sandbox=change.sandbox)

        def put_back() -> None:
            change.undo()
            if container.status.sandbox is change.sandbox:
                self._lifecycle.set_status(container, sandbox=change.before)

        undo.callback(put_back)

    async def _apply_limits(self, container: Container, host: HostConfig) -> None:
        if not container.status.alive:
            return
        try:
            resources = oci.resources(host, await asyncio.to_thread(devices.numbers, host))
            await asyncio.to_thread(self._composer.cgroup(container).apply, resources)
        except OSError as exc:
            raise SystemFailure(f"Cannot update container {container.id}: {exc}") from exc

    async def _mount(
        self, container: Container, add: Sequence[ResolvedMount], remove: Sequence[str], *, again: bool
    ) -> None:
        """Change the mounts of a running container. Raises MountsRefused; one that ends meanwhile needs nothing."""
        if container.shim is None or not (add or remove):
            return
        fields = {"add": [oci.user_mount(mount) for mount in add], "remove": list(remove), "again": again}
        try:
            answer = await container.shim.ask("mounts", fields)
        except ShimGone:
            return
        if not answer.get("ok") and container.status.alive:
            raise MountsRefused(str(answer.get("error")))

    async def _write(self, container: Container, spec: ContainerSpec) -> None:
        """Make ``spec`` the container's specification, in the store and here."""
        await self._rows.save_both(spec, container.status)
        container.spec = spec

    async def _write_back(self, container: Container, spec: ContainerSpec) -> None:
        """Undo :meth:`_write`."""
        self._lifecycle.set_status(container, change=None)
        await self._write(container, spec)

    async def _finished(self, container: Container) -> None:
        if container.status.change is not None:
            self._lifecycle.set_status(container, change=None)
            await self._lifecycle.save(container)

    async def _release(self, container: Container, gone: Sequence[ResolvedMount]) -> None:
        """Let go of volumes that no mount names any more; their content stays."""
        used = {mount.name for mount in container.spec.mounts if mount.type == "volume"}
        for mount in gone:
            if mount.type == "volume" and mount.name not in used:
                if container.status.alive:
                    self._volumes.unmounted(mount.name, container.id)
                await self._volumes.unuse(mount.name, container.id)


def _check_ports(host: HostConfig, changes: ContainerChanges) -> list[str]:
    """Return warnings. Raises InvalidInput for a container without a network of its own."""
    if changes.add_ports and host.network_mode.startswith("container:"):
        raise InvalidInput("conflicting options: port publishing and the container type network mode")
    if changes.add_ports and host.network_mode == "host":
        return ["Published ports are discarded when using host network mode"]
    return []


def _for_environment(container: Container, changes: ContainerChanges, made: ChangesMade) -> ChangesMade:
    """Decide how a running container gets another environment: only as its user says."""
    match changes.apply:
        case "restart":
            return msgspec.structs.replace(made, restarted=True)
        case "later":
            return msgspec.structs.replace(made, later=["environment"])
    raise Conflict(
        f"Cannot update container {container.id}: the environment of a running container changes by a restart: "
        "use --apply restart, or --apply later for its next start"
    )
