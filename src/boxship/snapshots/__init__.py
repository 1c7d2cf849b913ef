"""Root filesystems from layers: apply a layer tar, prepare a writable layer, write a layer tar (overlay2, vfs).

Owns the snapshot directories below the data root, the store's ``snapshot`` rows, and all reading and writing of tar
archives. Mounts nothing that others see: the shim mounts what ``rootfs`` describes. Knows nothing of images and
containers beyond the names they give to snapshots. ``snapshotter`` has the words and the contract.
"""

from boxship.snapshots.compression import Decompressed, GzipWriter
from boxship.snapshots.drivers import open_snapshotter
from boxship.snapshots.overlay import OverlaySnapshotter
from boxship.snapshots.snapshotter import (
    EXTRACTION,
    INIT,
    Applied,
    Change,
    ChangeKind,
    Cleaned,
    HasChildren,
    NoSuchSnapshot,
    SnapshotExists,
    SnapshotInfo,
    Snapshotter,
    WrongState,
)
from boxship.snapshots.tar_reader import InvalidTar, Limits, TarReader, UnexpectedEnd
from boxship.snapshots.tar_writer import TarWriter
from boxship.snapshots.vfs import VfsSnapshotter

__all__ = [
    "EXTRACTION",
    "INIT",
    "Applied",
    "Change",
    "ChangeKind",
    "Cleaned",
    "Decompressed",
    "GzipWriter",
    "HasChildren",
    "InvalidTar",
    "Limits",
    "NoSuchSnapshot",
    "OverlaySnapshotter",
    "SnapshotExists",
    "SnapshotInfo",
    "Snapshotter",
    "TarReader",
    "TarWriter",
    "UnexpectedEnd",
    "VfsSnapshotter",
    "WrongState",
    "open_snapshotter",
]
