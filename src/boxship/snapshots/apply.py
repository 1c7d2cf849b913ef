"""Unpack a tar archive below a directory, by descriptor only.

Archives are hostile. Every name is taken as a process would see it whose root is the target directory, as Docker does by
chroot: ``..`` and absolute names stay inside, links in the way are followed inside, the last component never is. So an
archive can only change what lies below the directory it was given; no name is an escape, and none needs to be refused
for it.

A file that is in the way is replaced, only a directory merges with a directory. Modification times of directories are set
at the end, when nothing is put into them any more.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Protocol

from boxship.base.errors import SystemFailure
from boxship.linux import fs
from boxship.snapshots import tar_reader, tree
from boxship.snapshots.tar_reader import Entry, InvalidTar, TarReader

WHITEOUT = ".wh."
_METADATA = ".wh..wh."  # names that only aufs gave a meaning to, except the next one
OPAQUE = ".wh..wh..opq"
NO_ID = 2**32 - 1  # (uid_t) -1 means "leave as it is" to chown(2)
_LAST_TIME = 2**63 - 1  # ns; as Docker, times before 1970 or beyond 64 bits of nanoseconds become 1970
_LAST_MAJOR = 2**12 - 1  # linux/kdev_t.h
_LAST_MINOR = 2**20 - 1
_WRITE_OUT = 16 * 1024 * 1024  # bytes of a file
_CACHED = 128  # open directories
_HOST_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


class Whiteouts(Protocol):
    """What the names ``.wh.*`` of a layer do to the layers below (image-spec, layer.md, "Whiteouts")."""

    def hide(self, parent_fd: int, name: str, path: str) -> None:
        """Let ``name`` of the lower layers be gone; what this layer itself put there stays."""

    def hide_content(self, directory_fd: int, path: str) -> None:
        """Let all of the directory's content in lower layers be gone."""

    def wrote(self, parent_fd: int, name: str, path: str) -> None:
        """Learn that this layer put ``name`` there."""


def unpack(
    reader: TarReader,
    root_fd: int,
    *,
    start: str = "",
    whiteouts: Whiteouts | None = None,
    make_parent: Callable[[int, str, str], None] | None = None,
    keep_kinds: bool = False,
    prepare: Callable[[Entry], None] | None = None,
) -> int | None:
    """Unpack the archive into the directory ``start`` of the tree ``root_fd``; root of all links is ``root_fd``.

    Without ``whiteouts``, names ``.wh.*`` are files like others. ``make_parent(parent_fd, name, path)`` creates a directory
    that the archive uses but does not hold (else: root's, 0755). ``keep_kinds`` refuses to put a directory over something
    else or the reverse, as ``docker cp`` wants. ``prepare`` may change an entry's names and owner before it is used.

    Returns the bytes of the files unpacked, None when some were replaced and only a walk could tell. What was unpacked
    before an error stays. Raises InvalidTar, SystemFailure.
    """
    unpacker = _Unpacker(reader, root_fd, start, whiteouts, make_parent or _make_plain_parent, keep_kinds, prepare)
    try:
        unpacker.run()
        return unpacker.content
    finally:
        unpacker.close()


def _make_plain_parent(parent_fd: int, name: str, path: str) -> None:  # noqa: ARG001
    os.mkdir(name, 0o755, dir_fd=parent_fd)
    tree.chmod(parent_fd, name, 0o755)


def clean(name: str) -> str:
    """Return the name relative to the root, without ``.``, ``..`` and doubled slashes; the root itself is empty."""
    if name.startswith(("/", "./", "../")) or name.endswith("/") or "//" in name or "/." in name or name in (".", ".."):
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)
    return name


