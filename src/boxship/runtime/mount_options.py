"""Mount options of the runtime-spec (config-linux.md, mounts) as flags; pure."""

from boxship.linux import mount

PROPAGATION: dict[str, int] = {
    "private": mount.MS_PRIVATE,
    "rprivate": mount.MS_PRIVATE | mount.MS_REC,
    "shared": mount.MS_SHARED,
    "rshared": mount.MS_SHARED | mount.MS_REC,
    "slave": mount.MS_SLAVE,
    "rslave": mount.MS_SLAVE | mount.MS_REC,
    "unbindable": mount.MS_UNBINDABLE,
    "runbindable": mount.MS_UNBINDABLE | mount.MS_REC,
}
_ATTRIBUTES: dict[int, int] = {
    mount.MS_RDONLY: mount.MOUNT_ATTR_RDONLY,
    mount.MS_NOSUID: mount.MOUNT_ATTR_NOSUID,
    mount.MS_NODEV: mount.MOUNT_ATTR_NODEV,
    mount.MS_NOEXEC: mount.MOUNT_ATTR_NOEXEC,
    mount.MS_NODIRATIME: mount.MOUNT_ATTR_NODIRATIME,
    mount.MS_NOSYMFOLLOW: mount.MOUNT_ATTR_NOSYMFOLLOW,
}
_ATIMES: dict[int, int] = {
    mount.MS_NOATIME: mount.MOUNT_ATTR_NOATIME,
    mount.MS_RELATIME: mount.MOUNT_ATTR_RELATIME,
    mount.MS_STRICTATIME: mount.MOUNT_ATTR_STRICTATIME,
}
# Options that go for all mounts below too: "r" and the plain name.
_RECURSIVE = (
    *("ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "diratime", "nodiratime"),
    *("relatime", "norelatime", "atime", "noatime", "strictatime", "nostrictatime", "symfollow", "nosymfollow"),
)


class MountOptions:
    """What a list of options means."""

    __slots__ = ("cleared", "copy_up", "data", "flags", "propagation", "recursive_cleared", "recursive_flags")

    def __init__(self) -> None:
        self.flags = 0  # MS_*
        self.cleared = 0  # MS_* asked to be off
        self.propagation: list[int] = []  # MS_SHARED ... with or without MS_REC, in order
        self.recursive_flags = 0  # MS_*, for the whole tree of a bind mount
        self.recursive_cleared = 0
        self.copy_up = False  # a tmpfs starts with what it covers
        self.data = ""  # the filesystem's own options


def parse(options: list[str]) -> MountOptions:
    """Return the meaning of ``options``; the last of two that contradict each other wins."""
    parsed = MountOptions()
    data = []
    for option in options:
        if option in mount.OPTIONS:
            on, off = mount.OPTIONS[option]
            parsed.flags = parsed.flags & ~off | on
            parsed.cleared = parsed.cleared & ~on | off
        elif option in PROPAGATION:
            parsed.propagation.append(PROPAGATION[option])
        elif option[:1] == "r" and option[1:] in _RECURSIVE:
            on, off = mount.OPTIONS[option[1:]]
            parsed.recursive_flags = parsed.recursive_flags & ~off | on
            parsed.recursive_cleared = parsed.recursive_cleared & ~on | off
        elif option == "tmpcopyup":
            parsed.copy_up = True
        elif option:
            data.append(option)
    parsed.data = ",".join(data)
    return parsed


def attributes(flags: int, cleared: int) -> tuple[int, int]:
    """Return (set, clear) for mount_setattr(2) from masks of ``MS_*``."""
    attr_set = attr_clear = 0
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            attr_set |= attribute
        if cleared & flag:
            attr_clear |= attribute
    for flag, attribute in _ATIMES.items():
        if flags & flag:  # the access time modes are one field: cleared as a whole, then set
            attr_set = attr_set & ~mount.MOUNT_ATTR__ATIME | attribute
            attr_clear |= mount.MOUNT_ATTR__ATIME
        elif cleared & flag:
            attr_clear |= mount.MOUNT_ATTR__ATIME
    return attr_set, attr_clear


def names() -> set[str]:
    """Return all options that are not a filesystem's own."""
    return {*mount.OPTIONS, *PROPAGATION, *(f"r{name}" for name in _RECURSIVE), "tmpcopyup"}
