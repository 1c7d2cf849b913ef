"""How much a volume may hold: by a project quota on its data, or by an image file with a file system of its own.

A quota's project number is chosen at random among those that nobody uses, and kept nowhere but in the directory. An image
is one file beside the data directory, on which it is mounted like what other options name; all its blocks are reserved when
it is made, so that a full disk of the host never takes a write back. Blocking; raises OSError where nothing else is said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence

from boxship.base.errors import InvalidInput, NotSupported
from boxship.linux import ext4, loop, mount, project_quota
from boxship.volumes import tree

IMAGE = "image"
SMALLEST_IMAGE = 16 << 20  # bytes: a file system with its journal, and room
_NEW_IMAGE = ".image.partial"
_PLACE = ".image-"
_MKFS = ("mkfs.ext4", "-q", "-F", "-b", str(ext4.BLOCK_SIZE_BYTES), "-m", "0")
_RESIZE = ("resize2fs", "-f")
_UNSUPPORTED = frozenset(
    (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESRCH, errno.ENOTBLK, errno.EPERM)
)


def set_quota(data: str, size: int) -> None:
    """Let the data directory hold ``size`` bytes; one without a bound must be empty. Raises InvalidInput in Docker's words."""
    fd = tree.open_directory(data)
    try:
        number = _own_project(fd, data)
        if number:
            project_quota.set_limit(fd, number, size)
            return
        if os.listdir(fd):
            raise InvalidInput("quota size requested for a volume that has content and no quota")
        number = project_quota.unused(fd)
        project_quota.set_limit(fd, number, size)
        project_quota.set_project(fd, number)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
        text = "quota size requested but no quota support: a volume in an image file has a size too (-o backing=image)"
        raise InvalidInput(text) from exc
    finally:
        os.close(fd)


def used(data: str) -> int:
    """Return the bytes that a bounded data directory holds; 0 without a quota."""
    fd = tree.open_directory(data)
    try:
        number = _own_project(fd, data)
        return project_quota.usage(fd, number)[1] if number else 0
    finally:
        os.close(fd)


def lift_quota(data: str) -> None:
    """Forget the bound of a data directory that goes; without one nothing happens."""
    try:
        fd = tree.open_directory(data)
    except (FileNotFoundError, NotADirectoryError):
        return  # or somebody put a link in its place
    try:
        number = _own_project(fd, data)
        if number:
            project_quota.set_limit(fd, number, 0)
    finally:
        os.close(fd)


@contextlib.contextmanager
def beside(data_fd: int, staged_fd: int) -> Iterator[Callable[[], None]]:
    """Give a directory that is filled to be in the place of ``data_fd`` the same bound, which does not hold meanwhile.

    Both trees are there for a moment. What is given raises OSError (EDQUOT) when the new one is too large. A daemon that dies
    in between sets the bound again at its next start.
    """
    number = project_quota.project(data_fd)
    if not number or number == project_quota.project(staged_fd):
        yield _no_bound
        return
    limit, before = project_quota.usage(data_fd, number)
    project_quota.set_project(staged_fd, number)
    project_quota.set_limit(data_fd, number, 0)
    try:
        yield lambda: _check(limit, project_quota.usage(data_fd, number)[1] - before)
    finally:
        project_quota.set_limit(data_fd, number, limit)


def inherit(data_fd: int, staged_fd: int) -> None:
    """Let what is made in an empty directory count as content of ``data_fd``, into which it will be moved."""
    number = project_quota.project(data_fd)
    if number:
        project_quota.set_project(staged_fd, number)


def check_inherited(data_fd: int) -> None:
    """Raise OSError (EDQUOT) when the content, with what was made to be moved there, is too large for its bound.

    The kernel lets a daemon with CAP_SYS_RESOURCE write more than a quota allows.
    """
    number = project_quota.project(data_fd)
    if number:
        _check(*project_quota.usage(data_fd, number))


def _no_bound() -> None:
    """What has no quota fits."""


def _check(limit: int, used: int) -> None:
    if limit and used > limit:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def _own_project(fd: int, path: str) -> int:
    """Return the project that a directory does not have from the one above it; 0 if there is none."""
    number = project_quota.project(fd)
    if not number:
        return 0
    above = tree.open_directory(os.path.dirname(path))
    try:
        return 0 if number == project_quota.project(above) else number
    finally:
        os.close(above)


# -- images ------------------------------------------------------------------------------------------------------------


