"""Namespaces: unshare(2), setns(2), and how a process's namespaces are named in /proc."""

import ctypes
import os

from boxship.linux._libc import check, libc

# linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Names below /proc/PID/ns, in the order in which they are joined one by one: the user namespace first, since it owns
# the others, the mount namespace last, since it takes our own paths away.
FLAGS: dict[str, int] = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "mnt": CLONE_NEWNS,
}

_unshare = libc.unshare
_unshare.argtypes = (ctypes.c_int,)
_setns = libc.setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)


def unshare(flags: int) -> None:
    """Give the calling process new namespaces; ``CLONE_NEWPID`` and ``CLONE_NEWTIME`` take effect for children only.

    Raises OSError: EPERM, ENOSPC (a limit of /proc/sys/user), EINVAL (user namespace from a threaded process).
    """
    check(_unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespace of ``fd`` (a file of /proc/PID/ns), or with a pidfd all those in ``flags`` (Linux 5.8).

    Raises OSError: EINVAL (wrong type, or the user namespace we are in), EPERM, ESRCH (the pidfd's process is gone).
    """
    check(_setns(fd, flags), "setns")


def differing(pid: int) -> int:
    """Return the mask of ``CLONE_NEW*`` of the namespaces that process ``pid`` does not share with the caller."""
    mask = 0
    for name, flag in FLAGS.items():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}")
            ours = os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            if not os.path.exists(f"/proc/{pid}"):
                raise
            continue  # a kind this kernel does not have
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            mask |= flag
    return mask
