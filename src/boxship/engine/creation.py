"""Create: from a request to a container that exists on disk and in the store, or to nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import msgspec

from boxship.base import clock, failpoints
from boxship.base.errors import InvalidInput, NotFound
from boxship.base.ids import new_id
from boxship.engine import links, networking
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.files import ContainerFiles
from boxship.engine.health import policy as health_policy
from boxship.engine.image_trees import ImageClaims
from boxship.engine.model import ContainerSpec, ContainerStatus, ResolvedMount, check_name
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import apparmor, limits, mounts, oci, request, selinux
from boxship.engine.rows import ContainerRows
from boxship.engine.settings import EngineSettings
from boxship.engine.volume_claims import VolumeClaims, fill
from boxship.images import Image, ImageService
from boxship.images import platform as platforms
from boxship.snapshots import Snapshotter
from boxship.spec.docker.container import CreateRequest, CreateResponse, HostConfig
from boxship.volumes import VolumeService

Emit = Callable[[Container, str, dict[str, str]], None]


class StepContainer(NamedTuple):
    """What a build's container has that no request can name."""

    image: Image  # need not be in the store; its layers are
    mounts: list[ResolvedMount]


class Creator:
    """Makes containers and adds them to the index."""

    def __init__(
        self,
        settings: EngineSettings,
        sysinfo: SysInfo,
        *,
        rows: ContainerRows,
        images: ImageService,
        snapshotter: Snapshotter,
        volumes: VolumeService,
        files: ContainerFiles,
        index: ContainerIndex,
        network_name: networking.NetworkName,
        emit: Emit,
    ) -> None:
        self._settings = settings
        self._sysinfo = sysinfo
        self._rows = rows
        self._images = images
        self._snapshotter = snapshotter
        self._volumes = volumes
        self._files = files
        self._index = index
        self._network_name = network_name
        self._emit = emit

    async def create(
        self,
        name: str | None,
        wanted: CreateRequest,
        platform: str | None = None,
        *,
        debugs: str = "",
        beneath: str = "",
        step: StepContainer | None = None,
    ) -> CreateResponse:
        """Create a container; a failure leaves nothing behind. ``debugs`` and ``beneath``: see ContainerSpec."""
        if not wanted.image:
            raise InvalidInput("no command specified")
        id = new_id()
        with self._index.reserved(check_name(name) if name else None, id) as reserved:
            return await self._create(id, reserved, wanted, platform, debugs, beneath, step)

    async def _create(
        self,
        id: str,
        name: str,
        wanted: CreateRequest,
        platform: str | None,
        debugs: str,
        beneath: str,
        step: StepContainer | None,
    ) -> CreateResponse:
        user_config, host = request.split_request(wanted)
        host = request.check(user_config, host, self._settings, self._sysinfo)
        health_policy.check(user_config.healthcheck)
        host, warnings = limits.fit(host, self._sysinfo)
        oci.capabilities(host)
        host = links.canonical(host, name, self._index)
        endpoints = networking.endpoints(host, wanted.networking_config, self._network_name)
        if host.runtime not in self._settings.runtimes:
            raise InvalidInput(f"unknown or invalid runtime name: {host.runtime}")
        image = step.image if step is not None else self._images.resolve(user_config.image, platform)
        warnings += check_platform(user_config.image, image, platform)
        config = request.merge_image(user_config, image.config)
        path, args = request.command(config)
        network_peer = host.network_mode.removeprefix("container:")
        if network_peer != host.network_mode:
            if user_config.hostname:
                raise InvalidInput("conflicting options: hostname and the network mode")
            if host.port_bindings or host.publish_all_ports:
                raise InvalidInput("conflicting options: port publishing and the container type network mode")
            # As with a network that does not exist, a peer that does not is the start's error.
            with contextlib.suppress(NotFound):
                host = msgspec.structs.replace(host, network_mode=f"container:{self._index.find(network_peer).id}")
        if not config.hostname and network_peer == host.network_mode and host.network_mode != "host":
            config = msgspec.structs.replace(config, hostname=id[:12])
        elif not config.hostname and host.network_mode == "host":
            config = msgspec.structs.replace(config, hostname=socket.gethostname())

        async with AsyncExitStack() as undo:
            parent = await asyncio.to_thread(self._snapshotter.prepare_init, image.chain_id or None)
            undo.push_async_callback(asyncio.to_thread, remove_snapshot, self._snapshotter, id)
            await asyncio.to_thread(
                self._snapshotter.prepare, id, parent, size=request.storage_size(host) or self._settings.storage_size
            )
            sources = VolumeClaims(self._volumes, id)
            undo.push_async_callback(sources.undo)
            inherited = self._inherited(host.volumes_from or [])
            trees = ImageClaims(self._images, self._snapshotter, id)
            undo.push_async_callback(trees.undo)
            resolved = await mounts.resolve(host, config.volumes or {}, inherited, sources, trees)
            resolved += step.mounts if step is not None else []
            await mounts.check_sources(resolved)
            resolved = sources.with_drivers(resolved)
            await fill(self._volumes, self._snapshotter, parent, resolved)
            labels = await asyncio.to_thread(self._labels, host)
            spec = ContainerSpec(
                id=id,
                name=name,
                created_ns=clock.now_ns(),
                image_id=image.id,
                config=config,
                host_config=host,
                endpoints=endpoints,
                endpoints_complete=True,
                path=path,
                args=args,
                mounts=resolved,
                apparmor_profile=apparmor.profile(host, self._sysinfo),
                process_label=labels.process,
                mount_label=labels.mount,
                debugs=debugs,
                beneath=beneath,
                builds=step is not None,
            )
            container = Container(spec, ContainerStatus())
            failpoints.hit("create.before-row")
            await self._rows.insert(container)
            undo.push_async_callback(self._rows.delete, container)
            failpoints.hit("create.after-row")
            undo.push_async_callback(asyncio.to_thread, self._files.remove, id)
            await asyncio.to_thread(self._files.create, spec, container.status)
            undo.pop_all()
        self._index.add(container)
        self._emit(container, "create", {})
        failpoints.hit("create.done")
        return CreateResponse(id=id, warnings=[*warnings, *_warnings(host)])

    def _labels(self, host: HostConfig) -> selinux.Labels:
        if not (self._settings.selinux_enabled and self._sysinfo.selinux):
            return selinux.Labels()
        taken = {container.spec.mount_label.split(":", 3)[3] for container in self._index if container.spec.mount_label}
        return selinux.choose(host, taken)

    def _inherited(self, sources: list[str]) -> list[ResolvedMount]:
        result: list[ResolvedMount] = []
        for source in sources:
            ref, _, mode = source.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidInput(f"invalid mode: {mode}")
            try:
                donor = self._index.find(ref)
            except NotFound as exc:
                raise InvalidInput(str(exc)) from exc  # not found would make the client pull the image
            result.extend(
                msgspec.structs.replace(mount, read_only=mode == "ro" or mount.read_only, anonymous=False)
                for mount in donor.spec.mounts
                if mount.type in ("bind", "volume")
            )
        return result


