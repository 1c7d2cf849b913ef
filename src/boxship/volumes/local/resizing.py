"""Another size for a volume, at once, also while containers run with it. Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxship.base.errors import InvalidInput
from boxship.linux import mount, mountinfo
from boxship.volumes.local import bounds, mounting
from boxship.volumes.local import options as driver_options


def resize(data: str, options: Mapping[str, str]) -> None:
    """Let the data directory hold what the ``size`` of ``options`` says.

    Raises InvalidInput for a size that is too small or cannot be bounded, OSError.
    """
    size = driver_options.size(options)
    wanted = driver_options.mount_options(options)
    if wanted is None:
        if size < (used := bounds.used(data)):
            raise InvalidInput(f"the volume holds {used} bytes, more than {options['size']}")
        bounds.set_quota(data, size)
    elif wanted.image:
        file = os.path.join(os.path.dirname(data), bounds.IMAGE)
        found = [each for each in mountinfo.read() if each.mount_point == os.path.realpath(data)]
        if not found:
            bounds.grow_image(file, size)
            return
        mounted = found[-1]
        bounds.grow_mounted_image(file, data, mounted.source, size)
    elif mounting.is_mounted(data):
        mount.mount(None, data, None, wanted.flags | mount.MS_REMOUNT, wanted.data)
