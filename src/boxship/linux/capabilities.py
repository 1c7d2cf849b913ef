"""Capability sets as masks: names, capget(2), capset(2)."""

import ctypes
import errno

from boxship.linux import prctl
from boxship.linux._libc import check, libc

_LINUX_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

# linux/capability.h; the index is the number.
NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_capget = libc.capget
_capget.argtypes = (ctypes.POINTER(_Header), ctypes.POINTER(_Data))
_capset = libc.capset
_capset.argtypes = (ctypes.POINTER(_Header), ctypes.POINTER(_Data))


class Sets:
    """The three sets of capget(2) as masks, bit n for capability n."""

    __slots__ = ("effective", "permitted", "inheritable")  # noqa: RUF023 - the order of the arguments

    def __init__(self, effective: int, permitted: int, inheritable: int) -> None:
        self.effective = effective
        self.permitted = permitted
        self.inheritable = inheritable


def capget() -> Sets:
    """Return the calling thread's sets."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    check(_capget(ctypes.byref(header), data), "capget")
    return Sets(*(getattr(data[0], name) | getattr(data[1], name) << 32 for name in Sets.__slots__))


def capset(sets: Sets) -> None:
    """Set the calling thread's sets. Raises OSError EPERM when ``permitted`` would grow."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    for name in Sets.__slots__:
        mask = getattr(sets, name)
        setattr(data[0], name, mask & 0xFFFFFFFF)
        setattr(data[1], name, mask >> 32)
    check(_capset(ctypes.byref(header), data), "capset")


def bounding() -> int:
    """Return the calling thread's bounding set; its highest bits end where the kernel's knowledge does."""
    mask = 0
    for number in range(64):
        try:
            mask |= prctl.capbset_read(number) << number
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            break
    return mask


def mask_of(names: list[str]) -> int:
    """Return the mask of the capabilities called ``names`` (``CAP_CHOWN``); names nobody knows are left out.

    The runtime-spec asks to go on without capabilities that the host cannot grant.
    """
    mask = 0
    for name in names:
        number = NUMBERS.get(name.upper())
        if number is not None:
            mask |= 1 << number
    return mask


def names_of(mask: int) -> list[str]:
    """Return the names of the capabilities in ``mask`` in the order of their numbers."""
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]
