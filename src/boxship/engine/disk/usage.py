"""What takes up space below the data root, down to the last byte that ``du`` counts."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from boxship.content import blobs
from boxship.snapshots import Snapshotter, tree
from boxship.store import Store, quarantine
from boxship.volumes import rows as volumes

_BLOCK = 512  # bytes of one unit of st_blocks


class Kind(StrEnum):
    """What a use is for."""

    LAYER = "image layer"  # unpacked
    BLOB = "image blob"  # compressed layers and manifests
    WRITABLE = "writable layer"
    LOG = "container log"
    CONTAINER = "container file"
    CHECKPOINT = "checkpoint"
    VOLUME = "volume"
    DOWNLOAD = "interrupted download"
    CACHE = "cache"
    METADATA = "metadata"  # database and the directories themselves
    QUARANTINE = "quarantine"
    LEFTOVER = "leftover"  # the next start removes it
    UNKNOWN = "unknown"


_OWN = frozenset(("boxship.lock", "lost+found"))  # the daemon's lock, mkfs's directory


class Use(NamedTuple):
    """One part of the data root."""

    kind: Kind
    id: str  # of the object, "" where there is none
    path: str
    size: int  # bytes on disk


class _Known(NamedTuple):
    """What the metadata says, read once."""

    snapshots: Mapping[str, tuple[str, bool]]  # directory's name: key and whether it is committed
    owned: Mapping[str, str]  # path: the kind of its owner
    containers: Collection[str]
    volumes: Collection[str]
    blobs: Collection[str]


def measure(data_root: str, store: Store, snapshotter: Snapshotter, containers: Collection[str]) -> list[Use]:
    """Return all parts of the data root, each byte once (a file with several names at its first); blocks.

    ``containers`` are the ids that the engine knows. What vanishes meanwhile is left out; mounts are not entered.
    """
    with store.read() as transaction:
        known = _Known(
            {},
            {os.path.realpath(owner.path): owner.kind for owner in transaction.owners()},
            {*containers, *(row.id for row in quarantine.quarantined(transaction))},
            set(volumes.local_names(transaction)),
            {digest for digest, _ in transaction.list(blobs.KIND)},
        )
    infos = snapshotter.list()
    known = known._replace(snapshots={os.path.basename(info.path): (info.key, info.committed) for info in infos})
    root = os.path.realpath(data_root)
    layers = snapshotter.name
    seen: set[tuple[int, int]] = set()
    uses = [Use(Kind.METADATA, "", root, os.lstat(root).st_blocks * _BLOCK)]
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if name.startswith(os.path.basename(store.path)):
            uses.append(Use(Kind.METADATA, "", path, _size(path, seen)))
        elif name == layers:
            uses += [_layer(child, known, seen) for child in _inside(path)]
        elif name == "content":
            uses += _content(path, known, seen)
        elif name == "containers":
            uses += [use for child in _inside(path) for use in _container(child, known, seen)]
        elif name == "volumes":
            for child in _inside(path):
                there = os.path.basename(child) in known.volumes
                uses.append(
                    Use(
                        Kind.VOLUME if there else _stray(child, known),
                        os.path.basename(child),
                        child,
                        _size(child, seen),
                    )
                )
        elif name in _OWN:
            uses.append(Use(Kind.METADATA, "", path, _size(path, seen)))
        elif name in ("seccomp", "build"):
            uses.append(Use(Kind.CACHE, "", path, _size(path, seen)))
        else:
            uses.append(Use(_stray(path, known), "", path, _size(path, seen)))
        if name in (layers, "content", "containers", "volumes"):
            uses.append(Use(Kind.METADATA, "", path, os.lstat(path).st_blocks * _BLOCK))
    return uses


def _layer(path: str, known: _Known, seen: set[tuple[int, int]]) -> Use:
    key, committed = known.snapshots.get(os.path.basename(path), ("", False))
    kind = (Kind.LAYER if committed else Kind.WRITABLE) if key else _stray(path, known)
    return Use(kind, key, path, _size(path, seen))


def _content(root: str, known: _Known, seen: set[tuple[int, int]]) -> Iterator[Use]:
    for path in _inside(root):
        if os.path.basename(path) != "blobs":
            kind = Kind.DOWNLOAD if os.path.basename(path) == "ingest" else _stray(path, known)
            yield Use(kind, "", path, _size(path, seen))
            continue
        yield Use(Kind.METADATA, "", path, os.lstat(path).st_blocks * _BLOCK)
        for algorithm in _inside(path):
            yield Use(Kind.METADATA, "", algorithm, os.lstat(algorithm).st_blocks * _BLOCK)
            for file in _inside(algorithm):
                digest = f"{os.path.basename(algorithm)}:{os.path.basename(file)}"
                yield Use(Kind.BLOB if digest in known.blobs else Kind.LEFTOVER, digest, file, _size(file, seen))


def _container(path: str, known: _Known, seen: set[tuple[int, int]]) -> Iterator[Use]:
    id = os.path.basename(path)
    if id not in known.containers:
        yield Use(_stray(path, known), id, path, _size(path, seen))
        return
    log = f"{id}-json.log"
    yield Use(Kind.CONTAINER, id, path, os.lstat(path).st_blocks * _BLOCK)
    for file in _inside(path):
        name = os.path.basename(file)
        if name == "checkpoints":
            yield Use(Kind.CONTAINER, id, file, os.lstat(file).st_blocks * _BLOCK)
            for checkpoint in _inside(file):
                yield Use(Kind.CHECKPOINT, id, checkpoint, _size(checkpoint, seen))
        else:
            yield Use(Kind.LOG if name.startswith(log) else Kind.CONTAINER, id, file, _size(file, seen))


def _stray(path: str, known: _Known) -> Kind:
    """Return the kind of what no object explains."""
    match known.owned.get(path):
        case None:
            return Kind.UNKNOWN
        case quarantine.KIND:
            return Kind.QUARANTINE
        case _:
            return Kind.LEFTOVER


def _inside(path: str) -> list[str]:
    """Return the paths of what is in the directory, nothing when it is gone or none."""
    try:
        return sorted(os.path.join(path, name) for name in os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: str, seen: set[tuple[int, int]]) -> int:
    """Return the bytes on disk of a file or of a tree with its directories, without what is mounted in it."""
    try:
        status = os.lstat(path)
        total = _counted(status, seen)
        if not stat.S_ISDIR(status.st_mode):
            return total
        with tree.opened(tree.open_root(path)) as fd:
            below = tree.walk(fd, strict=False, leave=lambda inner: os.fstat(inner).st_dev != status.st_dev)
            return total + sum(_counted(found, seen) for _, _, found in below if found.st_dev == status.st_dev)
    except OSError:
        return 0


def _counted(status: os.stat_result, seen: set[tuple[int, int]]) -> int:
    key = (status.st_dev, status.st_ino)
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
        if key in seen:
            return 0
        seen.add(key)
    return status.st_blocks * _BLOCK
