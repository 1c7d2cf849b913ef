"""The volumes that a create or a change of a container names, made or claimed, and given back when it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from boxship.base.errors import BoxshipError, NotFound
from boxship.engine.model import ResolvedMount
from boxship.snapshots import Snapshotter
from boxship.spec.docker.volume import VolumeCreate
from boxship.volumes import VolumeService

ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # Docker's own mark, which prune looks for


class VolumeClaims:
    """Implements ``engine.mounts.VolumeSource`` for one container; ``fresh`` holds the names that did not exist before."""

    def __init__(self, volumes: VolumeService, container_id: str, held: Collection[str] = ()) -> None:
        """``held`` are the names that the container uses already."""
        self._volumes = volumes
        self._container_id = container_id
        self._held = held
        self._claimed: list[str] = []
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
        if volume.name not in self._held:
            self._claimed.append(volume.name)
        return volume.mountpoint

    async def undo(self) -> None:
        """Give everything back; a volume that was made for this container goes."""
        for name in self._claimed:
            with contextlib.suppress(BoxshipError):
                await self._volumes.unuse(name, self._container_id)
                if name in self.fresh:
                    await self._volumes.remove(name, force=True)


def fill(
    volumes: VolumeService,
    snapshotter: Snapshotter,
    parent: str,
    mounts: Sequence[ResolvedMount],
) -> None:
    """Fill those volumes of ``mounts`` that are empty with what the snapshot ``parent`` holds there; blocking."""
    wanted = [
        m
        for m in mounts
        if m.type == "volume" and "nocopy" not in (*m.mode.split(","), *m.options) and volumes.may_be_empty(m.name)
    ]
    if wanted:
        with snapshotter.view(parent) as root_fd:
            for mount in wanted:
                volumes.copy_up(mount.name, root_fd, mount.target)