class _Unpacker:
    def __init__(
        self,
        reader: TarReader,
        root_fd: int,
        start: str,
        whiteouts: Whiteouts | None,
        make_parent: Callable[[int, str, str], None],
        keep_kinds: bool,
        prepare: Callable[[Entry], None] | None,
    ) -> None:
        self._reader = reader
        self._root_fd = root_fd
        self._start = clean(start)
        self._whiteouts = whiteouts
        self._make_parent = make_parent
        self._keep_kinds = keep_kinds
        self._prepare = prepare
        self._group = os.getegid()  # of new files, unless they are put into a directory that gives its own (setgid)
        self._open: dict[str, int] = {}  # directories by path, the one used longest ago first
        self._directory_times: dict[str, int] = {}
        self.content: int | None = 0  # bytes of files, see `unpack`

    def run(self) -> None:
        create = {
            tar_reader.REGULAR: self._regular,
            tar_reader.DIRECTORY: self._directory,
            tar_reader.SYMLINK: self._symlink,
            tar_reader.LINK: self._link,
            tar_reader.CHARACTER: self._special,
            tar_reader.BLOCK_DEVICE: self._special,
            tar_reader.FIFO: self._special,
        }
        for entry in self._reader:
            make = create.get(entry.type)
            if make is None:
                raise InvalidTar(f"unhandled tar header type {entry.type[0]}")
            if entry.uid >= NO_ID or entry.gid >= NO_ID:
                raise InvalidTar("archive/tar: invalid tar header")
            if self._prepare is not None:
                self._prepare(entry)
            path = clean(entry.name)
            if not path:
                continue  # the root's own mode and owner are not the archive's to choose: as Docker
            if self._start:
                path = f"{self._start}/{path}"
            directory, _, name = path.rpartition("/")
            try:
                parent_fd = self._parent(directory)
                if self._whiteouts is not None and name.startswith(WHITEOUT):
                    self._whiteout(self._whiteouts, parent_fd, directory, name)
                else:
                    make(entry, parent_fd, name, path)
                    if self.content is not None:
                        self.content += entry.size
                    if self._whiteouts is not None:
                        self._whiteouts.wrote(parent_fd, name, path)
            except OSError as exc:
                if self._reader.stream_failed:
                    raise
                raise _translated(exc, entry.name) from exc
        for path in sorted(self._directory_times, reverse=True):
            directory, _, name = path.rpartition("/")
            try:
                mtime_ns = self._directory_times[path]
                os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._parent(directory), follow_symlinks=False)
            except OSError as exc:
                if exc.errno in _HOST_ERRORS:
                    raise _translated(exc, path) from exc
                # the archive took it away again after it was made

    def close(self) -> None:
        self._forget_directories()

    # files by type

    def _regular(self, entry: Entry, parent_fd: int, name: str, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=parent_fd)
        except FileExistsError:
            self._make_way(entry, parent_fd, name, path)
            fd = os.open(name, flags, 0o600, dir_fd=parent_fd)
        try:
            if entry.sparse is None:
                written_out = size = 0
                for piece in self._reader.data():
                    _write(fd, piece)
                    size += len(piece)
                    if size - written_out >= _WRITE_OUT:  # the disk may as well begin: there is a sync at the end
                        fs.sync_file_range(fd, written_out, size - written_out)
                        written_out = size
            else:
                self._write_sparse(fd, entry, entry.sparse)
            _set_attributes(fd, entry, self._group)
            os.utime(fd, ns=_times(entry))
        finally:
            os.close(fd)

    def _write_sparse(self, fd: int, entry: Entry, places: list[tuple[int, int]]) -> None:
        os.ftruncate(fd, entry.size)
        for offset, length in places:
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                piece = self._reader.take(length)
                length -= len(piece)
                _write(fd, piece)

    def _directory(self, entry: Entry, parent_fd: int, name: str, path: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if self._make_way(entry, parent_fd, name, path):
                os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, tree.DIRECTORY, dir_fd=parent_fd)
        try:
            _set_attributes(fd, entry, self._group)
        except BaseException:
            os.close(fd)
            raise
        self._directory_times[path] = _times(entry)[0]
        self._remember(path, fd)

    def _symlink(self, entry: Entry, parent_fd: int, name: str, path: str) -> None:
        try:
            os.symlink(entry.linkname, name, dir_fd=parent_fd)
        except FileExistsError:
            self._make_way(entry, parent_fd, name, path)
            os.symlink(entry.linkname, name, dir_fd=parent_fd)
        entry.size = len(os.fsencode(entry.linkname))  # as stat(2) tells it
        self._own(entry, parent_fd, name)
        _set_xattrs(entry, lambda key, value: tree.set_xattr(parent_fd, name, key, value))
        os.utime(name, ns=_times(entry), dir_fd=parent_fd, follow_symlinks=False)

    def _link(self, entry: Entry, parent_fd: int, name: str, path: str) -> None:
        """Give an existing file another name; its attributes came with the first one."""
        target = clean(entry.linkname)
        if self._start:
            target = f"{self._start}/{target}"
        directory, _, target_name = target.rpartition("/")
        if not target_name:
            raise InvalidTar(f'invalid hardlink "/{path}" -> "{entry.linkname}"')
        with tree.opened(tree.open_directory(self._root_fd, directory)) as target_fd:
            try:
                os.link(target_name, name, src_dir_fd=target_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
            except FileExistsError:
                self._make_way(entry, parent_fd, name, path)
                os.link(target_name, name, src_dir_fd=target_fd, dst_dir_fd=parent_fd, follow_symlinks=False)

    def _special(self, entry: Entry, parent_fd: int, name: str, path: str) -> None:
        kind = {tar_reader.CHARACTER: stat.S_IFCHR, tar_reader.BLOCK_DEVICE: stat.S_IFBLK}.get(entry.type, stat.S_IFIFO)
        if entry.major > _LAST_MAJOR or entry.minor > _LAST_MINOR:
            raise InvalidTar("archive/tar: invalid tar header")
        device = os.makedev(entry.major, entry.minor)
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=parent_fd)
        except FileExistsError:
            self._make_way(entry, parent_fd, name, path)
            os.mknod(name, kind | 0o600, device, dir_fd=parent_fd)
        self._own(entry, parent_fd, name)
        tree.chmod(parent_fd, name, entry.mode)
        _set_xattrs(entry, lambda key, value: tree.set_xattr(parent_fd, name, key, value))
        os.utime(name, ns=_times(entry), dir_fd=parent_fd, follow_symlinks=False)

    def _own(self, entry: Entry, parent_fd: int, name: str) -> None:
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        elif os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_gid != self._group:
            os.chown(name, -1, self._group, dir_fd=parent_fd, follow_symlinks=False)

    def _whiteout(self, whiteouts: Whiteouts, parent_fd: int, directory: str, name: str) -> None:
        if name == OPAQUE:
            whiteouts.hide_content(parent_fd, directory)
        elif not name.startswith(_METADATA):
            hidden = name[len(WHITEOUT) :]
            if hidden in ("", ".", ".."):
                raise InvalidTar(f"invalid whiteout name: {name}")
            whiteouts.hide(parent_fd, hidden, f"{directory}/{hidden}" if directory else hidden)

    # directories

    def _parent(self, path: str) -> int:
        """Return a descriptor of the directory, made if it is not there; valid for this entry."""
        fd = self._open.pop(path, -1)
        if fd >= 0:
            self._open[path] = fd
        else:
            fd = self._open_or_make(path)
            self._remember(path, fd)
        return fd

    def _open_or_make(self, path: str) -> int:
        missing: list[str] = []
        while True:
            try:
                fd = tree.open_directory(self._root_fd, path)
                break
            except FileNotFoundError:
                if not path:
                    raise
                path, _, name = path.rpartition("/")
                missing.append(name)
        while missing:
            name = missing.pop()
            path = f"{path}/{name}" if path else name
            with tree.opened(fd) as parent_fd:
                self._make_parent(parent_fd, name, path)
                if self._whiteouts is not None:
                    self._whiteouts.wrote(parent_fd, name, path)
                fd = os.open(name, tree.DIRECTORY, dir_fd=parent_fd)
        return fd

    def _remember(self, path: str, fd: int) -> None:
        known = self._open.pop(path, -1)
        if known >= 0:
            os.close(known)
        elif len(self._open) >= _CACHED:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = fd

    def _forget_directories(self, keep: str | None = None) -> None:
        """Close the cached directories: after a directory or link was replaced their paths may mean others."""
        kept = {path: fd for path, fd in self._open.items() if path == keep}
        for path, fd in self._open.items():
            if path not in kept:
                os.close(fd)
        self._open = kept

    def _make_way(self, entry: Entry, parent_fd: int, name: str, path: str) -> bool:
        """Remove what has the name; return False if it is a directory that may stay for one."""
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        was_directory, is_directory = stat.S_ISDIR(status.st_mode), entry.type == tar_reader.DIRECTORY
        if was_directory and is_directory:
            return False
        if self._keep_kinds and was_directory != is_directory:
            kinds = ("directory", "non-directory") if was_directory else ("non-directory", "directory")
            raise InvalidTar(f'cannot overwrite {kinds[0]} "/{path}" with {kinds[1]} "/{self._start}"')
        if (mounted := tree.mounted(parent_fd, name)) is not None:
            busy = f"/{path}/{mounted}".rstrip("/")
            raise InvalidTar(f"unlinkat {busy}: device or resource busy")
        self.content = None
        tree.remove(parent_fd, name)
        if was_directory or stat.S_ISLNK(status.st_mode):
            self._forget_directories(keep=path.rpartition("/")[0])
            below = f"{path}/"
            for made in [made for made in self._directory_times if made == path or made.startswith(below)]:
                del self._directory_times[made]
        return True


