"""Who ``-u USER[:GROUP]`` is: names looked up in the container's own /etc/passwd and /etc/group.

Both files are hostile: they are opened inside the root only, must be regular files, and are read up to a bound.
"""

import errno
import os
import stat

from boxship.runtime import places

MAX_ID = 2147483647
_MAX_FILE = 16 << 20  # bytes; real ones have some hundred kilobytes at most
_INT64 = 1 << 63
_RANGE = "uids and gids must be in range 0-2147483647"


class UserError(Exception):
    """The user or group cannot be resolved; the text is Docker's."""


class User:
    """A resolved user."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups  # supplementary ones, the primary first
        self.home = home  # "/" if nothing is known


def resolve_user(root_fd: int, user: str, additional: list[str]) -> User:
    """Resolve ``user`` (``name|uid[:group|gid]``, empty: root) and the ``additional`` groups below ``root_fd``.

    Digits are always a number, also where passwd has a user of that name. A number need not be in the files. A group
    that is given replaces the user's groups. Raises UserError.
    """
    user_part, _, rest = user.partition(":")
    group_part = rest.partition(":")[0]
    uid_wanted, gid_wanted = _number(user_part or "0"), _number(group_part)
    uid, gid, home, name = 0, 0, "/", ""
    found = _find_user(root_fd, user_part, uid_wanted)
    if found is not None:
        name, uid, gid, home = found
    elif uid_wanted is None:
        raise UserError(f"unable to find user {user_part}: no matching entries in passwd file")
    else:
        uid = uid_wanted
    supplementary: list[int] = []
    if group_part or name or additional:
        entries = _groups(root_fd)
        if group_part:
            gid = _group_id(entries, group_part, gid_wanted)
        elif name:
            supplementary = [number for _, number, members in entries if name in members]
        supplementary += [_group_id(entries, group, _number(group)) for group in additional]
    for number in (uid, gid, *supplementary):
        if not 0 <= number <= MAX_ID:
            raise UserError(_RANGE)
    return User(uid, gid, list(dict.fromkeys([gid, *supplementary])), home)


def home_of(root_fd: int, uid: int) -> str:
    """Return the home directory of ``uid``, or "/" if /etc/passwd below ``root_fd`` does not tell."""
    try:
        found = _find_user(root_fd, str(uid), uid)
    except UserError:
        return "/"
    return found[3] if found is not None else "/"


def _find_user(root_fd: int, name: str, uid: int | None) -> tuple[str, int, int, str] | None:
    for fields in _records(root_fd, "/etc/passwd"):
        if len(fields) < 6:
            continue
        entry_uid, entry_gid = _number(fields[2]), _number(fields[3])
        if entry_uid is None or entry_gid is None:
            continue
        if entry_uid == uid if uid is not None else fields[0] == name:
            return fields[0], entry_uid, entry_gid, fields[5] or "/"
    return None


def _groups(root_fd: int) -> list[tuple[str, int, list[str]]]:
    groups = []
    for fields in _records(root_fd, "/etc/group"):
        gid = _number(fields[2]) if len(fields) > 2 else None
        if gid is not None:
            groups.append((fields[0], gid, fields[3].split(",") if len(fields) > 3 else []))
    return groups


def _group_id(groups: list[tuple[str, int, list[str]]], name: str, gid: int | None) -> int:
    if gid is not None:
        return gid
    for entry, number, _ in groups:
        if entry == name:
            return number
    raise UserError(f"unable to find group {name}: no matching entries in group file")


def _number(text: str) -> int | None:
    """Return the number that ``text`` is (sign and ASCII digits, 64 bits), or None if it is a name."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        return None
    number = int(text)
    return number if -_INT64 <= number < _INT64 else None


def _records(root_fd: int, path: str) -> list[list[str]]:
    """Return the lines of the file at ``path``, split at colons; none when there is no such file."""
    try:
        fd = places.find(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        # Opening a device or socket may fail in any way; what matters is that it is not a file to read.
        raise UserError(f"open {path}: {os.strerror(exc.errno or errno.EIO).lower()}") from exc
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UserError(f"{path} is not a regular file")
        content = bytearray()
        while chunk := os.read(fd, 1 << 16):
            content += chunk
            if len(content) > _MAX_FILE:
                raise UserError(f"{path} is too large")
    finally:
        os.close(fd)
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    return [line.strip().split(":") for line in lines if line.strip() and not line.startswith("#")]
