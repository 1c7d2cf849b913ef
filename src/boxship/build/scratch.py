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

    def make(self) -> str:
        """Return the path of a new empty directory. Blocks."""
        path = os.path.join(self._places, new_id())
        os.mkdir(path, 0o700)
        return path

    def remove(self, path: str) -> None:
        """Remove a directory that :meth:`make` made. Blocks. Raises OSError."""
        with tree.opened(tree.open_root(self._places)) as fd:
            tree.remove(fd, os.path.basename(path))

    def space(self) -> str:
        """Return the directory in which unnamed files take their space."""
        return self._places
