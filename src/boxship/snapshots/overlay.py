"""Snapshots as directories that overlayfs stacks (driver ``overlay2``).

``<root>/<id>/diff`` holds the difference in overlayfs's own form: a deleted file is a character device 0/0, a directory
that hides its lower content has the attribute ``trusted.overlay.opaque=y``. ``work`` is overlayfs's, ``merged`` the mount
point. See Documentation/filesystems/overlayfs.rst.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from boxship.base.errors import SystemFailure
from boxship.linux import fs
from boxship.snapshots import apply, detached, tree
from boxship.snapshots.difference import Hashing, is_different, marker, with_parents
from boxship.snapshots.directories import DirectorySnapshotter, Record, is_mounted
from boxship.snapshots.snapshotter import Applied, Change, ChangeKind
from boxship.snapshots.tar_reader import Limits, Readable, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable, is_portable

_ASSUMED = 10_000  # directories; a layer that assumes more is unpacked again
_OPAQUE = "trusted.overlay.opaque"
_BELOW = fs.RESOLVE_BENEATH | fs.RESOLVE_NO_SYMLINKS
_GRAPH_DATA = {"MergedDir": "merged", "UpperDir": "diff", "WorkDir": "work"}


class OverlaySnapshotter(DirectorySnapshotter):
    """Snapshots stacked by overlayfs; see ``snapshotter.Snapshotter`` for what the methods promise."""

    name = "overlay2"
    adopts = True

    def content_path(self, record: Record) -> str:
        return os.path.join(self.root, record.directory, "diff")

    def _fill(self, path: str, parent: str | None) -> None:  # noqa: ARG002
        with tree.opened(tree.open_root(path)) as fd:
            for name in ("diff", "work", "merged"):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=fd)
            tree.chmod(fd, "diff", 0o755)  # it is the container's "/": no umask
            self._give_to_root(fd, "diff")

    def _is_whole(self, record: Record) -> bool:
        base = os.path.join(self.root, record.directory)
        return all(os.path.isdir(os.path.join(base, name)) for name in ("diff", "work", "merged"))

    def usage(self, key: str) -> int:
        with tree.opened(tree.open_root(self.content_path(self._record(key)))) as fd:
            return tree.usage(fd)

    def rootfs(self, key: str) -> dict[str, object]:
        record = self._active(key)
        base = os.path.join(self.root, record.directory)
        lower = [self.content_path(below) for below in self._chain(record.parent)]
        merged, upper = os.path.join(base, "merged"), os.path.join(base, "diff")
        if not lower:  # overlayfs wants two layers
            return {"type": "bind", "upper": upper, "target": merged}
        return {"type": "overlay", "lower": lower, "upper": upper, "work": os.path.join(base, "work"), "target": merged}

    def graph_data(self, key: str) -> dict[str, str]:
        chain = self._chain(key)
        base = os.path.join(self.root, chain[0].directory)
        data = {name: os.path.join(base, part) for name, part in _GRAPH_DATA.items()}
        lower = [self.content_path(below) for below in chain[1:]]
        return {"LowerDir": ":".join(lower), **data} if lower else data

    @contextmanager
    def view(self, key: str, *, writable: bool = False) -> Iterator[int]:
        chain = self._chain(key)
        if writable:
            self._active(key)
        base = os.path.join(self.root, chain[0].directory)
        merged = os.path.join(base, "merged")
        layers = [self.content_path(record) for record in chain]
        with ExitStack() as stack:
            try:
                if is_mounted(merged):
                    tree_fd = tree.open_root(merged)
                elif len(layers) == 1:
                    tree_fd = detached.bind(layers[0], writable=writable)
                elif writable:
                    tree_fd = detached.overlay(layers[1:], merged, layers[0], os.path.join(base, "work"))
                else:
                    tree_fd = detached.overlay(layers, merged)
                stack.callback(os.close, tree_fd)
                root_fd = os.open(".", tree.DIRECTORY, dir_fd=tree_fd)
                stack.callback(os.close, root_fd)
            except OSError as exc:
                raise SystemFailure(f"can't mount snapshot {key}: {exc.strerror}") from exc
            yield root_fd

    def apply(self, key: str, tar: Readable, *, limits: Limits | None = None) -> Applied:
        record = self._active(key)
        hash = hashlib.sha256()
        reader = TarReader(tar, limits=limits, observe=hash.update)
        with ExitStack() as stack:
            root_fd = tree.open_root(self.content_path(record))
            stack.callback(os.close, root_fd)
            lower = LowerLayers([self.content_path(below) for below in self._chain(record.parent)], stack)
            assumed: list[str] = []

            def make_parent(parent_fd: int, name: str, path: str) -> None:
                if len(assumed) <= _ASSUMED:
                    assumed.append(path)
                if not lower.make_directory(parent_fd, name, path):
                    self._give_to_root(parent_fd, name)

            try:
                whiteouts = OverlayWhiteouts()
                size = apply.unpack(reader, root_fd, whiteouts=whiteouts, make_parent=make_parent, prepare=self._own)
                reader.finish()
                if whiteouts.hides_root:
                    whiteouts.hide_names(root_fd, lower.names(""))
                if size is None:
                    size = tree.usage(root_fd)
            except BaseException:
                tree.clear(root_fd)
                raise
        depends = whiteouts.hides_root or len(assumed) > _ASSUMED
        return Applied(f"sha256:{hash.hexdigest()}", size, None if depends else assumed)

    def adopt(self, key: str, parent: str, assumed: Sequence[str] = ()) -> bool:
        with ExitStack() as stack:
            lower = LowerLayers([self.content_path(below) for below in self._chain(parent)], stack)
            if any(lower.find(path) is not None for path in assumed):
                return False
        return super().adopt(key, parent)

    def write_diff(self, key: str, out: Writable) -> Applied:
        hashing = Hashing(out)
        writer = TarWriter(hashing, self.identity)
        with tree.opened(tree.open_root(self.content_path(self._record(key)))) as root_fd:
            for path, parent_fd, status in tree.walk(root_fd):
                directory, slash, name = path.rpartition("/")
                if is_whiteout(status):
                    writer.add(marker(f"{directory}{slash}{apply.WHITEOUT}{name}", status))
                    continue
                try:
                    writer.add_file(parent_fd, name, path, status)
                except FileNotFoundError:
                    continue  # a running container deleted it
                if stat.S_ISDIR(status.st_mode) and is_opaque(parent_fd, name):
                    opaque = marker(f"{path}/{apply.OPAQUE}", status)
                    opaque.mode = stat.S_IMODE(status.st_mode)  # the directory's, as in Docker
                    writer.add(opaque)
        writer.finish()
        return Applied(hashing.digest, writer.content)

    def changes(self, key: str) -> Sequence[Change]:
        chain = self._chain(key)
        found: dict[str, ChangeKind] = {}
        with ExitStack() as stack:
            root_fd = tree.open_root(self.content_path(chain[0]))
            stack.callback(os.close, root_fd)
            lower = LowerLayers([self.content_path(below) for below in chain[1:]], stack)
            for path, parent_fd, status in tree.walk(root_fd):
                below = lower.find(path)
                if is_whiteout(status):
                    if below is not None:
                        found[path] = ChangeKind.DELETED
                elif below is None:
                    found[path] = ChangeKind.ADDED
                elif is_different(below, status):
                    found[path] = ChangeKind.MODIFIED
                if stat.S_ISDIR(status.st_mode) and below is not None and is_opaque(parent_fd, path.rpartition("/")[2]):
                    with tree.opened(tree.open_directory(root_fd, path)) as fd:
                        gone = lower.names(path) - set(tree.names(fd))
                    found.update((f"{path}/{name}", ChangeKind.DELETED) for name in gone)
        return with_parents(found)


def is_whiteout(status: os.stat_result) -> bool:
    """Return whether the file is overlayfs's mark of a deleted one."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(parent_fd: int, name: str) -> bool:
    """Return whether the directory hides what lower layers have in it."""
    return tree.get_xattr(parent_fd, name, _OPAQUE) == b"y"


