"""Snapshots as subvolumes of Btrfs (driver ``btrfs``): whole trees that share what they have in common.

``<root>/subvolumes/<id>`` is the complete tree of a snapshot, as with ``vfs``; it begins as a snapshot of its parent's
subvolume, which takes neither time nor space.
"""

import errno
import os
import secrets
from contextlib import suppress

from boxship.linux import btrfs
from boxship.snapshots import tree
from boxship.snapshots.vfs import VfsSnapshotter

_OTHER = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)  # not Btrfs


class BtrfsSnapshotter(VfsSnapshotter):
    """Snapshots that the file system makes; see ``snapshotter.Snapshotter`` for what the methods promise."""

    name = "btrfs"
    directory = "subvolumes"
    copies = False  # the kernel commits a snapshot before it is told to be there

    def _fill(self, path: str, parent: str | None) -> None:
        name = os.path.basename(path)
        with tree.opened(tree.open_root(self.root)) as root_fd:
            os.rmdir(name, dir_fd=root_fd)  # the plain directory that every driver begins with
            if parent is None:
                btrfs.create_subvolume(root_fd, name)
            else:
                with tree.opened(tree.open_root(self.content_path(self._record(parent)))) as source_fd:
                    btrfs.create_snapshot(root_fd, name, source_fd)
        if parent is None:
            super()._fill(path, None)

    def _discard(self, path: str) -> None:
        # In one step where that is possible; what is left of it, or what is busy, goes file by file.
        with tree.opened(tree.open_root(self.root)) as root_fd, suppress(OSError):
            btrfs.destroy(root_fd, os.path.basename(path))
        super()._discard(path)


def is_supported(directory: str) -> bool:
    """Return whether subvolumes can be made in the directory."""
    name = f"check-btrfs-{secrets.token_hex(4)}"
    with tree.opened(tree.open_root(directory)) as fd:
        try:
            btrfs.create_subvolume(fd, name)
        except OSError as exc:
            if exc.errno in _OTHER:
                return False
            raise
        btrfs.destroy(fd, name)
        return True
