"""What is wrong below the data root, and putting it right: ``boxship system fsck``.

The check looks at the database, then at what each row promises, then at what no row explains. Nothing is changed without
``repair``, and with it nothing that a running container uses. A finding is told as soon as it is known.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from boxship.base.errors import BoxshipError
from boxship.content import BlobCorrupted, ContentStore
from boxship.engine.disk import usage
from boxship.engine.image_trees import owner_of
from boxship.engine.model import SPEC_KIND, STATUS_KIND
from boxship.images.layers import LayerStore
from boxship.images.model import IMAGE, LAYER, LayerRow, decode_image, decode_layer
from boxship.linux import mount, mountinfo
from boxship.snapshots import EXTRACTION, Snapshotter, comparison, tree
from boxship.store import Store, Transaction, quarantine
from boxship.volumes import rows as volumes

SETTLED = 60.0  # seconds after which what has no owner is not just coming or going
_AGAIN = "; pull or load the image again"
_CONTAINER = re.compile(r"[0-9a-f]{64}")


class Finding(NamedTuple):
    """One thing that is wrong. ``outcome`` is what was done about it, "" when nothing was."""

    object: str  # "layer sha256:...", "container ...", "mount /..."
    problem: str
    outcome: str = ""

    def __str__(self) -> str:
        return f"{self.object}: {self.problem}" + (f" [{self.outcome}]" if self.outcome else "")


class Checker:
    """One check of one data root; ``run`` blocks on the disk, so it belongs into a thread.

    ``alive`` are the containers that run or are about to, asked anew for each use; ``known`` all that the engine has.
    """

    def __init__(
        self,
        data_root: str,
        store: Store,
        content: ContentStore,
        snapshotter: Snapshotter,
        *,
        checks: Mapping[str, quarantine.Check],
        known: Callable[[], Collection[str]],
        alive: Callable[[], Collection[str]],
    ) -> None:
        self._root = os.path.realpath(data_root)
        self._store = store
        self._content = content
        self._snapshotter = snapshotter
        self._layers = LayerStore(store, content, snapshotter)
        self._checks = checks
        self._known = known
        self._alive = alive
        self._damaged_blobs: set[str] = set()

    def run(self, *, repair: bool, quick: bool) -> Iterator[Finding]:
        """Yield the findings. ``quick`` believes the content of files, and reads none."""
        for line in () if quick else self._store.problems():
            yield Finding("database", line)
        yield from self._rows(repair=repair)
        yield from self._blobs(repair=repair, quick=quick)
        yield from self._image_layers(repair=repair, quick=quick)
        yield from self._containers()
        yield from self._volumes(repair=repair)
        yield from self._mounts(repair=repair)
        yield from self._strays(repair=repair)

    def _rows(self, *, repair: bool) -> Iterator[Finding]:
        for damaged in quarantine.damaged(self._store, self._checks):
            yield Finding(
                f"{damaged.kind} {damaged.id}",
                damaged.reason or "a bit in its row flipped",
                "" if not repair else "set aside" if damaged.reason else "put right",
            )
        if repair:
            quarantine.inspect(self._store, self._checks)
        with self._store.read() as transaction:
            aside = quarantine.quarantined(transaction)
        running = {entry.mount_point.split("/")[-2] for entry in self._layer_mounts()}
        directories = {info.key: os.path.basename(info.path) for info in self._snapshotter.list()}
        for row in aside:
            names = f", names {', '.join(row.names)}" if row.names else ""
            outcome = ""
            if repair and row.kind == SPEC_KIND and directories.get(row.id) in running:
                outcome = "left: it is running"
            elif repair:
                self._store.write_now(lambda t, row=row: _give_up(t, row))  # type: ignore[misc]  # a default binds now
                outcome = "removed" + (_AGAIN if row.kind in (IMAGE, LAYER) else "")
            yield Finding(f"{row.kind} {row.id}", f"in quarantine{names}: {row.reason}", outcome)

    def _blobs(self, *, repair: bool, quick: bool) -> Iterator[Finding]:
        for blob in self._content.list():
            problem = self._blob_problem(blob.digest, blob.size, quick=quick)
            if problem:
                self._damaged_blobs.add(blob.digest)
                if repair:
                    self._content.delete(blob.digest)
                yield Finding(f"blob {blob.digest}", problem, f"removed{_AGAIN}" if repair else "")
        for digest in self._content.unnamed(remove=repair):
            yield Finding(f"blob {digest}", "no row names this file", "removed" if repair else "")

    def _blob_problem(self, digest: str, size: int, *, quick: bool) -> str:
        try:
            found = os.stat(self._content.path(digest), follow_symlinks=False).st_size
            if found != size:
                return f"it has {found} bytes instead of {size}"
            if not quick:
                self._content.verify(digest)
        except FileNotFoundError:
            return "its file is missing"
        except BlobCorrupted:
            return "its content is not the one that the digest names"
        except OSError as exc:
            return f"it can't be read: {exc.strerror}"
        return ""

    def _image_layers(self, *, repair: bool, quick: bool) -> Iterator[Finding]:
        with self._store.read() as transaction:
            rows = {chain_id: decode_layer(document) for chain_id, document in transaction.list(LAYER)}
            images = [(id, decode_image(document).layers) for id, document in transaction.list(IMAGE)]
        for id, layers in images:
            for chain_id in layers:
                if chain_id not in rows:
                    yield Finding(f"image {id}", f"its layer {chain_id} is not known", _AGAIN[2:] if repair else "")
        for info in self._snapshotter.list():
            if info.committed and info.key not in rows and not os.path.isdir(self._files(info.path)):
                yield Finding(f"layer {info.key}", "its files are missing, and no image has it")
        # Lower ones first: upper ones are unpacked on top of them.
        for chain_id, row in sorted(rows.items(), key=lambda item: _depth(item[0], rows)):
            yield from self._layer(chain_id, row, repair=repair, quick=quick)

    def _layer(self, chain_id: str, row: LayerRow, *, repair: bool, quick: bool) -> Iterator[Finding]:
        path = next((info.path for info in self._snapshotter.list() if info.key == chain_id), "")
        sound_blob = row.blob not in self._damaged_blobs and self._content.exists(row.blob)
        if not sound_blob and row.blob not in self._damaged_blobs:
            yield Finding(f"layer {chain_id}", f"its blob {row.blob} is missing", _AGAIN[2:] if repair else "")
        if repair and not sound_blob:
            self._layers.condemn(chain_id)
        missing = not path or not os.path.isdir(self._files(path))
        problems = ["its files are missing"] if missing else []
        key = ""
        try:
            if sound_blob and (repair if missing else not quick):
                key = self._layers.rebuild(row)
                problems = problems or list(self._differences(path, key))
            outcome = self._repair_layer(chain_id, path, row, key) if problems and repair else ""
            for problem in problems:
                yield Finding(f"layer {chain_id}", problem, outcome)
        except BoxshipError as exc:
            yield Finding(f"layer {chain_id}", f"it can't be checked: {exc}")
        finally:
            if key and self._snapshotter.exists(key):
                self._snapshotter.remove(key)

    def _files(self, path: str) -> str:
        """Return where the files of the snapshot with this directory lie."""
        return os.path.join(path, "diff") if self._snapshotter.name == "overlay2" else path

    def _differences(self, path: str, key: str) -> Iterator[str]:
        right = next(info.path for info in self._snapshotter.list() if info.key == key)
        with (
            tree.opened(tree.open_root(self._files(path))) as found_fd,
            tree.opened(tree.open_root(self._files(right))) as right_fd,
        ):
            yield from comparison.differences(found_fd, right_fd)

    def _repair_layer(self, chain_id: str, path: str, row: LayerRow, key: str) -> str:
        """Make the layer's files anew from its blob, or have them fetched with the next pull."""
        if not key:
            return _AGAIN[2:]
        try:
            if path:
                self._snapshotter.replace(chain_id, key)
            else:
                self._snapshotter.commit(chain_id, key, diff_id=row.diff_id, size=row.size)
        except BoxshipError as exc:
            return f"left: {exc}"
        return "unpacked anew"

    def _containers(self) -> Iterator[Finding]:
        there = {info.key: info.path for info in self._snapshotter.list()}
        for id in sorted(self._known()):
            if not os.path.isdir(self._files(there.get(id, "/nowhere"))) and id in self._known():
                yield Finding(f"container {id}", "its writable layer is missing")
            if not os.path.isdir(os.path.join(self._root, "containers", id)) and id in self._known():
                yield Finding(f"container {id}", "its directory is missing")

    def _volumes(self, *, repair: bool) -> Iterator[Finding]:
        with self._store.read() as transaction:
            names = volumes.local_names(transaction)
        for name in names:
            data = os.path.join(self._root, "volumes", name, "_data")
            if not os.path.isdir(data):
                if repair:
                    os.makedirs(data, 0o755, exist_ok=True)
                yield Finding(f"volume {name}", "its directory is missing", "made empty" if repair else "")

    def _layer_mounts(self) -> list[mountinfo.MountInfo]:
        root = os.path.join(self._root, self._snapshotter.name) + "/"
        return [entry for entry in mountinfo.read() if entry.mount_point.startswith(root)]

    def _mounts(self, *, repair: bool) -> Iterator[Finding]:
        mounts = self._layer_mounts()
        directories = {os.path.basename(info.path): info.key for info in self._snapshotter.list()}
        with self._store.read() as transaction:
            aside = {row.id for row in quarantine.quarantined(transaction)}
        for entry in mounts:
            directory = entry.mount_point[len(self._root) + len(self._snapshotter.name) + 2 :].partition("/")[0]
            key = directories.get(directory, "")
            owner = owner_of(key)
            if owner in aside or owner in self._alive() or key.startswith(EXTRACTION):
                continue
            if entry.mount_point not in {again.mount_point for again in self._layer_mounts()}:
                continue  # the container was just ending
            if repair:
                mount.umount2(entry.mount_point, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
            yield Finding(f"mount {entry.mount_point}", "no running container uses it", "unmounted" if repair else "")

    def _strays(self, *, repair: bool) -> Iterator[Finding]:
        before = time.time() - SETTLED
        for use in usage.measure(self._root, self._store, self._snapshotter, self._known()):
            if use.kind not in (usage.Kind.LEFTOVER, usage.Kind.UNKNOWN) or use.id.startswith(("sha256:", "sha512:")):
                continue
            try:
                if os.lstat(use.path).st_ctime > before or use.id in self._known():
                    continue
            except FileNotFoundError:
                continue
            of_container = os.path.basename(os.path.dirname(use.path)) == "containers" and _CONTAINER.fullmatch(use.id)
            removable = use.kind is usage.Kind.LEFTOVER or of_container
            if removable and repair:
                with tree.opened(tree.open_root(os.path.dirname(use.path))) as fd:
                    tree.remove(fd, os.path.basename(use.path))
                self._store.write_now(lambda t, path=use.path: t.disown(path))  # type: ignore[misc]  # binds now
            yield Finding(
                f"directory {use.path}",
                f"no object explains its {use.size} bytes",
                ("removed" if removable else "left: nobody knows whose it is") if repair else "",
            )


def _give_up(transaction: Transaction, row: quarantine.Quarantined) -> None:
    quarantine.discard(transaction, row)
    if row.kind == SPEC_KIND:
        transaction.delete(STATUS_KIND, row.id)


def _depth(chain_id: str, rows: Mapping[str, LayerRow]) -> int:
    depth = 0
    while chain_id in rows:
        chain_id = rows[chain_id].parent
        depth += 1
    return depth
