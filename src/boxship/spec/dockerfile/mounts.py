"""``RUN --mount``: its types, options, defaults and refusals."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Literal

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.dockerfile.arguments import go_quoted
from boxship.spec.dockerfile.suggest import suggest

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_KEYS = {
    "type": "type", "from": "origin", "source": "source", "src": "source",
    "target": "target", "dst": "target", "destination": "target",
    "readonly": "read_only", "ro": "read_only", "readwrite": "read_write", "rw": "read_write",
    "id": "id", "sharing": "sharing", "required": "required", "size": "size", "mode": "mode", "uid": "uid", "gid": "gid",
    "env": "env",
}  # fmt: skip
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?) ?([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


class MountOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One mount as it is asked for. ``None`` stands for "not said"."""

    type: Literal["bind", "cache", "tmpfs", "secret", "ssh"] = "bind"
    origin: str = ""  # stage, image or named context
    source: str = ""
    target: str = ""
    read_only: bool = True
    id: str = ""
    sharing: Literal["", "shared", "private", "locked"] = ""
    required: bool = False
    env: str | None = None
    size: int = 0  # bytes
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def parse_mount(text: str, expand: Callable[[str], str] = str) -> MountOptions:
    """Return the mount that ``text`` asks for; ``expand`` replaces variables in values. Raises InvalidInput with Docker's words."""
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as exc:
        raise InvalidInput(f"failed to parse csv mounts: {exc}") from exc
    found: dict[str, object] = {}
    kind = "bind"
    for field in fields:
        written, equals, value = field.partition("=")
        key = written.strip().lower()
        known = _KEYS.get(key)
        value = expand(value)
        if known is None and equals:
            raise InvalidInput(f"unexpected key '{key}' in '{field}'{suggest(key, _KEYS)}")
        if known is None or (not equals and known not in ("read_only", "read_write", "required")):
            raise InvalidInput(f"invalid field '{field}' must be a key=value pair")
        if known == "type":
            kind = value.lower()
            if kind not in TYPES:
                raise InvalidInput(f"unsupported mount type {go_quoted(value)}{suggest(value, TYPES)}")
            found["type"] = kind
            continue
        if (known == "required" and kind not in ("secret", "ssh")) or (known == "size" and kind != "tmpfs"):
            raise InvalidInput(f"unexpected key '{key}' for mount type '{kind}'")
        if known == "read_write":
            found["read_only"] = not boolean(key, value if equals else "true")
        else:
            found[known] = _value(known, key, value if equals else "true")
    mount = msgspec.convert({"read_only": kind not in ("cache", "tmpfs"), **found}, MountOptions)
    _check(mount)
    return mount


def mount_origin(text: str) -> str:
    """Return what ``from`` says, as written; "" when the mount has none."""
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        return ""
    found = [value for key, _, value in (field.partition("=") for field in fields) if key.strip().lower() == "from"]
    return found[-1] if found else ""


def _value(known: str, key: str, value: str) -> object:
    match known:
        case "read_only" | "required":
            return boolean(key, value)
        case "size":
            return _bytes(key, value)
        case "sharing":
            if value.lower() not in SHARING:
                raise InvalidInput(f"unsupported sharing value {go_quoted(value)}{suggest(value, SHARING)}")
            return value.lower()
        case "mode" | "uid" | "gid":
            base = 8 if known == "mode" else 10
            if (
                not re.fullmatch(r"[0-7]{1,11}" if base == 8 else r"\d{1,10}", value, re.ASCII)
                or int(value, base) >= 1 << 32
            ):
                raise InvalidInput(f"invalid value {value} for {known}")
            return int(value, base)
    return value


def boolean(key: str, value: str) -> bool:
    """Return what an option says. Raises InvalidInput."""
    if value not in (*_TRUE, *_FALSE):
        raise InvalidInput(f"invalid value for {key}: {value}")
    return value in _TRUE


def _bytes(key: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise InvalidInput(f"invalid value for {key}: {value}")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def _check(mount: MountOptions) -> None:
    kind = mount.type
    if kind not in ("secret", "ssh", "cache"):
        for name, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise InvalidInput(f"{name} not allowed for {go_quoted(kind)} type mounts")
    if kind == "secret":
        if mount.origin:
            raise InvalidInput("secret mount should not have a from")
        if mount.sharing:
            raise InvalidInput("secret mount should not define sharing")
        if not mount.source and not mount.target and not mount.id:
            raise InvalidInput("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise InvalidInput("both source and id can't be set")
    if mount.sharing and kind != "cache":
        raise InvalidInput(f"invalid cache sharing set for {kind} mount")
    if not mount.target and kind in ("bind", "cache", "tmpfs"):
        raise InvalidInput(f"{kind} mount requires a target")
    if mount.env is not None and kind != "secret":
        raise InvalidInput(f"unexpected key 'env' for mount type '{kind}'")
