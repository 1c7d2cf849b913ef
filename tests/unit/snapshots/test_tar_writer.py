import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.snapshots import tree
from boxship.snapshots.tar_reader import CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry, TarReader
from boxship.snapshots.tar_writer import TarWriter


def written(entry: Entry) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    writer.add(entry)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "type", "fields"),
    [
        ("f", REGULAR, {"mode": 0o6755, "uid": 1, "gid": 2, "mtime_ns": 5 * 10**9}),
        ("d/", DIRECTORY, {"mode": 0o1777}),
        ("l", SYMLINK, {"linkname": "x" * 100}),
        ("l", SYMLINK, {"linkname": "x" * 101}),
        ("h", LINK, {"linkname": "ünïcode"}),
        ("c", CHARACTER, {"major": 1, "minor": 3}),
        ("p", FIFO, {}),
        ("n" * 100, REGULAR, {}),
        ("n" * 101, REGULAR, {}),
        ("p" * 155 + "/" + "n" * 100, REGULAR, {}),
        ("p" * 156 + "/" + "n" * 100, REGULAR, {}),
        ("p" * 150 + "/" + "d" * 99 + "/", DIRECTORY, {}),
        (os.fsdecode(b"\xff\xfe"), REGULAR, {}),
        ("f", REGULAR, {"uid": 8**7, "gid": 2**32 - 2, "mtime_ns": -(10**9)}),
        ("f", REGULAR, {"mtime_ns": 8**11 * 10**9}),
        ("f", REGULAR, {"xattrs": {"user.a": b"\0\xff=\n", "security.capability": b"x" * 20}}),
        *[("n" * length, REGULAR, {}) for length in range(980, 1010, 3)],
    ],
)
def test_what_is_written_is_read_back(name: str, type: bytes, fields: dict[str, object]) -> None:
    entry = Entry(name, type, 0o644)
    for field, value in fields.items():
        setattr(entry, field, value)
    data = written(entry)
    assert len(data) % 512 == 0
    if entry.mtime_ns >= 0:
        (again,) = TarReader(io.BytesIO(data))
        for field in Entry.__slots__:
            assert getattr(again, field) == getattr(entry, field), field
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as oracle:
        (member,) = oracle.getmembers()
        assert member.name == name.rstrip("/")
        assert (member.uid, member.gid, member.mode) == (entry.uid, entry.gid, entry.mode)
        assert member.mtime == entry.mtime_ns // 10**9


def test_a_file_larger_than_ustar_can_say_is_announced(tmp_path: Path) -> None:
    entry = Entry("f", REGULAR, 0o644)
    entry.size = 8**11
    out = io.BytesIO()
    TarWriter(out).add(entry)
    assert b"19 size=8589934592\n" in out.getvalue()


def test_further_names_of_a_file_become_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    os.link(tmp_path / "a", tmp_path / "b")
    out = io.BytesIO()
    writer = TarWriter(out)
    with tree.opened(tree.open_root(str(tmp_path))) as fd:
        for path, parent_fd, status in tree.walk(fd):
            assert writer.add_file(parent_fd, path, path, status)
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as oracle:
        assert [(m.name, m.type, m.linkname) for m in oracle] == [("a", b"0", ""), ("b", b"1", "a")]
    assert writer.content == 7


def test_a_file_that_shrinks_meanwhile_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"y" * 1000)

    class Shrinking(io.BytesIO):
        def write(self, data: object) -> int:
            os.truncate(tmp_path / "a", 10)  # between the header, which is written first, and the content
            return super().write(data)  # type: ignore[arg-type]

    out = Shrinking()
    writer = TarWriter(out)
    with tree.opened(tree.open_root(str(tmp_path))) as fd:
        writer.add_file(fd, "a", "a", (tmp_path / "a").lstat())
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as oracle:
        file = oracle.extractfile("a")
        assert file is not None
        assert file.read() == b"y" * 10 + bytes(990)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))])
def test_what_takes_a_files_place_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "a").write_bytes(b"x")
    status = (tmp_path / "a").lstat()
    (tmp_path / "a").unlink()
    try:
        make(tmp_path / "a")
    except PermissionError:
        pytest.skip("needs root")
    out = io.BytesIO()
    with tree.opened(tree.open_root(str(tmp_path))) as fd, pytest.raises(FileNotFoundError):
        TarWriter(out).add_file(fd, "a", "a", status)
    assert out.getvalue() == b""


def test_sockets_are_left_out(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as made, tree.opened(tree.open_root(str(tmp_path))) as fd:
        made.bind(str(tmp_path / "s"))
        assert TarWriter(io.BytesIO()).add_file(fd, "s", "s", (tmp_path / "s").lstat()) is False
