"""Options of the driver ``local``: ``type``, ``device`` and ``o`` as mount(8) has them, mounted while a container runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from boxship.base.errors import InvalidInput
from boxship.linux import mount

_KNOWN = ("type", "o", "device", "size")
_REQUIRED = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
# Others are the file system's own.
_FLAGS = (
    *("defaults", "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "sync"),
    *("async", "dirsync", "noatime", "atime", "nodiratime", "relatime", "strictatime", "bind", "rbind"),
)


class MountOptions(msgspec.Struct, frozen=True):
    """What mount(2) is told: file system type, device, mask of ``MS_*``, and the file system's own options."""

    type: str
    device: str
    flags: int
    data: str


def check(name: str, options: Mapping[str, str]) -> None:
    """Raise InvalidInput in Docker's words for options that no volume can have."""
    for option in options:
        if option not in _KNOWN:
            raise InvalidInput(f'create {name}: invalid option: "{option}"')
    for option in options:
        for required in _REQUIRED.get(option, ()):
            if required not in options:
                raise InvalidInput(f'create {name}: missing required option: "{required}"')
    if "size" in options:
        raise InvalidInput(f"create {name}: quota size requested but no quota support")


def mount_options(options: Mapping[str, str]) -> MountOptions | None:
    """Return what is mounted on a volume with these options, None for one that is a plain directory."""
    if not options.get("device"):
        return None
    flags = 0
    data = []
    for word in options.get("o", "").split(","):
        if word in _FLAGS:
            on, off = mount.OPTIONS[word]
            flags = flags & ~off | on
        elif word:
            data.append(word)
    return MountOptions(options.get("type", ""), options["device"], flags, ",".join(data))


def without_secrets(text: str) -> str:
    """Return a message without the passwords that mount options may have."""
    return re.sub(r"\b(pass(?:word|wd)?=)[^,\s]*", r"\1********", text)
