"""The directory of a container's checkpoints: names, links that lead elsewhere, and what a crash left."""

import fcntl
import os
from pathlib import Path

import pytest

from boxship.base.errors import Conflict, Forbidden, InvalidInput
from boxship.engine.checkpoints import directory as directories

pytestmark = pytest.mark.row("RUN-50")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "containers" / "1"
    path.mkdir(parents=True)
    return path


def make(container: Path, name: str) -> Path:
    path = container / "checkpoints" / name
    path.mkdir(parents=True)
    path.chmod(0o700)
    (path.parent).chmod(0o700)
    (path / "pages-1.img").write_bytes(b"memory")
    return path


@pytest.mark.parametrize("name", ["", "x", "-a", ".hidden", "a/b", "../up", "a b", "é1", "a\n", "a" * 300])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid checkpoint ID"):
        directories.check_name(name)


@pytest.mark.parametrize("name", ["one", "2nd", "a.b_c-d", "a" * 240])
def test_a_name_may_be_what_docker_lets_it_be(name: str) -> None:
    directories.check_name(name)


def test_names_are_those_of_whole_checkpoints(container: Path) -> None:
    for name in ("two", "one", ".three.partial"):
        make(container, name)
    (container / "checkpoints" / "file").write_text("")
    (container / "checkpoints" / "link").symlink_to(container)
    with directories.opened(str(container), "") as fd:
        assert directories.names(fd) == ["one", "two"]


def test_the_directory_is_made_where_it_is_missing(container: Path, tmp_path: Path) -> None:
    for custom in ("", str(tmp_path / "a" / "b")):
        with directories.opened(str(container), custom) as fd:
            assert directories.names(fd) == []
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_custom_directory_must_be_absolute(container: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="must be an absolute path: backup"),
        directories.opened(str(container), "backup"),
    ):
        pass


def test_a_link_in_place_of_the_directory_is_not_followed(container: Path, tmp_path: Path) -> None:
    (container / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic"), directories.opened(str(container), ""):
        pass


@pytest.mark.parametrize("name", ["link", "../../secret", "gone", "file"])
def test_only_a_directory_inside_can_be_restored_or_removed(container: Path, name: str) -> None:
    make(container, "one")
    secret = container.parent / "secret"
    secret.mkdir()
    (container / "checkpoints" / "link").symlink_to(secret)
    (container / "checkpoints" / "file").write_text("")
    with directories.opened(str(container), "") as fd:
        for work in (directories.open_images, directories.remove):
            with pytest.raises((directories.NoSuchCheckpoint, OSError)) as caught:
                work(fd, name, "web")
            assert name == "link" or str(caught.value) == f"checkpoint {name} does not exist for container web"
    assert secret.is_dir()


def test_a_checkpoint_that_others_can_write_is_not_restored(container: Path) -> None:
    make(container, "one").chmod(0o770)
    with directories.opened(str(container), "") as fd, pytest.raises(Forbidden, match="written by others than root"):
        directories.open_images(fd, "one", "web")


def test_a_checkpoint_is_removed_with_all_its_files(container: Path) -> None:
    path = make(container, "one")
    with directories.opened(str(container), "") as fd:
        directories.remove(fd, "one", "web")
        with pytest.raises(directories.NoSuchCheckpoint):
            directories.remove(fd, "one", "web")
    assert not path.exists()


def test_a_name_that_is_taken_is_not_free(container: Path) -> None:
    make(container, "one")
    (container / "checkpoints" / "file").write_text("")
    with directories.opened(str(container), "") as fd:
        directories.check_free(fd, "two", "web")
        with pytest.raises(Conflict, match="checkpoint with name one already exists for container web"):
            directories.check_free(fd, "one", "web")
        with pytest.raises(Conflict, match="file exists and is not a directory"):
            directories.check_free(fd, "file", "web")


def test_a_sweep_takes_what_nobody_works_on(container: Path) -> None:
    make(container, "one")
    make(container, ".left.partial")
    busy = make(container, ".busy.partial")
    fd = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert directories.sweep(str(container)) == [".left.partial"]
    finally:
        os.close(fd)
    assert sorted(os.listdir(container / "checkpoints")) == [".busy.partial", "one"]
    assert directories.sweep(str(container / "gone")) == []
