"""``--userns-remap``: whose subordinate ids the containers get.

The value names a user (``user``, ``user:group``, ``uid``, ``uid:gid``), or is ``default`` for the user ``dockremap``, which
is made when the host has none. The ranges that ``/etc/subuid`` and ``/etc/subgid`` give to that user, by name or number,
become the ids of the containers, in the order of the files (subuid(5)).
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from boxship.base.identity import IdentityMapping, UnmappedId
from boxship.daemon.config import ConfigError

log = logging.getLogger("boxship.daemon")

DEFAULT = "default"
DEFAULT_USER = "dockremap"
RANGE = 65536  # ids that a new user gets
FIRST = 100000  # where ranges begin on a host that has none: SUB_UID_MIN of login.defs(5)
_PARTS = 2
_FIELDS = 3


class Accounts:
    """The host's users, groups and subordinate ids."""

    def __init__(self, subuid: str = "/etc/subuid", subgid: str = "/etc/subgid") -> None:
        self.subuid = subuid
        self.subgid = subgid

    def user(self, name: str) -> int | None:
        """Return the uid of a user, None when there is no such user."""
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return None

    def user_of(self, uid: int) -> str | None:
        """Return the name of a uid, None when no user has it."""
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return None

    def group(self, name: str) -> int | None:
        """Return the gid of a group, None when there is no such group."""
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def group_of(self, gid: int) -> str | None:
        """Return the name of a gid, None when no group has it."""
        try:
            return grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            return None

    def add_user(self, name: str) -> None:
        """Make a system user with a group of its name that nobody can log in as. Raises OSError, CalledProcessError."""
        _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name)

    def add_range(self, name: str, *, uids: int, gids: int) -> None:
        """Give a user ``RANGE`` subordinate uids and gids from these on. Raises OSError, CalledProcessError."""
        last = RANGE - 1
        _run("usermod", f"--add-subuids={uids}-{uids + last}", f"--add-subgids={gids}-{gids + last}", name)


class Owner(NamedTuple):
    """Whose subordinate ids are meant."""

    user: str
    group: str


def resolve(wanted: str, accounts: Accounts) -> IdentityMapping | None:
    """Return the mapping that ``--userns-remap=wanted`` asks for; None for root, which means none. Raises ConfigError."""
    owner = _owner(wanted, accounts)
    if owner.user == "root":
        log.warning("User namespaces: root cannot be remapped with itself; user namespaces are OFF")
        return None
    log.info("User namespaces: ID ranges will be mapped to subuid/subgid ranges of: %s", owner.user)
    uid = accounts.user(owner.user)
    uids = _ranges(accounts.subuid, (owner.user, str(uid)))
    gids = _ranges(accounts.subgid, (owner.group,)) or _ranges(accounts.subgid, (owner.user, str(uid)))
    for kind, found in (("subuid", uids), ("subgid", gids)):
        if not found:
            raise ConfigError(
                f'failed to start daemon: Can\'t create ID mappings: no {kind} ranges found for user "{owner.user}"'
            )
    try:
        return IdentityMapping(_laid_out(uids), _laid_out(gids))
    except UnmappedId as exc:
        raise _refused(f"Can't create ID mappings: {exc}") from exc


def directory(data_root: str, identity: IdentityMapping) -> str:
    """Return where below the data root a daemon keeps what belongs to these ids, as Docker names it."""
    uid, gid = identity.root
    return os.path.join(data_root, f"{uid}.{gid}")


def _owner(wanted: str, accounts: Accounts) -> Owner:
    user, *groups = wanted.split(":")
    if len(groups) >= _PARTS or not user:
        raise _refused(f'Invalid user/group specification in --userns-remap: "{wanted}"')
    name, default_group = _user(user, accounts, has_group=bool(groups))
    if not groups:
        return Owner(name, default_group)
    if groups[0].isdecimal():
        found = accounts.group_of(int(groups[0]))
        if found is None:
            raise _refused(f"Gid {groups[0]} has no entry in /etc/passwd")
        return Owner(name, found)
    if accounts.group(groups[0]) is None:
        raise _refused(f'Error during groupname lookup for "{groups[0]}": no such group')
    return Owner(name, groups[0])


def _user(wanted: str, accounts: Accounts, *, has_group: bool) -> tuple[str, str]:
    """Return the user's name and the group that goes with it when none is named."""
    if wanted.isdecimal():
        name = accounts.user_of(int(wanted))
        if name is None:
            raise _refused(f"Uid {wanted} has no entry in /etc/passwd")
        group = "" if has_group else accounts.group_of(int(wanted))
        if group is None:
            raise _refused(f"Gid {wanted} has no entry in /etc/group")
        return name, group
    name = DEFAULT_USER if wanted == DEFAULT else wanted
    if accounts.user(name) is None:
        if wanted != DEFAULT:
            raise _refused(f'Error during uid lookup for "{name}": no such user')
        _make_default(accounts)
    if not has_group and accounts.group(name) is None:
        raise _refused(f'Error during gid lookup for "{name}": no such group')
    return name, name


def _make_default(accounts: Accounts) -> None:
    """Make the user of ``default``, with ranges behind all others unless the tools of this host gave it some."""
    try:
        accounts.add_user(DEFAULT_USER)
        if not _ranges(accounts.subuid, (DEFAULT_USER,)):
            accounts.add_range(DEFAULT_USER, uids=_free(accounts.subuid), gids=_free(accounts.subgid))
    except (OSError, subprocess.CalledProcessError) as exc:
        text = exc.stderr.strip() if isinstance(exc, subprocess.CalledProcessError) else str(exc)
        raise _refused(f'Error during "{DEFAULT_USER}" user creation: {text}') from exc


def _ranges(path: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return first id and size of each range that the file gives to one of ``names``, in this order of the names."""
    found = []
    rows = list(_rows(path))
    for name in names:
        found += [(first, size) for owner, first, size in rows if owner == name]
    return found


def _rows(path: str) -> Sequence[tuple[str, int, int]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise _refused(f"Can't create ID mappings: open {path}: {exc.strerror}") from exc
    rows = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        fields = text.split(":")
        if len(fields) != _FIELDS:
            raise _refused(
                f"Can't create ID mappings: cannot parse subuid/gid information: Format not correct for {path} file"
            )
        if not (fields[1].isdecimal() and fields[2].isdecimal()):
            raise _refused(
                f"Can't create ID mappings: String to int conversion failed during subuid/gid parsing of {path}"
            )
        rows.append((fields[0], int(fields[1]), int(fields[2])))
    return rows


def _free(path: str) -> int:
    """Return the first id behind all ranges of the file."""
    return max([FIRST, *(first + size for _, first, size in _rows(path))])


def _laid_out(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return the ranges one after the other from container id 0 on."""
    inside, result = 0, []
    for first, size in ranges:
        result.append((inside, first, size))
        inside += size
    return result


def _refused(text: str) -> ConfigError:
    return ConfigError(f"failed to start daemon: {text}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
