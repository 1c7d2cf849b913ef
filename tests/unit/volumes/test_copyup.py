"""Copy-up: what arrives in an empty volume, and what never happens to a full one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxship.volumes import copyup, tree


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "image"
    (root / "data/sub").mkdir(parents=True)
    (root / "data/file").write_text("content")
    (root / "data/sub/deep").write_text("deep")
    os.link(root / "data/file", root / "data/sub/same")
    (root / "data/link").symlink_to("/etc/passwd")
    os.mkfifo(root / "data/pipe", 0o640)
    (root / "data/file").chmod(0o4755)
    os.utime(root / "data/file", ns=(1_000_000_000, 2_000_000_000))
    (root / "alias").symlink_to("/data")
    (root / "escape").symlink_to("../../../../../../etc")
    (root / "data").chmod(0o1777)
    fd = os.open(root, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    (path / "_data").mkdir(parents=True)
    return path


def copy(volume, image, path="/data"):
    fd = tree.open_directory(str(volume))
    try:
        return copyup.copy_up(fd, image, path)
    finally:
        os.close(fd)


@pytest.mark.row("VOL-11")
def test_an_empty_volume_gets_content_modes_links_and_times(volume, image):
    assert copy(volume, image)
    data = volume / "_data"
    assert sorted(os.listdir(data)) == ["file", "link", "pipe", "sub"]
    assert (data / "sub/deep").read_text() == "deep"
    assert os.readlink(data / "link") == "/etc/passwd"
    assert data.stat().st_mode & 0o7777 == 0o1777
    status = (data / "file").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o4755, 2_000_000_000)
    assert status.st_ino == (data / "sub/same").stat().st_ino
    assert (data / "pipe").is_fifo()
    assert os.listdir(volume) == ["_data"]


def test_a_link_in_the_image_path_stays_inside_the_image(volume, image):
    assert copy(volume, image, "/alias")
    assert (volume / "_data/file").exists()


def test_a_link_out_of_the_image_copies_nothing(volume, image):
    assert not copy(volume, image, "/escape")
    assert os.listdir(volume / "_data") == []


def test_a_volume_with_content_is_left_alone(volume, image):
    (volume / "_data/mine").write_text("mine")
    assert not copy(volume, image)
    assert os.listdir(volume / "_data") == ["mine"]


def test_a_missing_directory_or_a_file_copies_nothing(volume, image):
    assert not copy(volume, image, "/nothing")
    assert not copy(volume, image, "/data/file")


def test_recover_throws_a_half_copy_away_and_finishes_a_whole_one_without_replacing(volume):
    (volume / ".copy-up.partial/half").mkdir(parents=True)
    (volume / ".copy-up/dir").mkdir(parents=True)
    (volume / ".copy-up/file").write_text("image's")
    (volume / ".copy-up/other").write_text("image's")
    (volume / "_data/file").write_text("user's")
    fd = tree.open_directory(str(volume))
    copyup.recover(fd)
    os.close(fd)
    assert (volume / "_data/file").read_text() == "user's"
    assert (volume / "_data/other").read_text() == "image's"
    assert os.listdir(volume) == ["_data"]


def test_a_tree_deeper_than_descriptors_reach_is_removed(tmp_path):
    top = tree.open_directory(str(tmp_path))
    here = os.dup(top)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = tree.open_directory("d", here)
        os.close(here)
        here = below
    os.close(here)
    assert tree.size(top) == 0
    tree.remove("d", top)
    os.close(top)
    assert list(Path(tmp_path).iterdir()) == []
