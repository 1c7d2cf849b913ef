"""Network namespaces of sandboxes: files that hold them, and a few ready ones, since making one takes a while.

A ready namespace already has the id and the file name of the sandbox that it will be (renaming a mount point is not
possible), so any file that no sandbox claims is a leftover.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from boxship.base import ids
from boxship.linux.mount import MNT_DETACH, UMOUNT_NOFOLLOW, umount2
from boxship.networks.models import USER_SUFFIX, NamespaceFactory, UserNamespace

READY = 3


class Namespace(NamedTuple):
    """A namespace with ``lo`` up; ``route_fd`` is a NETLINK_ROUTE socket inside, owned by who has this."""

    id: str
    path: str
    route_fd: int


class NamespacePool:
    """Makes namespaces below one directory and keeps ``size`` of them ready.

    Cancelling :meth:`take` may leave a namespace that the next sweep removes.
    """

    def __init__(
        self, factory: NamespaceFactory, directory: str, size: int = READY, *, owner: UserNamespace | None = None
    ) -> None:
        """``owner`` is the user namespace, a new one for each, of the ready ones."""
        self._factory = factory
        self._owner = owner
        self._directory = directory
        self._size = size
        self._ready: list[Namespace] = []
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    def fill(self) -> None:
        """Make the missing ready namespaces in the background."""
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill(), name="namespace pool")

    async def take(self, owner: UserNamespace | None = None) -> Namespace:
        """Return a namespace that belongs to ``owner``, a ready one if there is; raises what the factory raises."""
        if owner != self._owner:
            return await self._make(owner)
        namespace = self._ready.pop(0) if self._ready else await self._make(owner)
        self.fill()
        return namespace

    async def close(self) -> None:
        """Remove the ready namespaces and make no more."""
        self._closed = True
        if self._filling is not None:
            await self._filling  # a cancelled one could leave what it has just made
        for namespace in self._ready:
            os.close(namespace.route_fd)
            await asyncio.to_thread(remove, namespace.path)
        self._ready.clear()

    async def _fill(self) -> None:
        # A failure here shows again, with somebody to tell it to, when the next sandbox needs a namespace.
        with contextlib.suppress(Exception):
            while len(self._ready) < self._size and not self._closed:
                self._ready.append(await self._make(self._owner))

    async def _make(self, owner: UserNamespace | None) -> Namespace:
        id = ids.new_id()
        path = f"{self._directory}/{ids.short(id)}"
        return Namespace(id, path, await self._factory.create(path, owner))


def remove(path: str) -> None:
    """Let go of the namespace at ``path`` and of its owner beside it; none there is no error. Blocking; raises OSError.

    The kernel ends the namespace, and with it the veth pairs in it, when no process is left in it.
    """
    _let_go(path)
    _let_go(path + USER_SUFFIX)


def _let_go(path: str) -> None:
    while True:
        try:
            umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            break
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sweep(directory: str, keep: Collection[str]) -> None:
    """Make ``directory`` and remove every namespace in it whose path is not in ``keep``; blocking."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for path in Path(directory).iterdir():
        if str(path).removesuffix(USER_SUFFIX) not in keep:
            remove(str(path))
