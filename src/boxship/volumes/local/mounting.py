"""Mounts on volumes' directories; blocking."""

from __future__ import annotations

import contextlib
import os

from boxship.base.errors import SystemFailure
from boxship.linux import mount, mountinfo
from boxship.volumes.local import addresses, bounds
from boxship.volumes.local.options import MountOptions


def attach(directory: str, options: MountOptions) -> None:
    """Mount what ``options`` say on ``directory``, unless something is mounted there. Raises OSError, SystemFailure."""
    if is_mounted(directory):
        return
    if options.image:
        bounds.mount_image(os.path.join(os.path.dirname(directory), bounds.IMAGE), directory)
        return
    try:
        options = addresses.resolved(options)
    except SystemFailure as exc:
        raise SystemFailure(f"error while mounting volume '{directory}': {exc}") from exc
    mount.mount(options.device, directory, options.type or None, options.flags, options.data or None)
    if options.flags & mount.MS_BIND and options.flags & ~(mount.MS_BIND | mount.MS_REC):
        try:
            mount.mount(None, directory, None, (options.flags & ~mount.MS_REC) | mount.MS_REMOUNT)
        except OSError:
            mount.umount2(directory, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
            raise


def is_mounted(directory: str) -> bool:
    """Tell whether a file system is mounted on ``directory``."""
    real = os.path.realpath(directory)
    return any(each.mount_point == real for each in mountinfo.read())


def detach(directory: str) -> None:
    """Unmount all that is mounted on ``directory`` or below it; raises OSError when something stays.

    What is removed or swept afterwards must not be what is mounted there: that is somebody else's data.
    """
    real = os.path.realpath(directory)
    found = [
        each.mount_point
        for each in mountinfo.read()
        if each.mount_point == real or each.mount_point.startswith(f"{real}/")
    ]
    for point in reversed(found):
        with contextlib.suppress(FileNotFoundError):
            mount.umount2(point, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
