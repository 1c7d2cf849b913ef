"""Quotas of volumes, on a file system that is played: the kernel of a test machine often has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput
from boxship.volumes import copyup, tree
from boxship.volumes.local import bounds
from boxship.volumes.timeline import snapshots


class Projects:
    """What ``linux.project_quota`` does, by inode and without a kernel; directories inherit from the one above."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}
        self.limits: dict[int, int] = {}
        self.seen: list[int] = []  # limits that were set, in order
        self.supported = True
        self.used = 0

    def project(self, fd: int) -> int:
        return self.of.get(os.fstat(fd).st_ino, 0)

    def set_project(self, fd: int, number: int) -> None:
        assert not os.listdir(fd)
        self.of[os.fstat(fd).st_ino] = number

    def unused(self, fd: int) -> int:
        if not self.supported:
            raise OSError(errno.ESRCH, "no quota")
        return 7000 + len(self.limits)

    def usage(self, fd: int, number: int) -> tuple[int, int]:
        return self.limits.get(number, 0), self.used

    def set_limit(self, fd: int, number: int, size: int) -> None:
        self.limits[number] = size
        self.seen.append(size)


@pytest.fixture
def projects(monkeypatch: pytest.MonkeyPatch) -> Projects:
    played = Projects()
    monkeypatch.setattr(bounds, "project_quota", played)
    return played


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "_data").mkdir()
    return tmp_path


def test_an_empty_directory_gets_a_project_and_another_limit_later(projects: Projects, volume: Path) -> None:
    data = str(volume / "_data")
    bounds.set_quota(data, 4096)
    (volume / "_data/file").touch()
    bounds.set_quota(data, 8192)
    assert projects.limits == {7000: 8192}
    bounds.lift_quota(data)
    assert projects.limits == {7000: 0}


def test_a_directory_with_content_and_no_quota_is_refused(projects: Projects, volume: Path) -> None:
    (volume / "_data/file").touch()
    with pytest.raises(InvalidInput, match="has content"):
        bounds.set_quota(str(volume / "_data"), 4096)
    assert projects.limits == {}


def test_a_file_system_without_quotas_is_refused_in_dockers_words(projects: Projects, volume: Path) -> None:
    projects.supported = False
    with pytest.raises(InvalidInput, match="quota size requested but no quota support"):
        bounds.set_quota(str(volume / "_data"), 4096)


def test_the_project_of_the_directory_above_is_not_ours_to_change(projects: Projects, volume: Path) -> None:
    for path in (volume, volume / "_data"):
        projects.of[path.stat().st_ino] = 5
    bounds.lift_quota(str(volume / "_data"))
    assert projects.seen == []


def test_a_restored_tree_has_the_bound_which_rests_meanwhile(projects: Projects, volume: Path) -> None:
    bounds.set_quota(str(volume / "_data"), 4096)
    fd = tree.open_directory(str(volume))
    try:
        with snapshots.staged(fd):
            assert projects.limits == {7000: 0}
    finally:
        os.close(fd)
    assert projects.limits == {7000: 4096}
    assert projects.of[(volume / "_data").stat().st_ino] == 7000


def test_what_an_image_has_counts_while_it_is_copied(projects: Projects, volume: Path, tmp_path: Path) -> None:
    bounds.set_quota(str(volume / "_data"), 4096)
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").touch()
    before = set(projects.of)
    fd, root_fd = tree.open_directory(str(volume)), tree.open_directory(str(root))
    try:
        assert copyup.copy_up(fd, root_fd, "/etc")
    finally:
        os.close(fd)
        os.close(root_fd)
    assert [projects.of[inode] for inode in set(projects.of) - before] == [7000]


def test_what_the_kernel_lets_root_write_is_refused_all_the_same(
    projects: Projects, volume: Path, tmp_path: Path
) -> None:
    bounds.set_quota(str(volume / "_data"), 4096)
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").touch()
    fd, root_fd = tree.open_directory(str(volume)), tree.open_directory(str(root))
    try:
        with pytest.raises(OSError, match="quota"), snapshots.staged(fd):
            projects.used = 5000
        with pytest.raises(OSError, match="quota"):
            copyup.copy_up(fd, root_fd, "/etc")
    finally:
        os.close(fd)
        os.close(root_fd)
    assert projects.limits == {7000: 4096}
    assert os.listdir(volume / "_data") == []
    assert sorted(os.listdir(volume)) == ["_data", "root"]