class OverlayWhiteouts:
    """Writes whiteouts as overlayfs reads them; one per layer."""

    def __init__(self) -> None:
        self._hidden: set[str] = set()
        self.hides_root = False  # overlayfs merges roots whatever they are marked as: see `hide_names`

    def hide(self, parent_fd: int, name: str, path: str) -> None:
        """Put a whiteout there, unless this layer has a file of that name."""
        self._hidden.add(path)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent_fd)
        except FileExistsError:
            self.wrote(parent_fd, name, path)

    def hide_content(self, directory_fd: int, path: str) -> None:
        """Mark the directory."""
        if not path:
            self.hides_root = True
        os.setxattr(directory_fd, _OPAQUE, b"y")

    def hide_names(self, root_fd: int, names: Iterable[str]) -> None:
        """Hide what lower layers have in the root, after the whole layer is there."""
        for name in names:
            self.hide(root_fd, name, name)

    def wrote(self, parent_fd: int, name: str, path: str) -> None:
        """Keep a directory that took a whiteout's place from merging with what the whiteout hid."""
        if path in self._hidden and stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            tree.set_xattr(parent_fd, name, _OPAQUE, b"y")


class LowerLayers:
    """Looks things up in a stack of ``diff`` directories, the topmost first, without mounting it.

    The directories are opened when they are first needed and closed by ``stack``.
    """

    def __init__(self, paths: Sequence[str], stack: ExitStack) -> None:
        self._paths = paths
        self._stack = stack
        self._fds: list[int] = []
        self._hiding: dict[tuple[int, str], bool] = {}

    def find(self, path: str) -> os.stat_result | None:
        """Return the status of what the merged tree has at ``path``, no link followed; None if there is nothing."""
        handle = self._open(path)
        if handle is None:
            return None
        with tree.opened(handle):
            return os.fstat(handle)

    def names(self, path: str) -> set[str]:
        """Return what the merged tree has in the directory ``path``."""
        found: dict[str, bool] = {}
        for index, layer_fd in enumerate(self._layers()):
            try:
                handle = fs.openat2(layer_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BELOW)
            except FileNotFoundError:
                pass
            except (NotADirectoryError, OSError):
                break
            else:
                with tree.opened(handle):
                    for name in tree.names(handle):
                        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                        found.setdefault(name, not is_whiteout(status))
            if self._hides(index, layer_fd, path):
                break
        return {name for name, visible in found.items() if visible}

    def make_directory(self, parent_fd: int, name: str, path: str) -> bool:
        """Make a directory with the attributes that it has in the merged tree, as overlayfs does when it copies up.

        Returns False when it has none there: it is root's then, with mode 0755.
        """
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        handle = self._open(path)
        if handle is None:
            tree.chmod(parent_fd, name, 0o755)
            return False
        with tree.opened(handle):
            status = os.fstat(handle)
            if not stat.S_ISDIR(status.st_mode):
                tree.chmod(parent_fd, name, 0o755)
                return False
            os.chown(name, status.st_uid, status.st_gid, dir_fd=parent_fd, follow_symlinks=False)
            tree.chmod(parent_fd, name, stat.S_IMODE(status.st_mode))
            source = f"/proc/self/fd/{handle}"
            for attribute in os.listxattr(source):
                if is_portable(attribute):
                    tree.set_xattr(parent_fd, name, attribute, os.getxattr(source, attribute))
        return True

    def _open(self, path: str) -> int | None:
        directory = path.rpartition("/")[0]
        for index, layer_fd in enumerate(self._layers()):
            try:
                handle = fs.openat2(layer_fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=_BELOW)
            except FileNotFoundError:
                if self._hides(index, layer_fd, directory):
                    return None
                continue
            except OSError as exc:
                if exc.errno in (errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                    return None
                raise
            if is_whiteout(os.fstat(handle)):
                os.close(handle)
                return None
            return handle
        return None

    def _layers(self) -> Sequence[int]:
        if not self._fds:
            for path in self._paths:
                self._fds.append(tree.open_root(path))
                self._stack.callback(os.close, self._fds[-1])
        return self._fds

    def _hides(self, index: int, layer_fd: int, path: str) -> bool:
        """Return whether the layer hides what lower ones have in the directory ``path``."""
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            known = self._hiding.get((index, part))
            if known is None:
                known = self._hiding[index, part] = _hides_content(layer_fd, part)
            if known:
                return True
        return False


def _hides_content(layer_fd: int, path: str) -> bool:
    try:
        handle = fs.openat2(layer_fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=_BELOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    with tree.opened(handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            return True
        try:
            return os.getxattr(f"/proc/self/fd/{handle}", _OPAQUE) == b"y"
        except OSError:
            return False
