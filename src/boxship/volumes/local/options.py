"""Options of the driver ``local``: ``type``, ``device`` and ``o`` as mount(8) has them, mounted while a container runs.

``size`` bounds what is in a volume: with ``backing=image`` as an image file, with a tmpfs as its own option, else as a quota.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from boxship.base.errors import InvalidInput
from boxship.linux import mount

_KNOWN = ("type", "o", "device", "size", "backing")
_REQUIRED = {"device": ("type",), "type": ("device",), "o": ("device", "type"), "backing": ("size",)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_SMALLEST = 4096
_LARGEST = 1 << 60
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
    image: bool = False  # an image file beside the data directory


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
        try:
            size(options)
        except InvalidInput as exc:
            raise InvalidInput(f"create {name}: {exc}") from exc
        if "type" in options and (options["type"] != "tmpfs" or "backing" in options):
            raise InvalidInput(f"create {name}: quota size requested but no quota support for type {options['type']}")
        if any(word.startswith("size=") for word in options.get("o", "").split(",")):
            raise InvalidInput(f"create {name}: conflicting options: size, and size in o")
    if options.get("backing", "image") != "image":
        raise InvalidInput(f'create {name}: invalid option: "backing={options["backing"]}" (must be "image")')


def size(options: Mapping[str, str]) -> int:
    """Return how many bytes a volume with these options may hold, 0 for what there is. Raises InvalidInput."""
    if "size" not in options:
        return 0
    match = _SIZE.fullmatch(options["size"].strip())
    number = float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " ") if match else 0
    if not _SMALLEST <= number <= _LARGEST:
        raise InvalidInput(f"invalid size: '{options['size']}'")
    return int(number)


def has_quota(options: Mapping[str, str]) -> bool:
    """Tell whether a volume with these options is bounded by a quota on its directory."""
    return "size" in options and "type" not in options and "backing" not in options


def mount_options(options: Mapping[str, str]) -> MountOptions | None:
    """Return what is mounted on a volume with these options, None for one that is a plain directory."""
    if options.get("backing"):
        return MountOptions("ext4", "", 0, "", image=True)
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
    if size(options):
        data.append(f"size={size(options)}")
    return MountOptions(options.get("type", ""), options["device"], flags, ",".join(data))


def without_secrets(text: str) -> str:
    """Return a message without the passwords that mount options may have."""
    return re.sub(r"\b(pass(?:word|wd)?=)[^,\s]*", r"\1********", text)
