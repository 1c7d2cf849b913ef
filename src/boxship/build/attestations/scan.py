"""Which packages a root filesystem holds. Its files are hostile: all is read by descriptor, and no more than there is room for."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from boxship.build.attestations import databases, golang
from boxship.build.attestations.packages import Distribution, Package
from boxship.snapshots import tree

DATABASE = 64 * 1024 * 1024  # bytes of a package manager's list
DOCUMENT = 1024 * 1024  # bytes of one package's own file
ENTRIES = 5_000_000  # files that are looked at
PACKAGES = 200_000
_PIECE = 1024 * 1024

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_DPKG = "var/lib/dpkg/status"
_DPKG_PARTS = "var/lib/dpkg/status.d"  # of images without dpkg: a file for each package
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_PYTHON = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)", re.DOTALL)
_NODE = re.compile(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json", re.DOTALL)

_Parse = Callable[[bytes, str], Iterable[Package]]  # a file's text and its path


class Contents(NamedTuple):
    """What was found. ``skipped`` says what was too large to be looked at."""

    distribution: Distribution
    packages: list[Package]  # sorted, each once for each place
    skipped: list[str]


def contents(root_fd: int) -> Contents:
    """Look through the tree below ``root_fd``. Blocks."""
    return _Scan(root_fd).run()


class _Scan:
    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._found: set[Package] = set()
        self._skipped: list[str] = []

    def run(self) -> Contents:
        system = Distribution()
        for path in _OS_RELEASE:
            text = self._read(path, DOCUMENT)
            if text is not None:
                system = databases.distribution(text)
                break

        def debian(text: bytes, path: str) -> Iterable[Package]:
            return databases.debian(text, path, system)

        def alpine(text: bytes, path: str) -> Iterable[Package]:
            return databases.alpine(text, path, system)

        self._take(_DPKG, DATABASE, debian)
        for name in self._names(_DPKG_PARTS):
            if not name.endswith(".md5sums"):
                self._take(f"{_DPKG_PARTS}/{name}", DOCUMENT, debian)
        for path in _APK:
            self._take(path, DATABASE, alpine)
        self._walk()
        return Contents(system, sorted(self._found), self._skipped)

    def _walk(self) -> None:
        seen = 0
        for path, parent_fd, status in tree.walk(self._root_fd, strict=False):
            seen += 1
            if seen > ENTRIES:
                self._skipped.append(f"all files after the first {ENTRIES}")
                return
            if not stat.S_ISREG(status.st_mode):
                continue
            if _PYTHON.fullmatch(path):
                self._document(path, parent_fd, databases.python)
            elif _NODE.fullmatch(path):
                self._document(path, parent_fd, databases.node)
            elif status.st_mode & 0o111 and status.st_size >= golang.SMALLEST:
                with suppress(OSError), tree.opened(tree.open_regular(parent_fd, path.rpartition("/")[2])) as fd:
                    self._add(golang.modules(fd, path))

    def _document(self, path: str, parent_fd: int, parse: _Parse) -> None:
        with suppress(OSError), tree.opened(tree.open_regular(parent_fd, path.rpartition("/")[2])) as fd:
            text = self._bytes(fd, path, DOCUMENT)
            if text is not None:
                self._add(parse(text, path))

    def _take(self, path: str, limit: int, parse: _Parse) -> None:
        text = self._read(path, limit)
        if text is not None:
            self._add(parse(text, path))

    def _add(self, packages: Iterable[Package]) -> None:
        for package in packages:
            if len(self._found) >= PACKAGES:
                note = f"all packages after the first {PACKAGES}"
                if note not in self._skipped:
                    self._skipped.append(note)
                return
            self._found.add(_printable(package))

    def _names(self, path: str) -> list[str]:
        with suppress(OSError), tree.opened(tree.open_directory(self._root_fd, path)) as fd:
            return tree.names(fd)[:PACKAGES]
        return []

    def _read(self, path: str, limit: int) -> bytes | None:
        with suppress(OSError), tree.opened(tree.open_file(self._root_fd, path)) as fd:
            return self._bytes(fd, path, limit)
        return None

    def _bytes(self, fd: int, path: str, limit: int) -> bytes | None:
        size = os.fstat(fd).st_size
        if size > limit:
            self._skipped.append(f"/{_text(path)}: {size} bytes")
            return None
        pieces = []
        while size > 0 and (piece := os.read(fd, min(size, _PIECE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _printable(package: Package) -> Package:
    """Return it with a path that any document can hold."""
    return package._replace(source=_text(package.source))


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
