"""Whose subordinate ids ``--userns-remap`` means, from tables of users and files of ranges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from boxship.base.identity import IdentityMapping
from boxship.daemon import remap
from boxship.daemon.config import ConfigError

USERS = {"root": 0, "app": 1000, "other": 1001}
GROUPS = {"root": 0, "app": 1000, "staff": 50}


class Accounts(remap.Accounts):
    """Tables in place of the host's."""

    def __init__(self, directory: Path, *, broken: bool = False) -> None:
        super().__init__(str(directory / "subuid"), str(directory / "subgid"))
        self.users, self.groups = dict(USERS), dict(GROUPS)
        self.made: list[str] = []
        self._broken = broken

    def user(self, name: str) -> int | None:
        return self.users.get(name)

    def user_of(self, uid: int) -> str | None:
        return next((name for name, known in self.users.items() if known == uid), None)

    def group(self, name: str) -> int | None:
        return self.groups.get(name)

    def group_of(self, gid: int) -> str | None:
        return next((name for name, known in self.groups.items() if known == gid), None)

    def add_user(self, name: str) -> None:
        if self._broken:
            raise subprocess.CalledProcessError(1, "useradd", stderr="useradd: cannot lock /etc/passwd\n")
        self.made.append(name)
        self.users[name] = self.groups[name] = 990

    def add_range(self, name: str, *, uids: int, gids: int) -> None:
        for path, first in ((self.subuid, uids), (self.subgid, gids)):
            with open(path, "a") as file:
                file.write(f"{name}:{first}:{remap.RANGE}\n")


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    (tmp_path / "subuid").write_text("# ranges\napp:100000:65536\n\n1000:500000:10\nother:165536:65536\n")
    (tmp_path / "subgid").write_text("app:200000:65536\nstaff:300000:1000\n")
    return Accounts(tmp_path)


UIDS = ((0, 100000, 65536), (65536, 500000, 10))


@pytest.mark.row("ENG-24")
@pytest.mark.parametrize(
    ("wanted", "gids"),
    [
        ("app", ((0, 200000, 65536),)),
        ("1000", ((0, 200000, 65536),)),
        ("app:app", ((0, 200000, 65536),)),
        ("app:staff", ((0, 300000, 1000),)),
        ("1000:50", ((0, 300000, 1000),)),
    ],
)
def test_a_user_and_group_are_named_by_name_or_number(accounts: Accounts, wanted: str, gids: object) -> None:
    mapping = remap.resolve(wanted, accounts)
    assert mapping is not None
    assert (mapping.uids, mapping.gids) == (UIDS, gids)


@pytest.mark.row("ENG-24")
def test_the_data_root_gets_a_directory_of_container_roots_ids(accounts: Accounts) -> None:
    mapping = remap.resolve("app", accounts)
    assert mapping is not None
    assert remap.directory("/var/lib/boxship", mapping) == "/var/lib/boxship/100000.200000"


@pytest.mark.row("ENG-24")
def test_default_makes_its_user_with_ranges_behind_all_others_once(accounts: Accounts) -> None:
    first = remap.resolve("default", accounts)
    assert first == IdentityMapping([(0, 500010, 65536)], [(0, 301000, 65536)])
    assert remap.resolve("default", accounts) == first
    assert accounts.made == ["dockremap"]


def test_ranges_begin_where_login_defs_says_on_a_host_that_has_none(tmp_path: Path) -> None:
    assert remap.resolve("default", Accounts(tmp_path)) == IdentityMapping([(0, 100000, 65536)], [(0, 100000, 65536)])


def test_root_is_not_remapped(accounts: Accounts) -> None:
    assert remap.resolve("root", accounts) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("nobody", 'Error during uid lookup for "nobody"'),
        ("4711", "Uid 4711 has no entry in /etc/passwd"),
        ("1001", "Gid 1001 has no entry in /etc/group"),
        ("other", 'Error during gid lookup for "other"'),
        ("app:nogroup", 'Error during groupname lookup for "nogroup"'),
        ("app:4711", "Gid 4711 has no entry in /etc/passwd"),
        ("a:b:c", 'Invalid user/group specification in --userns-remap: "a:b:c"'),
        (":app", 'Invalid user/group specification in --userns-remap: ":app"'),
        ("other:staff", None),
        ("other:root", 'Can\'t create ID mappings: no subgid ranges found for user "other"'),
    ],
)
def test_what_the_host_does_not_know_is_an_error_in_dockers_words(
    accounts: Accounts, wanted: str, words: str | None
) -> None:
    if words is None:
        assert remap.resolve(wanted, accounts) is not None
        return
    with pytest.raises(ConfigError) as failed:
        remap.resolve(wanted, accounts)
    assert str(failed.value).startswith(f"failed to start daemon: {words}")


def test_a_user_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Error during "dockremap" user creation: useradd: cannot lock /etc/passwd'):
        remap.resolve("default", Accounts(tmp_path, broken=True))


@pytest.mark.parametrize("line", ["app:1", "app:x:1", "app:1:-5", "app:1:1:1"])
def test_a_broken_file_of_ranges_is_an_error(accounts: Accounts, line: str) -> None:
    Path(accounts.subuid).write_text(f"{line}\n")
    with pytest.raises(ConfigError, match="Can't create ID mappings"):
        remap.resolve("app", accounts)


def test_an_empty_range_maps_nobody(accounts: Accounts) -> None:
    Path(accounts.subuid).write_text("app:100000:0\n")
    with pytest.raises(ConfigError, match="Can't create ID mappings"):
        remap.resolve("app", accounts)
