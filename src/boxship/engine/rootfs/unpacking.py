"""Archives that arrive over the API, unpacked into a directory of the host that is no container's yet."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from boxship.base.errors import InvalidInput
from boxship.base.identity import IdentityMapping
from boxship.engine.rootfs.archive import prepare_owners
from boxship.images.transfers.feed import Feed
from boxship.snapshots import Decompressed, InvalidTar, TarReader, apply
from boxship.snapshots.tar_reader import Entry


class Unpacking:
    """One archive on its way; :meth:`into` blocks in a thread while :meth:`run` moves the bytes there."""

    def __init__(self, source: AsyncIterator[bytes], identity: IdentityMapping | None) -> None:
        self._feed = Feed(asyncio.get_running_loop())
        self._pump = asyncio.ensure_future(self._feed.pump(source))
        self._identity = identity

    def into(self, directory_fd: int) -> None:
        """Unpack the archive, compressed or not, into an empty directory; an entry for the root changes owner and mode of that.

        Raises InvalidInput, SystemFailure.
        """
        reader = TarReader(Decompressed(self._feed))
        owners = prepare_owners(None, self._identity)
        root: Entry | None = None

        def prepare(entry: Entry) -> None:
            nonlocal root
            if owners is not None:
                owners(entry)
            if apply.clean(entry.name) == "":
                root = entry

        try:
            apply.unpack(reader, directory_fd, prepare=prepare)
            reader.finish()
        except InvalidTar as exc:
            raise InvalidInput(f"Error processing tar file(exit status 1): {exc}") from exc
        if root is not None:
            os.fchown(directory_fd, root.uid, root.gid)
            os.fchmod(directory_fd, root.mode)

    async def end(self) -> None:
        """Take no more bytes: a thread that waits for them gets an error."""
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
