"""Attributes of the calling process: prctl(2)."""

import ctypes

from boxship.linux._libc import check, libc

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_prctl = libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_prctl_name = libc["prctl"]
_prctl_name.argtypes = (ctypes.c_int, ctypes.c_char_p)


def set_parent_death_signal(signum: int) -> None:
    """Receive ``signum`` when the parent ends; cleared by a change of user and by execve of a set-user-id program."""
    check(_prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid others without CAP_SYS_PTRACE to look into this process (its exe, fd, mem in /proc)."""
    check(_prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted capabilities over a change of user id; cleared by execve."""
    check(_prctl(PR_SET_KEEPCAPS, int(keep), 0, 0, 0), "prctl(PR_SET_KEEPCAPS)")


def set_name(name: str) -> None:
    """Set the thread's name as ``ps`` shows it; cut to 15 bytes."""
    check(_prctl_name(PR_SET_NAME, name.encode()[:15]), "prctl(PR_SET_NAME)")


def set_child_subreaper(reaper: bool) -> None:
    """Become (or stop being) the parent of orphaned descendants."""
    check(_prctl(PR_SET_CHILD_SUBREAPER, int(reaper), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_no_new_privs() -> None:
    """Forbid that execve ever grants privileges to this process and its children. Cannot be undone."""
    check(_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def capbset_read(capability: int) -> bool:
    """Tell whether ``capability`` is in the bounding set. Raises OSError EINVAL when the kernel does not know it."""
    return bool(check(_prctl(PR_CAPBSET_READ, capability, 0, 0, 0), "prctl(PR_CAPBSET_READ)"))


def capbset_drop(capability: int) -> None:
    """Drop ``capability`` from the bounding set."""
    check(_prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl(PR_CAPBSET_DROP)")


def cap_ambient_clear_all() -> None:
    """Empty the ambient set."""
    check(_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")


def cap_ambient_raise(capability: int) -> None:
    """Add ``capability``, which must be permitted and inheritable, to the ambient set."""
    check(_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl(PR_CAP_AMBIENT)")
