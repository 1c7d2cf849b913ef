"""The mount table of a process: /proc/PID/mountinfo, see proc_pid_mountinfo(5)."""

_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\", "\\043": "#"}


class MountInfo:
    """One mount."""

    __slots__ = (
        "fstype",
        "id",
        "major",
        "minor",
        "mount_point",
        "options",
        "parent_id",
        "propagation",
        "root",
        "source",
        "super_options",
    )

    def __init__(
        self,
        id: int,
        parent_id: int,
        major: int,
        minor: int,
        root: str,
        mount_point: str,
        options: str,
        propagation: tuple[str, ...],
        fstype: str,
        source: str,
        super_options: str,
    ) -> None:
        self.id = id
        self.parent_id = parent_id
        self.major = major
        self.minor = minor
        self.root = root  # what of the filesystem is visible here
        self.mount_point = mount_point  # as seen from the process's root
        self.options = options  # per mount, comma separated
        self.propagation = propagation  # "shared:7", "master:3", "propagate_from:2", "unbindable"
        self.fstype = fstype
        self.source = source
        self.super_options = super_options  # per filesystem, comma separated


def parse(text: str) -> list[MountInfo]:
    """Return the mounts of ``text`` in its order, which is that of mounting; later ones cover earlier ones.

    Raises ValueError for a line that is not one of mountinfo.
    """
    return [_parse_line(line) for line in text.split("\n") if line]


def read(pid: int | str = "self") -> list[MountInfo]:
    """Return the mounts of process ``pid``. Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def _parse_line(line: str) -> MountInfo:
    fields = line.split(" ")
    try:
        separator = fields.index("-", 6)
        major, _, minor = fields[2].partition(":")
        fstype, source, super_options = fields[separator + 1 : separator + 4]
        return MountInfo(
            int(fields[0]),
            int(fields[1]),
            int(major),
            int(minor),
            _unescape(fields[3]),
            _unescape(fields[4]),
            fields[5],
            tuple(fields[6:separator]),
            fstype,
            _unescape(source),
            super_options,
        )
    except ValueError as exc:
        raise ValueError(f"not a line of mountinfo: {line!r}") from exc


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    parts = field.split("\\")
    return parts[0] + "".join(_ESCAPES.get("\\" + part[:3], "\\" + part[:3]) + part[3:] for part in parts[1:])
