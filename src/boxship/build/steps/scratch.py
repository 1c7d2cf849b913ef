"""Directories that live as long as a build: checkouts, what bind mounts show. A killed daemon's go at the next start."""

from __future__ import annotations

import os

from boxship.base.ids import new_id
from boxship.snapshots import tree
from boxship.store import Store

OWNER = "build"  # kind of the owner row


class Scratch:
    """The directory ``<data-root>/build`` and what is below it."""

    def __init__(self, root: str, store: Store) -> None:
        self.root = root
        self._places = os.path.join(root, "scratch")
        os.makedirs(self._places, 0o700, exist_ok=True)
        store.write_now(lambda t: t.own(root, OWNER, ""))

    def clear(self) -> None:
        """Remove what a killed daemon left; once, at the start. Raises OSError."""
        with tree.opened(tree.open_root(self._places)) as fd:
            tree.clear(fd)

    def place(self) -> str:
        """Return the path of a directory that may be made with mode 0700, and is removed with :meth:`remove`."""
        return os.path.join(self._places, new_id())

    def remove(self, path: str) -> None:
        """Remove the directory at a :meth:`place`, if there is one. Blocks. Raises OSError."""
        with tree.opened(tree.open_root(self._places)) as fd:
            tree.remove(fd, os.path.basename(path))

    def space(self) -> str:
        """Return the directory in which unnamed files take their space."""
        return self._places