def remove_snapshot(snapshotter: Snapshotter, id: str) -> None:
    """Remove a container's writable layer if it exists; blocking."""
    if snapshotter.exists(id):
        snapshotter.remove(id)


def check_platform(reference: str, image: Image, wanted: str | None) -> list[str]:
    """Return a warning when an image is for other machines and nobody asked for that.

    Raises NotFound when a platform was asked for that the image is not for, InvalidInput for another operating system.
    """
    if wanted:
        system, _, rest = wanted.lower().partition("/")
        architecture = rest.split("/")[0]
        if (system, architecture or image.architecture) != (image.os, image.architecture):
            raise NotFound(
                f"image with reference {reference} was found but does not provide the specified platform ({wanted})"
            )
    host = platforms.host()
    if image.os not in ("", host.os):
        raise InvalidInput(f'image operating system "{image.os}" cannot be used on this platform')
    if wanted or image.architecture in ("", host.architecture):
        return []
    return [
        f"The requested image's platform ({image.os}/{image.architecture}) does not match the detected host platform "
        f"({host.os}/{host.architecture}) and no specific platform was requested"
    ]


def _warnings(host: HostConfig) -> list[str]:
    warnings = []
    if host.port_bindings and host.network_mode == "host":
        warnings.append("Published ports are discarded when using host network mode")
    return warnings
