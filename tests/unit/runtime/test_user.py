"""Fault R8: a user is exactly the one that was asked for, or an error; never root by accident."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import fs
from boxship.runtime.user import UserError, home_of, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
www:x:33:33:www:/var/www:/bin/sh
4242:x:7:7::/home/number:/bin/sh
bad:x:abc:0::/:/bin/sh
huge:x:4294967296:0::/:/bin/sh
nohome:x:50:51
app:x:1000:1000:App:/home/app:/bin/sh
"""
GROUP = """root:x:0:
www:x:33:
app:x:1000:
extra:x:44:www,app
more:x:45:app
1234:x:46:
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, fs.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.row("RUN-37")
@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [0], "/root"),
        ("root", 0, 0, [0], "/root"),
        ("1", 1, 0, [0], "/"),
        ("1:", 1, 0, [0], "/"),
        (":1", 0, 1, [1], "/root"),
        ("01", 1, 0, [0], "/"),
        ("+1", 1, 0, [0], "/"),
        ("33", 33, 33, [33, 44], "/var/www"),
        ("www", 33, 33, [33, 44], "/var/www"),
        ("app", 1000, 1000, [1000, 44, 45], "/home/app"),
        ("app:www", 1000, 33, [33], "/home/app"),
        ("app:9999", 1000, 9999, [9999], "/home/app"),
        ("4242", 4242, 0, [0], "/"),
        ("1000:1234", 1000, 1234, [1234], "/home/app"),
        ("2147483647", 2147483647, 0, [0], "/"),
    ],
)
def test_r8_a_user_is_exactly_the_one_asked_for(
    root_fd: int, text: str, uid: int, gid: int, groups: list[int], home: str
) -> None:
    user = resolve_user(root_fd, text, [])
    assert (user.uid, user.gid, user.groups, user.home) == (uid, gid, groups, home)


@pytest.mark.row("RUN-37")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("app:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("4294967295", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("0:4294967296", "uids and gids must be in range 0-2147483647"),
        ("huge", "uids and gids must be in range 0-2147483647"),
        ("99999999999999999999", "unable to find user 99999999999999999999: no matching entries in passwd file"),
        ("\u0661", "unable to find user \u0661: no matching entries in passwd file"),
        ("1x", "unable to find user 1x: no matching entries in passwd file"),
        (" 1", "unable to find user  1: no matching entries in passwd file"),
        ("bad", "unable to find user bad: no matching entries in passwd file"),
        ("nohome", "unable to find user nohome: no matching entries in passwd file"),
    ],
)
def test_r8_anything_else_is_an_error(root_fd: int, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_user(root_fd, text, [])
    assert str(caught.value) == message


@pytest.mark.row("RUN-37")
def test_additional_groups_are_names_or_numbers(root_fd: int) -> None:
    assert resolve_user(root_fd, "www", ["more", "77"]).groups == [33, 44, 45, 77]
    with pytest.raises(UserError, match="unable to find group none: no matching entries in group file"):
        resolve_user(root_fd, "www", ["none"])


def test_r8_a_passwd_file_that_is_a_pipe_does_not_hang(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(UserError, match="not a regular file"):
        resolve_user(root_fd, "app", [])


def test_r8_a_passwd_link_is_followed_inside_the_root_only(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("../../../../../../../../etc/shadow")
    with pytest.raises(UserError, match="no matching entries in passwd file"):
        resolve_user(root_fd, "daemon", [])


def test_r8_an_endless_passwd_file_is_refused_within_bounds(root: Path, root_fd: int) -> None:
    with open(root / "etc/passwd", "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="too large"):
        resolve_user(root_fd, "app", [])


def test_without_files_numbers_still_work(tmp_path: Path) -> None:
    fd = os.open(tmp_path, fs.O_PATH)
    try:
        user = resolve_user(fd, "5:6", [])
    finally:
        os.close(fd)
    assert (user.uid, user.gid, user.groups, user.home) == (5, 6, [6], "/")


def test_home_is_known_by_uid(root_fd: int) -> None:
    assert home_of(root_fd, 1000) == "/home/app"
    assert home_of(root_fd, 31337) == "/"
