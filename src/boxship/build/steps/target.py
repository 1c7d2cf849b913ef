"""Where files are put: paths of a root filesystem that programs of the build made, resolved inside it."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from boxship.build.files import Kind, Tree
from boxship.build.files.node import LINKS


class Place(NamedTuple):
    """A path whose links were followed, as far as it exists; relative to the root."""

    path: str
    exists: bool
    is_directory: bool


class Target:
    """A root filesystem (None: an empty one) in which paths are looked up. ``links`` False takes them as they are written."""

    def __init__(self, tree: Tree | None, *, links: bool = True) -> None:
        self._tree = tree
        self._links = links
        self._known: dict[str, Place] = {}

    def locate(self, path: str) -> Place:
        """Return where ``path`` leads; what does not exist is taken as written. Raises OSError (ELOOP)."""
        place = self._known.get(path)
        if place is None:
            place = self._known[path] = self._locate(path)
        return place

    def missing(self, path: str) -> list[str]:
        """Return the directories of a resolved path that are not there, the upper ones first."""
        found: list[str] = []
        while path and self._kind(path) is not Kind.DIRECTORY:
            found.append(path)
            path = path.rpartition("/")[0]
        return found[::-1]

    def _locate(self, path: str) -> Place:
        pending = path.split("/")[::-1]
        done: list[str] = []
        kind: Kind | None = Kind.DIRECTORY
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                kind = self._kind("/".join(done))
                continue
            done.append(part)
            here = "/".join(done)
            kind = self._kind(here) if kind is not None else None
            if kind is Kind.SYMLINK and self._links:
                assert self._tree is not None
                links += 1
                if links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                link = self._tree.node(here).link
                done = [] if link.startswith("/") else done[:-1]
                pending.extend(link.split("/")[::-1])
                kind = Kind.DIRECTORY
        return Place("/".join(done), kind is not None, kind is Kind.DIRECTORY)

    def _kind(self, path: str) -> Kind | None:
        if not path:
            return Kind.DIRECTORY
        if self._tree is None:
            return None
        try:
            return self._tree.node(path).kind
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            if exc.errno == errno.ELOOP:  # a link on the way
                return None
            raise
