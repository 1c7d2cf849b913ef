"""Keeping the interpreter's own file out of a container's reach.

A process that is about to become a container's program is for a moment our interpreter inside the container. The program
may be ``#!/proc/self/exe``, or another process may open ``/proc/PID/exe``, and later write to it: that would be the
host's interpreter (CVE-2019-5736). So whoever starts containers runs from a read-only mount of that file, which no
other mount namespace has and nobody can remount.
"""

import errno
import fcntl
import os
import sys

from boxship.linux import fs, mount

_OWN = "/proc/self/exe"


def is_protected() -> bool:
    """Tell whether the file this process runs from cannot be opened for writing through /proc/PID/exe."""
    fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return True
        try:
            return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
        except OSError:
            return False  # EINVAL: not a memfd
    finally:
        os.close(fd)


def protect() -> None:
    """Execute this very program again from a protected copy of the interpreter; return if that is already so.

    To be called first thing, while nothing is open that must not be lost: arguments, environment and inheritable
    descriptors stay, all else starts over. Costs one start of the interpreter. Raises OSError.
    """
    if is_protected():
        return
    try:
        fd = _read_only_mount()
    except OSError as exc:
        if exc.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        fd = _sealed_copy()  # Linux before 5.12, or no CAP_SYS_ADMIN
    env = [f"{name}={value}" for name, value in os.environ.items()]
    fs.execveat(fd, [sys.executable, *sys.orig_argv[1:]], env)


def _read_only_mount() -> int:
    fd = mount.open_tree(mount.AT_FDCWD, _OWN, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    try:
        mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sealed_copy() -> int:
    copy = os.memfd_create("boxship", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.sendfile(copy, source, None, 1 << 22):
            pass
    finally:
        os.close(source)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy
