"""Files that exist in memory only while a step runs.

They lie in a ramfs, which has no blocks on any disk and is never swapped, mounted below the state root and closed to all but
root; the mount of a killed daemon goes at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from boxship.base.errors import SystemFailure
from boxship.base.ids import new_id
from boxship.base.whole import in_thread
from boxship.linux import mount

_FLAGS = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC


class SecretFiles:
    """Makes one file at a time; ``root`` is a directory below the state root."""

    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(root, 0o700, exist_ok=True)

    def clear(self) -> None:
        """Remove what a killed daemon left; once, at the start."""
        for name in os.listdir(self._root):
            self._remove(os.path.join(self._root, name))

    @contextlib.asynccontextmanager
    async def file(self, value: bytes, *, mode: int, owner: tuple[int, int]) -> AsyncIterator[str]:
        """Give the path of a file that holds ``value`` and is ``owner``'s (uid and gid on the host)."""
        place = os.path.join(self._root, new_id())
        try:
            yield await in_thread(lambda: self._make(place, value, mode, owner))
        finally:
            await asyncio.shield(asyncio.to_thread(self._remove, place))

    def _make(self, place: str, value: bytes, mode: int, owner: tuple[int, int]) -> str:
        try:
            os.mkdir(place, 0o700)
            mount.mount("ramfs", place, "ramfs", _FLAGS, "mode=700")
            path = os.path.join(place, "secret")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0) as file:
                rest = memoryview(value)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), mode)
        except OSError as exc:
            raise SystemFailure(f"can't keep a secret in memory: {exc.strerror}") from exc
        return path

    @staticmethod
    def _remove(place: str) -> None:
        with contextlib.suppress(OSError):  # it was not mounted yet
            mount.umount2(place, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(place)
