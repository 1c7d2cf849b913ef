"""What a client's path means inside a container."""

import os
import stat
from pathlib import Path

import pytest

from boxship.engine.model import ResolvedMount
from boxship.engine.rootfs import paths
from boxship.engine.rootfs.trees import NotThere, open_running, writable_place
from boxship.linux import pidfd


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "run/lock").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "file").write_text("12345")
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "broken").symlink_to("/run/none/deep")
    (tmp_path / "loop").symlink_to("loop")
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.parametrize(
    ("path", "expected", "name"),
    [
        ("", "/", "/"),
        ("/", "/", "/"),
        ("a", "/a", "a"),
        ("/a/", "/a/", "a"),
        ("/a/.", "/a/.", "."),
        (".", "/.", "."),
        ("../../x", "/x", "x"),
        ("//a//b", "/a/b", "b"),
    ],
)
def test_paths_are_absolute_and_keep_their_end(path: str, expected: str, name: str) -> None:
    assert paths.absolute(path) == expected
    assert paths.last_name(expected) == name


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o4755, 1 << 23 | 0o755),
        (stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFLNK | 0o777, 134218239),
        (stat.S_IFIFO | 0o644, 33554852),
        (stat.S_IFCHR | 0o600, 1 << 26 | 1 << 21 | 0o600),
        (stat.S_IFBLK | 0o600, 1 << 26 | 0o600),
    ],
)
def test_modes_are_gos(mode: int, expected: int) -> None:
    assert paths.go_mode(mode) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/run/lock", "/run/lock"),
        ("/up", "/etc"),
        ("/broken", "/run/none/deep"),
        ("/var/run/new/file", "/run/new/file"),
        ("/none", "/none"),
    ],
)
def test_resolve_stays_inside_and_keeps_what_is_missing(root: int, path: str, expected: str) -> None:
    assert paths.resolve(root, path) == expected
    os.close(root)


def test_describe_looks_at_a_link_itself_unless_a_slash_follows(root: int) -> None:
    assert paths.describe(root, "/var/run").link_target == "/run"
    assert stat.S_ISDIR(paths.describe(root, "/var/run/").status.st_mode)
    assert paths.describe(root, "/file").status.st_size == 5
    with pytest.raises(FileNotFoundError):
        paths.describe(root, "/none")
    with pytest.raises(NotADirectoryError):
        paths.describe(root, "/file/")
    os.close(root)


def test_the_innermost_mount_decides_whether_a_place_may_be_written() -> None:
    mounts = [
        ResolvedMount(type="bind", source="/s", target="/data", read_only=True),
        ResolvedMount(type="volume", source="/v", target="/data/rw"),
    ]
    assert writable_place("/data", mounts) is False
    assert writable_place("/data/rw/x", mounts) is True
    assert writable_place("/database", mounts) is None


def test_a_process_that_is_not_the_one_meant_gives_no_tree() -> None:
    with pytest.raises(NotThere):
        open_running(os.getpid(), pidfd.start_time(os.getpid()) + 1)
    root_fd = open_running(os.getpid(), pidfd.start_time(os.getpid()))
    assert os.path.samestat(os.fstat(root_fd), os.stat("/"))
    os.close(root_fd)
