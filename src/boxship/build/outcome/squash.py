"""``--squash``: all that a build put on its base as one layer, with the history that dockerd writes.

The files come from the finished root filesystem; which of them were touched, and what is gone, the headers of the layers'
tars say. So nothing of the base is read, and nothing is taken for unchanged because it looks alike.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import msgspec

from boxship.base import clock
from boxship.base.errors import InvalidInput
from boxship.build.outcome.assembly import StepImage
from boxship.images.archives import piped
from boxship.images.layers import Addition, LayerStore, failures
from boxship.images.model import LayerRow
from boxship.images.streams import Pieces
from boxship.linux import fs
from boxship.snapshots import tree
from boxship.snapshots.apply import OPAQUE, WHITEOUT, clean
from boxship.snapshots.difference import marker
from boxship.snapshots.tar_reader import DIRECTORY, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable
from boxship.spec.oci import History, RootFS, digest_of, encode_config
from boxship.spec.oci.config import LAYER_LIMIT

_PLAIN = fs.RESOLVE_BENEATH | fs.RESOLVE_NO_MAGICLINKS | fs.RESOLVE_NO_SYMLINKS


class Touched(NamedTuple):
    """The paths that layers name: what they have, and where they hide something of what is below."""

    written: set[str]
    hiding: set[str]


def squash(
    layers: LayerStore, addition: Addition, image: StepImage, base: StepImage, rows: Sequence[LayerRow], now_ns: int
) -> StepImage:
    """Return the image with one layer upon ``base`` in place of those whose ``rows`` are given, the lowest first. Blocks.

    Raises InvalidInput when the base has as many layers as there can be.
    """
    if len(base.layers) >= LAYER_LIMIT:
        raise InvalidInput("max depth exceeded")
    parent = base.layers[-1] if base.layers else ""
    with failures():
        touched = _touched(layers, rows)

    def write(out: Writable) -> None:
        _write(layers, out, image.layers[-1] if image.layers else "", parent, touched)

    with failures():
        chain_id = piped.layer(addition, parent, write)
    known = len(base.config.history or ())
    history = [
        entry if number < known else msgspec.structs.replace(entry, empty_layer=True)
        for number, entry in enumerate(image.config.history or ())
    ]
    created = clock.rfc3339(now_ns)
    comment = f"merge {image.id} to {base.id}" if base.id else f"create new from {image.id}"
    config = msgspec.structs.replace(
        image.config,
        created=created,
        rootfs=RootFS(diff_ids=[*base.config.diff_ids, addition.diff_id(chain_id)]),
        history=[*history, History(created=created, comment=comment)],
    )
    document = encode_config(config)
    return StepImage(digest_of(document), document, (*base.layers, chain_id), "", config, now_ns)


def _touched(layers: LayerStore, rows: Sequence[LayerRow]) -> Touched:
    touched = Touched(set(), set())
    for row in rows:
        for entry in TarReader(Pieces(layers.tar(row))):
            path = clean(entry.name)
            directory, _, name = path.rpartition("/")
            if name == OPAQUE:
                touched.hiding.add(directory)
            elif name.startswith(WHITEOUT):
                touched.hiding.add(f"{directory}/{name.removeprefix(WHITEOUT)}".lstrip("/"))
            else:
                touched.written.add(path)
                if entry.type != DIRECTORY:
                    touched.hiding.add(path)
    return touched


def _write(layers: LayerStore, out: Writable, top: str, parent: str, touched: Touched) -> None:
    writer = TarWriter(out, layers.snapshotter.identity)
    with ExitStack() as stack:
        top_fd = stack.enter_context(layers.snapshotter.view(top)) if top else -1
        base_fd = stack.enter_context(layers.snapshotter.view(parent)) if parent else -1
        if top_fd >= 0:
            for path, parent_fd, status in tree.walk(top_fd):
                if path in touched.written:
                    writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
            if base_fd >= 0:
                for path in sorted({gone for hidden in touched.hiding for gone in _gone(base_fd, top_fd, hidden)}):
                    directory, slash, name = path.rpartition("/")
                    writer.add(marker(f"{directory}{slash}{WHITEOUT}{name}"))
    writer.finish()


def _gone(base_fd: int, top_fd: int, path: str) -> Iterator[str]:
    """Yield what of the base at ``path`` and below the finished filesystem does not have, directories without their content.

    A place that is below a path which is no directory any more is none of its own.
    """
    pending = [path]
    while pending:
        here = pending.pop()
        below = _status(base_fd, here)
        if below is None:
            continue
        above = _status(top_fd, here)
        if above is None:
            directory = here.rpartition("/")[0]
            held = _status(top_fd, directory)
            if held is not None and stat.S_ISDIR(held.st_mode):
                yield here
            elif directory:
                pending.append(directory)
        elif stat.S_ISDIR(below.st_mode) and stat.S_ISDIR(above.st_mode):
            with tree.opened(_directory(base_fd, here)) as fd:
                pending += [f"{here}/{name}".lstrip("/") for name in tree.names(fd)]


def _status(root_fd: int, path: str) -> os.stat_result | None:
    """Return what is at a path, no link of it followed; None when there is nothing."""
    directory, _, name = path.rpartition("/")
    try:
        with tree.opened(_directory(root_fd, directory)) as fd:
            return os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            return None
        raise


def _directory(root_fd: int, path: str) -> int:
    return fs.openat2(root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_PLAIN)
