"""Where two images first differ: file by file through the layers, then field by field in their configurations.

Files are compared in the root filesystem after each layer, by descriptor: the order in which an archive has them does not
count. Times come last: that something was made at another time is told only when nothing else differs.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from boxship.base.errors import NotFound
from boxship.images.layers import LayerStore, failures
from boxship.images.model import Image
from boxship.snapshots import tree
from boxship.snapshots.tar_writer import is_portable
from boxship.spec.boxship.verification import Comparison, Difference

_PIECE = 1024 * 1024
_REMEMBERED = 500_000  # files known to be equal, so that they are not read again above
_ABSENT = "(none)"

_Equal = set[tuple[int, int]]  # inodes of files with the same content


class Found(NamedTuple):
    """One difference between two trees."""

    path: str
    aspect: str
    first: str
    second: str


def compare(layers: LayerStore, first: Image, second: Image) -> Comparison:
    """Return whether two images are the same. Blocks. Raises NotFound when one is removed meanwhile."""
    if first.id == second.id:
        return Comparison(identical=True)
    with layers.addition() as addition:
        if not all(map(addition.reuse, (*first.layers, *second.layers))):
            raise NotFound("the image was removed meanwhile")
        with failures():
            differences = [*_layers(layers, first, second)]
    for difference in differences:
        if difference.aspect != "mtime":
            return Comparison(identical=False, difference=difference)
    fields = list(_fields(_document(first), _document(second)))
    for path, aspect, one, other in fields:
        if not _is_time(path):
            difference = Difference(path=path, aspect=aspect, first=one, second=other)
            return Comparison(identical=False, difference=difference)
    differences += [
        Difference(path=path, aspect=aspect, first=one, second=other) for path, aspect, one, other in fields
    ]
    return Comparison(identical=False, only_times=True, difference=differences[0] if differences else None)


def trees(first_fd: int, second_fd: int, equal: _Equal) -> Iterator[Found]:
    """Yield the differences between two directories, in order of paths; ``equal`` is what is known of their files."""
    firsts, seconds = tree.walk(first_fd), tree.walk(second_fd)
    one, other = next(firsts, None), next(seconds, None)
    while one is not None or other is not None:
        order = _order(one, other)
        if order < 0:
            assert one is not None
            yield Found(one[0], "missing", _kind(one[2]), _ABSENT)
            one = next(firsts, None)
        elif order > 0:
            assert other is not None
            yield Found(other[0], "added", _ABSENT, _kind(other[2]))
            other = next(seconds, None)
        else:
            assert one is not None and other is not None
            yield from _file(one[0], (one[1], one[2]), (other[1], other[2]), equal)
            one, other = next(firsts, None), next(seconds, None)


def _layers(layers: LayerStore, first: Image, second: Image) -> Iterator[Difference]:
    """Yield, of each layer that is not the same, its first difference and the first that is no time; end with the latter."""
    count = len(first.layers)
    words = [entry.created_by or "" for entry in first.image_config.history or () if not entry.empty_layer]
    equal: _Equal = set()
    for number, (one, other) in enumerate(zip(first.layers, second.layers, strict=False), 1):
        if one == other:
            continue
        by = words[number - 1] if number <= len(words) else ""
        with layers.snapshotter.view(one) as one_fd, layers.snapshotter.view(other) as other_fd:
            told = False
            for found in trees(one_fd, other_fd, equal):
                if found.aspect != "mtime" or not told:
                    told = True
                    yield _difference(found, number, count, by)
                if found.aspect != "mtime":
                    return
        if not told and first.diff_ids[number - 1] != second.diff_ids[number - 1]:
            archive = Found("", "archive", first.diff_ids[number - 1], second.diff_ids[number - 1])
            yield _difference(archive, number, count, by)
            return
    if count != len(second.layers):
        number = min(count, len(second.layers)) + 1
        yield _difference(Found("", "layers", str(count), str(len(second.layers))), number, count, "")


def _difference(found: Found, layer: int, layers: int, created_by: str) -> Difference:
    return Difference(
        layer=layer,
        layers=layers,
        created_by=created_by,
        path=os.fsencode(found.path).decode("utf-8", "replace"),
        aspect=found.aspect,
        first=found.first,
        second=found.second,
    )


_At = tuple[str, int, os.stat_result]


def _order(one: _At | None, other: _At | None) -> int:
    """Return which of two files a walk meets first: below 0 the first, above 0 the second, 0 both at once."""
    if one is None or other is None:
        return (one is None) - (other is None)
    left, right = one[0].split("/"), other[0].split("/")
    return (left > right) - (left < right)


def _file(
    path: str, first: tuple[int, os.stat_result], second: tuple[int, os.stat_result], equal: _Equal
) -> Iterator[Found]:
    (one_fd, one), (other_fd, other) = first, second
    name = path.rpartition("/")[2]
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        yield Found(path, "type", _kind(one), _kind(other))
        return
    if one.st_mode != other.st_mode:
        yield Found(path, "mode", f"{stat.S_IMODE(one.st_mode):04o}", f"{stat.S_IMODE(other.st_mode):04o}")
    if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid):
        yield Found(path, "owner", f"{one.st_uid}:{one.st_gid}", f"{other.st_uid}:{other.st_gid}")
    if one.st_rdev != other.st_rdev:
        yield Found(path, "device", _device(one), _device(other))
    yield from _attributes(path, one_fd, other_fd, name)
    if stat.S_ISLNK(one.st_mode):
        targets = os.readlink(name, dir_fd=one_fd), os.readlink(name, dir_fd=other_fd)
        if targets[0] != targets[1]:
            yield Found(path, "target", *(os.fsencode(target).decode("utf-8", "replace") for target in targets))
    elif stat.S_ISREG(one.st_mode) and (one.st_ino, other.st_ino) not in equal:
        digests = _digest(one_fd, name), _digest(other_fd, name)
        if digests[0] != digests[1]:
            yield Found(path, "content", *digests)
        elif len(equal) < _REMEMBERED:
            equal.add((one.st_ino, other.st_ino))
    if one.st_mtime_ns // 1_000_000_000 != other.st_mtime_ns // 1_000_000_000:
        yield Found(path, "mtime", _time(one), _time(other))


def _attributes(path: str, one_fd: int, other_fd: int, name: str) -> Iterator[Found]:
    one, other = (
        {key: value for key, value in tree.xattrs(fd, name).items() if is_portable(key)} for fd in (one_fd, other_fd)
    )
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            shown = (values[key].hex() if key in values else _ABSENT for values in (one, other))
            yield Found(path, f"xattr {os.fsencode(key).decode('utf-8', 'replace')}", *shown)


def _digest(parent_fd: int, name: str) -> str:
    hash, size = hashlib.sha256(), 0
    with tree.opened(tree.open_regular(parent_fd, name)) as fd:
        while piece := os.read(fd, _PIECE):
            hash.update(piece)
            size += len(piece)
    return f"sha256:{hash.hexdigest()} ({size} bytes)"


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


def _kind(status: os.stat_result) -> str:
    return _KINDS[stat.S_IFMT(status.st_mode)]


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _time(status: os.stat_result) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime_ns // 1_000_000_000))


# configurations


def _document(image: Image) -> Any:
    document = msgspec.json.decode(image.document)
    document.pop("rootfs", None)  # the layers were compared
    return document


def _fields(one: Any, other: Any, path: str = "") -> Iterator[Found]:
    """Yield the differences between two JSON values, in order of fields."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            below = f"{path}.{key}" if path else key
            if key not in one or key not in other:
                yield Found(below, "value", _shown(one, key), _shown(other, key))
            else:
                yield from _fields(one[key], other[key], below)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _fields(left, right, f"{path}[{number}]")
    elif one != other:
        yield Found(path, "value", msgspec.json.encode(one).decode(), msgspec.json.encode(other).decode())


def _shown(document: dict[str, Any], key: str) -> str:
    return msgspec.json.encode(document[key]).decode() if key in document else _ABSENT


def _is_time(path: str) -> bool:
    return path == "created" or (path.startswith("history[") and path.endswith("].created"))