def _write(fd: int, data: memoryview) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _set_attributes(fd: int, entry: Entry, group: int) -> None:
    """Set owner, then mode (chown clears setuid), then attributes (chown clears file capabilities).

    ``group`` is what root's files have.
    """
    if entry.uid or entry.gid:
        os.fchown(fd, entry.uid, entry.gid)
    elif os.fstat(fd).st_gid != group:
        os.fchown(fd, -1, group)
    os.fchmod(fd, entry.mode)
    if entry.xattrs:
        _set_xattrs(entry, lambda key, value: os.setxattr(fd, key, value))


def _set_xattrs(entry: Entry, set_one: Callable[[str, bytes], None]) -> None:
    """Set the attributes that an archive may bring, as containerd does.

    ``trusted.*`` is the host's own (``trusted.overlay.*`` steers overlayfs, as does ``user.overlay.*`` for the rootless);
    what the filesystem can't hold is left out.
    """
    for key, value in entry.xattrs.items():
        if key.startswith(("trusted.", "user.overlay.")):
            continue
        try:
            set_one(key, value)
        except OSError as exc:
            if exc.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def _times(entry: Entry) -> tuple[int, int]:
    mtime_ns = entry.mtime_ns
    if not 0 <= mtime_ns <= _LAST_TIME:
        mtime_ns = 0
    return mtime_ns, mtime_ns


def _translated(exc: OSError, name: str) -> BaseException:
    """Tell the archive's faults (names too long, a file where a directory should be) from the host's (disk full)."""
    reason = os.strerror(exc.errno or 0)
    text = f"{os.fsencode(name).decode(errors='replace')}: {reason[:1].lower()}{reason[1:]}"
    return SystemFailure(f"write {text}") if exc.errno in _HOST_ERRORS else InvalidTar(text)
