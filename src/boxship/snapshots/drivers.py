"""Storage drivers by name, and which one to take when none is asked for."""

import os
import tempfile

from boxship.base.errors import SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.snapshots import detached
from boxship.snapshots.btrfs import BtrfsSnapshotter, is_supported
from boxship.snapshots.overlay import OverlaySnapshotter
from boxship.snapshots.snapshotter import Snapshotter
from boxship.snapshots.vfs import VfsSnapshotter
from boxship.store import Store


def open_snapshotter(
    data_root: str, store: Store, driver: str = "", identity: IdentityMapping | None = None
) -> Snapshotter:
    """Return the snapshotter ``driver``, whose directory in ``data_root`` has its name.

    Without a name: the one whose directory is there already, else ``overlay2`` if overlayfs works on the data root's
    filesystem, else ``vfs``. ``identity``: whose the files are on disk (see ``owners``). Raises SystemFailure for drivers that we or this host lack.
    """
    overlay_root, vfs_root = os.path.join(data_root, "overlay2"), os.path.join(data_root, "vfs")
    btrfs_root = os.path.join(data_root, "btrfs")
    if driver not in ("", "overlay2", "vfs", "btrfs"):
        raise SystemFailure(f"error initializing graphdriver: driver not supported: {driver}")
    if driver == "btrfs" or (not driver and os.path.isdir(btrfs_root) and not os.path.isdir(overlay_root)):
        if not is_supported(data_root):
            raise SystemFailure(
                "error initializing graphdriver: prerequisites for driver not satisfied (wrong filesystem?): btrfs"
            )
        return BtrfsSnapshotter(btrfs_root, store, identity)
    if driver == "vfs" or (not driver and os.path.isdir(vfs_root) and not os.path.isdir(overlay_root)):
        return VfsSnapshotter(vfs_root, store, identity)
    reason = overlay_problem(data_root)
    if not reason:
        return OverlaySnapshotter(overlay_root, store, identity)
    if driver == "overlay2" or os.path.isdir(overlay_root):
        raise SystemFailure(f"error initializing graphdriver: overlay2 is not supported over {data_root}: {reason}")
    return VfsSnapshotter(vfs_root, store, identity)


def overlay_problem(directory: str) -> str:
    """Return why overlayfs can't write below ``directory``, or "" if it can."""
    with tempfile.TemporaryDirectory(prefix="check-overlay-", dir=directory) as path:
        names = [os.path.join(path, name) for name in ("lower", "upper", "work", "merged")]
        for name in names:
            os.mkdir(name, 0o700)
        try:
            os.close(detached.overlay(names[:1], names[3], names[1], names[2]))
        except OSError as exc:
            return exc.strerror or str(exc)
        return ""
