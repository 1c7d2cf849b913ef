import errno
import os
from pathlib import Path

import pytest

from boxship.linux import fs


def _open(root: Path, path: str, resolve: int) -> int:
    root_fd = os.open(root, fs.O_PATH)
    try:
        return fs.openat2(root_fd, path, fs.O_PATH, resolve=resolve)
    finally:
        os.close(root_fd)


def test_a_link_out_of_the_root_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to("/../../etc")
    fd = _open(tmp_path, "link", fs.RESOLVE_IN_ROOT)
    try:
        assert os.path.samestat(os.fstat(fd), (tmp_path / "etc").stat())
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_magic_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        _open(Path("/proc"), "self/root/etc", fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_MAGICLINKS)
    assert caught.value.errno == errno.ELOOP


def test_beneath_refuses_to_climb(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        _open(tmp_path, "../x", fs.RESOLVE_BENEATH)
    assert caught.value.errno == errno.EXDEV


def test_close_range_closes_both_ends_of_the_range() -> None:
    low = os.dup(0)
    middle, high = os.dup2(0, low + 1), os.dup2(0, low + 2)
    os.close(low)
    fs.close_range(middle, high)
    for fd in (middle, high):
        with pytest.raises(OSError):
            os.fstat(fd)


def test_procfs_is_recognised() -> None:
    fd = os.open("/proc", fs.O_PATH)
    try:
        assert fs.fstatfs_type(fd) == fs.PROC_SUPER_MAGIC
    finally:
        os.close(fd)
