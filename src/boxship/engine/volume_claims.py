"""The volumes that one create request names, made or claimed, and given back when the create fails."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from boxship.base.errors import BoxshipError, NotFound
from boxship.spec.docker.volume import VolumeCreate
from boxship.volumes import VolumeService

ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # Docker's own mark, which prune looks for


class VolumeClaims:
    """Implements ``engine.mounts.VolumeSource`` for one container; ``fresh`` holds the names that did not exist before."""

    def __init__(self, volumes: VolumeService, container_id: str) -> None:
        self._volumes = volumes
        self._container_id = container_id
        self._claimed: list[str] = []
        self.fresh: set[str] = set()

    async def ensure(self, name: str, *, driver: str, labels: Mapping[str, str], anonymous: bool) -> str:
        """Return the host directory of the volume, which this container now uses."""
        try:
            await self._volumes.inspect(name)
        except NotFound:
            self.fresh.add(name)
        marked = {**labels, ANONYMOUS_LABEL: ""} if anonymous else dict(labels)
        volume = await self._volumes.create(VolumeCreate(name=name, driver=driver, labels=marked))
        await self._volumes.use(volume.name, self._container_id)
        self._claimed.append(volume.name)
        return volume.mountpoint

    async def undo(self) -> None:
        """Give everything back; a volume that was made for this container goes."""
        for name in self._claimed:
            with contextlib.suppress(BoxshipError):
                await self._volumes.unuse(name, self._container_id)
                if name in self.fresh:
                    await self._volumes.remove(name, force=True)
