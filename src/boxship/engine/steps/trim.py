"""What must not be in a step's layer: empty places that were made for mounts, times after SOURCE_DATE_EPOCH.

The layer's tar is filtered; nothing is deleted in the container's files, whose owner may have replaced a place by a link.
"""

from __future__ import annotations

from collections.abc import Collection

from boxship.snapshots import tar_reader
from boxship.snapshots.apply import OPAQUE
from boxship.snapshots.tar_reader import BLOCK, Entry, Readable, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable


class Trim:
    """Writes to ``out`` what of a layer's tar stays. ``places``: paths that the layer below does not have."""

    def __init__(self, out: Writable, *, places: Collection[str], latest_ns: int | None) -> None:
        self._out = out
        self._writer = TarWriter(out)
        self._places = places
        self._latest_ns = latest_ns
        self._held: list[Entry] = []  # directories that go unless something in them stays

    def run(self, source: Readable) -> None:
        """Filter the archive."""
        reader = TarReader(source)
        for entry in reader:
            self._entry(reader, entry)
        reader.finish()
        self._writer.finish()

    def _entry(self, reader: TarReader, entry: Entry) -> None:
        path = entry.name.rstrip("/")
        self._held = [held for held in self._held if f"{path}/".startswith(held.name)]
        if path in self._places or (path.endswith(f"/{OPAQUE}") and path.rpartition("/")[0] in self._places):
            if entry.type == tar_reader.DIRECTORY:
                self._held.append(entry)
                return
            if entry.type == tar_reader.REGULAR and entry.size == 0:
                return
        for held in self._held:
            self._add(held)
        self._held = []
        self._add(entry)
        if entry.type == tar_reader.REGULAR:
            for piece in reader.data():
                self._out.write(bytes(piece))
            self._out.write(bytes(-entry.size % BLOCK))

    def _add(self, entry: Entry) -> None:
        if self._latest_ns is not None:
            entry.mtime_ns = min(entry.mtime_ns, self._latest_ns)
        self._writer.add(entry)
