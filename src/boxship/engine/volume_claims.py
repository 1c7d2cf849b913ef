"""The volumes that a create or a change of a container names, made or claimed, and given back when it fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence

import msgspec

from boxship.base.errors import BoxshipError, NotFound
from boxship.engine.model import ResolvedMount
from boxship.snapshots import Snapshotter
from boxship.spec.docker.volume import VolumeCreate
from boxship.volumes import VolumeService, copyup
from boxship.volumes.rows import ANONYMOUS_LABEL, LOCAL


class VolumeClaims:
    """Implements ``engine.mounts.VolumeSource`` for one container; ``fresh`` holds the names that did not exist before."""

    def __init__(self, volumes: VolumeService, container_id: str, held: Collection[str] = ()) -> None:
        """``held`` are the names that the container uses already."""
        self._volumes = volumes
        self._container_id = container_id
        self._held = held
        self._claimed: list[str] = []
        self._drivers: dict[str, str] = {}
        self.fresh: set[str] = set()

    async def ensure(
        self,
        name: str,
        *,
        driver: str,
        labels: Mapping[str, str] = {},
        options: Mapping[str, str] = {},
        anonymous: bool = False,
    ) -> str:
        """Return the host directory of the volume, which this container now uses."""
        try:
            await self._volumes.inspect(name)
        except NotFound:
            self.fresh.add(name)
        marked = {**labels, ANONYMOUS_LABEL: ""} if anonymous else dict(labels)
        volume = await self._volumes.create(
            VolumeCreate(name=name, driver=driver, driver_opts=dict(options) or None, labels=marked)
        )
        await self._volumes.use(volume.name, self._container_id)
        self._drivers[volume.name] = volume.driver
        if volume.name not in self._held:
            self._claimed.append(volume.name)
        return volume.mountpoint

    def with_drivers(self, mounts: Sequence[ResolvedMount]) -> list[ResolvedMount]:
        """Return the mounts with the drivers that their volumes have, which a request need not name."""
        return [
            msgspec.structs.replace(mount, driver=self._drivers[mount.name]) if mount.name in self._drivers else mount
            for mount in mounts
        ]

    async def undo(self) -> None:
        """Give everything back; a volume that was made for this container goes, unless a plugin may have had it before."""
        for name in self._claimed:
            with contextlib.suppress(BoxshipError):
                await self._volumes.unuse(name, self._container_id)
                if name in self.fresh and self._drivers[name] == LOCAL:
                    await self._volumes.remove(name, force=True)


async def fill(
    volumes: VolumeService,
    snapshotter: Snapshotter,
    parent: str,
    mounts: Sequence[ResolvedMount],
) -> None:
    """Fill those volumes of ``mounts`` that are empty with what the snapshot ``parent`` holds there."""
    wanted = [m for m in mounts if m.type == "volume" and "nocopy" not in (*m.mode.split(","), *m.options)]
    plugged = [mount for mount in wanted if mount.driver not in ("", LOCAL)]
    if plugged:  # a plugin is not asked for what nothing is copied to
        useful = await asyncio.to_thread(_with_content, snapshotter, parent, plugged)
        wanted = [mount for mount in wanted if mount not in plugged or mount in useful]
    if wanted:
        async with volumes.reached({mount.name for mount in wanted if mount in plugged}):
            await asyncio.to_thread(_fill, volumes, snapshotter, parent, wanted)


def _with_content(snapshotter: Snapshotter, parent: str, mounts: Sequence[ResolvedMount]) -> Sequence[ResolvedMount]:
    with snapshotter.view(parent) as root_fd:
        return [mount for mount in mounts if copyup.has_directory(root_fd, mount.target)]


def _fill(volumes: VolumeService, snapshotter: Snapshotter, parent: str, mounts: Sequence[ResolvedMount]) -> None:
    wanted = [mount for mount in mounts if volumes.may_be_empty(mount.name)]
    if wanted:
        with snapshotter.view(parent) as root_fd:
            for mount in wanted:
                volumes.copy_up(mount.name, root_fd, mount.target)


async def mounted(volumes: VolumeService, container_id: str, mounts: Sequence[ResolvedMount]) -> list[ResolvedMount]:
    """Mount the volumes of a container that starts; return its mounts with the directories where they are now."""
    places = {
        name: await volumes.mount(name, container_id)
        for name in dict.fromkeys(mount.name for mount in mounts if mount.type == "volume")
    }
    return [
        msgspec.structs.replace(mount, source=places[mount.name]) if mount.type == "volume" else mount
        for mount in mounts
    ]