def make_image(directory: str, size: int, owner: tuple[int, int], *, name: str = IMAGE) -> None:
    """Make the image file of a volume's directory, with an empty file system that belongs to ``owner``.

    One that is there stays. Raises InvalidInput when it is too small, NotSupported without mkfs.ext4.
    """
    path = os.path.join(directory, name)
    if os.path.exists(path):
        return
    if size < SMALLEST_IMAGE:
        raise InvalidInput(f"an image file of less than {SMALLEST_IMAGE >> 20} MiB has no room for its file system")
    partial = os.path.join(directory, _NEW_IMAGE)
    try:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _reserve(fd, _whole_blocks(size))
            _make_filesystem(partial, owner)
            _remove_lost_and_found(fd, directory)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def mount_image(file: str, target: str) -> None:
    """Mount an image file; its loop device goes with the mount."""
    fd = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        device, path = loop.attach(fd)
        try:
            mount.mount(path, target, "ext4")
        finally:
            os.close(device)
    finally:
        os.close(fd)


def grow_image(file: str, size: int) -> None:
    """Give an image file that is not mounted more room. Raises InvalidInput for less, NotSupported without resize2fs."""
    _check_growth(file, size)
    with _longer(file, size):
        _run([*_RESIZE, file])


def grow_mounted_image(file: str, data: str, source: str, size: int) -> None:
    """Give an image file that is mounted on ``data`` from the device ``source`` more room.

    Raises InvalidInput for less, NotSupported for an engine that may not do that.
    """
    _check_growth(file, size)
    with _longer(file, size) as new:
        device = os.open(source, os.O_RDWR | os.O_CLOEXEC)
        try:
            loop.read_size_again(device)
        finally:
            os.close(device)
        root_fd = tree.open_directory(data)
        try:
            ext4.grow(root_fd, new)
        except PermissionError as exc:
            text = "an image file in use grows only where the engine has CAP_SYS_RESOURCE: stop its containers first"
            raise NotSupported(text) from exc
        finally:
            os.close(root_fd)


def _check_growth(file: str, size: int) -> None:
    if size < os.stat(file, follow_symlinks=False).st_size:
        raise InvalidInput("an image file cannot become smaller")


@contextlib.contextmanager
def _longer(file: str, size: int) -> Iterator[int]:
    """Reserve the blocks of a longer file, and give them back after a failure; gives its length."""
    fd = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    before = os.fstat(fd).st_size
    try:
        try:
            _reserve(fd, _whole_blocks(size))
            os.fsync(fd)
            yield _whole_blocks(size)
        except BaseException:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    """Give a file its blocks; one that cannot have them takes none, so that nobody else's disk is full meanwhile."""
    free = os.fstatvfs(fd)
    if size - os.fstat(fd).st_blocks * 512 > free.f_bavail * free.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.posix_fallocate(fd, 0, size)


def _whole_blocks(size: int) -> int:
    return size // ext4.BLOCK_SIZE_BYTES * ext4.BLOCK_SIZE_BYTES


def recover(directory: str) -> None:
    """Remove an image that was not finished; nothing is mounted any more."""
    for name in os.listdir(directory):
        if name == _NEW_IMAGE:
            os.unlink(os.path.join(directory, name))
        elif name.startswith(_PLACE):
            os.rmdir(os.path.join(directory, name))


def _make_filesystem(path: str, owner: tuple[int, int]) -> None:
    uid, gid = owner
    _run([*_MKFS, "-E", f"root_owner={uid}:{gid},nodiscard,lazy_itable_init=1,lazy_journal_init=1", path])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as exc:
        raise NotSupported(f"an image file needs {command[0]} on the host: install e2fsprogs") from exc
    if done.returncode != 0:
        raise OSError(errno.EIO, f"{command[0]}: {done.stderr.strip() or done.returncode}")


def _remove_lost_and_found(fd: int, directory: str) -> None:
    """Make the new file system empty: databases want that, and so does copy-up. fsck makes the directory when it needs it."""
    place = os.path.join(directory, f"{_PLACE}{os.urandom(8).hex()}")
    os.mkdir(place, 0o700)
    try:
        device, path = loop.attach(fd)
        try:
            mount.mount(path, place, "ext4")
        finally:
            os.close(device)
        try:
            os.rmdir(os.path.join(place, "lost+found"))
        finally:
            mount.umount2(place, mount.UMOUNT_NOFOLLOW)
    finally:
        os.rmdir(place)
