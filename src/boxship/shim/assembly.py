"""A stopped container's files with its mounts in place, for kernels that attach nothing to a tree which is itself unattached.

Before Linux 6.15 a mount takes others only inside a mount namespace. So a process of its own makes one, in which nobody else
lives, and puts the parts together there. Whoever holds a descriptor of the root can then walk the whole, as long as the
process lives: until the other end of ``keep`` is closed, by its owner or by its owner's death.
"""

from __future__ import annotations

import os
import socket

from boxship.linux import mount, namespaces
from boxship.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def assemble(root_fd: int, tree_fds: list[int], targets: list[dict[str, Any]]) -> None:
    """Attach each unattached tree at its target (``path``, ``directory``) below ``root_fd``, in order.

    The process is in a mount namespace of its own afterwards. Raises OSError.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _attach(root_fd, here)
    os.close(here)
    for tree_fd, target in zip(tree_fds, targets, strict=True):
        target_fd = places.find_or_make(root_fd, target["path"], directory=target["directory"])
        _attach(tree_fd, target_fd)
        os.close(target_fd)


def _attach(tree_fd: int, target_fd: int) -> None:
    # What the host unmounts disappears here too, and nothing goes the other way: not even through a part attached
    # before, which is a copy of a mount that the host may share.
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
    mount.move_mount(tree_fd, target_fd)


def keep_until_closed(keep: socket.socket) -> None:
    """Return when the other end of ``keep`` is closed."""
    while keep.recv(1):
        pass
