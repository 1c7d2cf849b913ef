"""Images as mounts: a snapshot of the image for each place where a container has it, kept as long as the container.

The snapshot holds the image's layers, so that they stay even when the image's names are taken away by force. Its key
starts with the container's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Protocol

from boxship.base.errors import BoxshipError
from boxship.engine.model import ContainerSpec
from boxship.images import Image
from boxship.snapshots import Snapshotter

_MARK = ".image."


class Images(Protocol):
    """What this needs of the images."""

    def resolve(self, ref: str, platform: str | None = None) -> Image:
        """Return the image that a person means. Raises NoSuchImage."""


class ImageTree:
    """One image at one place: its id, the key of the snapshot, and the host directory where that is mounted."""

    def __init__(self, image_id: str, snapshot: str, path: str) -> None:
        self.image_id = image_id
        self.snapshot = snapshot
        self.path = path


class ImageClaims:
    """Implements ``engine.options.mounts.ImageSource`` for a container that is created."""

    def __init__(self, images: Images, snapshotter: Snapshotter, container_id: str) -> None:
        self._images = images
        self._snapshotter = snapshotter
        self._container_id = container_id
        self._made: list[str] = []

    async def ensure(self, reference: str, target: str) -> ImageTree:
        """Return the tree of the image, made for this container at ``target``. Raises NoSuchImage, SystemFailure."""
        image = self._images.resolve(reference)
        key = f"{self._container_id}{_MARK}{hashlib.sha256(target.encode()).hexdigest()[:16]}"
        self._made.append(key)
        path = await asyncio.to_thread(self._prepare, key, image)
        return ImageTree(image.id, key, path)

    def _prepare(self, key: str, image: Image) -> str:
        self._snapshotter.prepare(key, image.chain_id or None)
        return str(self._snapshotter.rootfs(key)["target"])

    async def undo(self) -> None:
        """Remove what was made."""
        for key in self._made:
            with contextlib.suppress(BoxshipError):
                await asyncio.to_thread(self._snapshotter.remove, key)


def keys(spec: ContainerSpec) -> list[str]:
    """Return the keys of a container's snapshots of images."""
    return [mount.snapshot for mount in spec.mounts if mount.type == "image"]


def owner_of(key: str) -> str:
    """Return the id of the container that a writable snapshot belongs to."""
    return key.partition(_MARK)[0]
