"""Mounts by path (mount(2), umount2(2), pivot_root(2)) and by descriptor (open_tree(2), move_mount(2), mount_setattr(2))."""

import ctypes
import os

from boxship.linux._libc import NUMBERS, check, libc

# linux/mount.h, flags of mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2  # linux/fs.h
UMOUNT_NOFOLLOW = 8

# linux/mount.h, open_tree(2) and move_mount(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
AT_FDCWD = -100  # linux/fcntl.h
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# linux/mount.h, mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
MOUNT_ATTR_IDMAP = 0x100000


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


_mount = libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = libc.umount2
_umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_pivot_root = libc["syscall"]
_pivot_root.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p)
_pivot_root.restype = ctypes.c_long
_open_tree = libc["syscall"]
_open_tree.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_open_tree.restype = ctypes.c_long
_move_mount = libc["syscall"]
_move_mount.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)
_move_mount.restype = ctypes.c_long
_mount_setattr = libc["syscall"]
_mount_setattr.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.POINTER(_MountAttr),
    ctypes.c_size_t,
)
_mount_setattr.restype = ctypes.c_long

# Options that mount(8) and the runtime-spec turn into flags: name -> (flags set, flags cleared)
OPTIONS: dict[str, tuple[int, int]] = {
    "async": (0, MS_SYNCHRONOUS),
    "atime": (0, MS_NOATIME),
    "bind": (MS_BIND, 0),
    "defaults": (0, 0),
    "dev": (0, MS_NODEV),
    "diratime": (0, MS_NODIRATIME),
    "dirsync": (MS_DIRSYNC, 0),
    "exec": (0, MS_NOEXEC),
    "iversion": (MS_I_VERSION, 0),
    "lazytime": (MS_LAZYTIME, 0),
    "loud": (0, MS_SILENT),
    "mand": (MS_MANDLOCK, 0),
    "noatime": (MS_NOATIME, 0),
    "nodev": (MS_NODEV, 0),
    "nodiratime": (MS_NODIRATIME, 0),
    "noexec": (MS_NOEXEC, 0),
    "noiversion": (0, MS_I_VERSION),
    "nolazytime": (0, MS_LAZYTIME),
    "nomand": (0, MS_MANDLOCK),
    "norelatime": (0, MS_RELATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "nosuid": (MS_NOSUID, 0),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "rbind": (MS_BIND | MS_REC, 0),
    "relatime": (MS_RELATIME, 0),
    "remount": (MS_REMOUNT, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "silent": (MS_SILENT, 0),
    "strictatime": (MS_STRICTATIME, 0),
    "suid": (0, MS_NOSUID),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "sync": (MS_SYNCHRONOUS, 0),
}


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """Mount a filesystem, bind or change a mount. ``flags`` is a mask of ``MS_*``; ``data`` are the filesystem's own options.

    ``target`` may be ``/proc/self/fd/N`` to name a place by descriptor. Raises OSError with the kernel's errno.
    """
    result = _mount(
        os.fsencode(source) if source is not None else None,
        os.fsencode(target),
        fstype.encode() if fstype is not None else None,
        flags,
        os.fsencode(data) if data else None,
    )
    check(result, "mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """Unmount the top mount at ``target``; see umount(2).

    ``flags`` is a mask of ``MNT_*``; ``MNT_DETACH`` frees the mount when its last user is gone.
    Raises OSError with the kernel's errno: EINVAL (not a mount point), EBUSY.
    """
    check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of the mount namespace and hang the old one at ``put_old``. Raises OSError."""
    check(_pivot_root(NUMBERS["pivot_root"], os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """Return a descriptor of the mount at ``path``; with ``OPEN_TREE_CLONE`` of a detached copy, a bind in waiting.

    An empty ``path`` with ``AT_EMPTY_PATH`` names ``dir_fd`` itself. Linux 5.2. Raises OSError.
    """
    return int(check(_open_tree(NUMBERS["open_tree"], dir_fd, os.fsencode(path), flags), "open_tree", path))


def move_mount(tree_fd: int, target_fd: int) -> None:
    """Attach the mount of ``tree_fd`` on top of the place that ``target_fd`` is; ``tree_fd`` keeps naming the mount.

    Linux 5.2. Raises OSError: EINVAL (the target is not in this mount namespace), ENOTDIR (file and directory mixed).
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    check(_move_mount(NUMBERS["move_mount"], tree_fd, b"", target_fd, b"", flags), "move_mount")


def mount_setattr(
    tree_fd: int,
    attr_set: int,
    attr_clear: int,
    *,
    recursive: bool = False,
    propagation: int = 0,
    user_namespace_fd: int = 0,
) -> None:
    """Change attributes (``MOUNT_ATTR_*``) and propagation (``MS_PRIVATE`` ...) of the mount of ``tree_fd``.

    ``MOUNT_ATTR_IDMAP`` shows the ids on disk as ``user_namespace_fd`` maps them, on a mount that is attached nowhere yet.

    Linux 5.12. Raises OSError: ENOSYS before that, EPERM (locked flag in a user namespace), EINVAL (a file system that
    cannot have its ids mapped).
    """
    attributes = _MountAttr(attr_set, attr_clear, propagation, user_namespace_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    result = _mount_setattr(NUMBERS["mount_setattr"], tree_fd, b"", flags, ctypes.byref(attributes), size)
    check(result, "mount_setattr")
