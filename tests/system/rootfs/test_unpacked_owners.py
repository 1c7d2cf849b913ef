"""Owners of unpacked files are the archive's, whatever directories they are put into."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from boxship.snapshots import apply
from boxship.snapshots.tar_reader import TarReader

pytestmark = pytest.mark.system


def test_files_of_root_stay_its_own_in_a_directory_that_gives_its_group(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, gid, mode in (
            ("d", tarfile.DIRTYPE, 50, 0o2775),
            ("d/file", tarfile.REGTYPE, 0, 0o644),
            ("d/link", tarfile.SYMTYPE, 0, 0o777),
            ("d/fifo", tarfile.FIFOTYPE, 0, 0o600),
            ("d/sub", tarfile.DIRTYPE, 0, 0o755),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.gid, entry.mode, entry.linkname = kind, gid, mode, "file"
            tar.addfile(entry)
    buffer.seek(0)
    root_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        apply.unpack(TarReader(buffer), root_fd)
    finally:
        os.close(root_fd)

    found = {
        path.name: (path.lstat().st_gid, oct(path.lstat().st_mode & 0o7777)) for path in (tmp_path / "d").iterdir()
    }
    assert (tmp_path / "d").stat().st_gid == 50
    assert found == {"file": (0, "0o644"), "link": (0, "0o777"), "fifo": (0, "0o600"), "sub": (0, "0o755")}
