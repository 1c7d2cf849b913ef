import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import fs
from boxship.runtime import copy_up, places


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, fs.O_PATH)
    yield fd
    os.close(fd)


def test_missing_directories_are_made(root: Path, root_fd: int) -> None:
    os.close(places.find_or_make(root_fd, "/a/b/c", directory=True))
    assert (root / "a/b/c").is_dir()


def test_a_missing_file_is_made_empty(root: Path, root_fd: int) -> None:
    os.close(places.find_or_make(root_fd, "/a/file", directory=False))
    assert (root / "a/file").read_bytes() == b""


def test_what_exists_is_left_alone(root: Path, root_fd: int) -> None:
    (root / "file").write_text("kept")
    os.close(places.find_or_make(root_fd, "/file", directory=False))
    assert (root / "file").read_text() == "kept"


@pytest.mark.parametrize("target", ["/outside", "../outside", "/../../outside"])
def test_r6_nothing_is_made_through_a_link_out_of_the_root(
    tmp_path: Path, root: Path, root_fd: int, target: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "outside").mkdir()
    (root / "dev").symlink_to(target)
    os.close(places.find_or_make(root_fd, "/dev/null", directory=False))
    assert list(outside.iterdir()) == []
    assert (root / "outside/null").exists()


def test_what_a_dangling_link_names_is_made_inside_the_root(tmp_path: Path, root: Path, root_fd: int) -> None:
    (root / "sub").mkdir()
    (root / "dev").symlink_to("/sub/../not/there")
    (root / "sub/up").symlink_to("../../../../beside")
    os.close(places.find_or_make(root_fd, "/dev/null", directory=False))
    os.close(places.find_or_make(root_fd, "/sub/up", directory=True))
    assert (root / "not/there/null").is_file()
    assert (root / "beside").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_chain_of_dangling_links_has_an_end(root: Path, root_fd: int) -> None:
    for number in range(20):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    with pytest.raises(FileExistsError):
        places.find_or_make(root_fd, "/l0", directory=True)


def test_without_links_any_link_is_an_error(root: Path, root_fd: int) -> None:
    (root / "real").mkdir()
    (root / "proc").symlink_to("real")
    with pytest.raises(OSError, match="symbolic links"):
        places.find(root_fd, "/proc", links=False)


def test_dots_cannot_climb_out(root: Path, root_fd: int) -> None:
    os.close(places.find_or_make(root_fd, "/../../x", directory=True))
    assert (root / "x").is_dir()


def test_copy_up_keeps_modes_and_links(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "below").mkdir(parents=True)
    target.mkdir()
    (source / "below/file").write_text("text")
    (source / "below/file").chmod(0o640)
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    source_fd, target_fd = os.open(source, fs.O_PATH), os.open(target, fs.O_PATH)
    copy_up.copy(source_fd, target_fd)
    os.close(source_fd)
    os.close(target_fd)
    assert (target / "below/file").read_text() == "text"
    assert (target / "below/file").stat().st_mode & 0o777 == 0o640
    assert os.readlink(target / "link") == "/etc/passwd"
    assert not (target / "pipe").exists()
