"""Hostile archives: whatever they hold, nothing outside the directory changes and no descriptor stays open."""

import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxship.base.errors import BoxshipError
from boxship.snapshots import apply, tree
from boxship.snapshots.overlay import OverlayWhiteouts
from boxship.snapshots.tar_reader import REGULAR, Entry, TarReader
from boxship.snapshots.tar_writer import TarWriter
from boxship.snapshots.vfs import Deletions
from harness.hostile_archives import archives

pytestmark = pytest.mark.system  # owners and devices

PLACE = Path(tempfile.gettempdir()) / f"boxship-fuzz-{os.getpid()}"  # known before the archives are drawn
OUT = str(PLACE / "out")
SETTINGS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def place() -> Iterator[Path]:
    for path in (PLACE, PLACE / "in", PLACE / "out", PLACE / "out/directory"):
        path.mkdir()
    (PLACE / "out/kept").write_bytes(b"kept")
    yield PLACE
    with tree.opened(tree.open_root(str(PLACE.parent))) as fd:
        tree.remove(fd, PLACE.name)


def digest(directory: Path) -> str:
    hash = hashlib.sha256()
    for path in sorted([directory, *directory.rglob("*")]):
        s = path.lstat()
        hash.update(repr((str(path), s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_nlink, s.st_ino)).encode())
        hash.update(repr(os.listxattr(path, follow_symlinks=False)).encode())
        hash.update(path.read_bytes() if path.is_file() else b"")
    return hash.hexdigest()


def descriptors() -> int:
    with os.scandir("/proc/self/fd") as entries:
        return sum(1 for _ in entries)


def unpack(data: bytes, place: Path, kind: str) -> None:
    """Unpack into an empty directory and see that only it changed."""
    outside, open_before = digest(place / "out"), descriptors()
    with tree.opened(tree.open_root(str(place / "in"))) as fd:
        tree.clear(fd)
        whiteouts = {"overlay": OverlayWhiteouts, "vfs": Deletions}.get(kind)
        try:
            apply.unpack(
                TarReader(io.BytesIO(data)), fd, whiteouts=whiteouts() if whiteouts else None, keep_kinds=kind == "copy"
            )
        except BoxshipError as exc:
            str(exc).encode()  # goes into a JSON answer
        finally:
            tree.clear(fd)
    assert digest(place / "out") == outside
    assert descriptors() <= open_before  # fewer: what earlier tests left was collected meanwhile
    assert sorted(entry.name for entry in os.scandir(place)) == ["in", "out"]


@pytest.mark.parametrize("kind", ["overlay", "vfs", "plain", "copy"])
@SETTINGS
@given(data=archives(OUT))
def test_c6_nothing_outside_changes(place: Path, kind: str, data: bytes) -> None:
    unpack(data, place, kind)


@SETTINGS
@given(
    data=archives(OUT), flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=20)
)
def test_c6_flipped_bytes_are_an_error_or_another_archive(
    place: Path, data: bytes, flips: list[tuple[int, int]]
) -> None:
    changed = bytearray(data)
    for position, value in flips:
        start = position % len(changed)
        changed[start] = value
        block = changed[start // 512 * 512 :][:512]
        block[148:156] = b"        "  # a right checksum lets the fields through
        changed[start // 512 * 512 + 148 : start // 512 * 512 + 156] = b"%06o\0 " % sum(block)
    unpack(bytes(changed), place, "overlay")


@SETTINGS
@given(data=st.binary(max_size=3000))
def test_any_bytes_are_an_error_or_an_archive(place: Path, data: bytes) -> None:
    unpack(data, place, "plain")


@SETTINGS
@given(
    entries=st.dictionaries(
        st.lists(st.text("abcdeü\n ", min_size=1, max_size=90), min_size=1, max_size=4).map("/".join),
        st.tuples(st.binary(max_size=2000), st.integers(0, 0o7777), st.integers(0, 2**32 - 2), st.integers(0, 2**34)),
        max_size=8,
    )
)
def test_the_round_trip_agrees_with_the_oracle(place: Path, entries: dict[str, tuple[bytes, int, int, int]]) -> None:
    out = io.BytesIO()
    writer = TarWriter(out)
    for name, (data, mode, uid, seconds) in entries.items():
        entry = Entry(name, REGULAR, mode)
        entry.uid, entry.size, entry.mtime_ns = uid, len(data), seconds * 10**9
        writer.add(entry)
        out.write(data + bytes(-len(data) % 512))
    writer.finish()
    out.seek(0)
    with tarfile.open(fileobj=out, errors="surrogateescape") as oracle:
        seen = {m.name: (oracle.extractfile(m).read(), m.mode, m.uid, int(m.mtime)) for m in oracle}  # type: ignore[union-attr]
    assert seen == entries
    out.seek(0)
    reader = TarReader(out)
    again = {e.name: (b"".join(bytes(p) for p in reader.data()), e.mode, e.uid, e.mtime_ns // 10**9) for e in reader}
    assert again == entries


def test_a_path_as_deep_as_a_name_can_say_is_unpacked(place: Path) -> None:
    name = "/".join(["d"] * 2047)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    with tree.opened(tree.open_root(str(place / "in"))) as fd:
        apply.unpack(TarReader(io.BytesIO(out.getvalue())), fd)
        assert sum(stat.S_ISREG(status.st_mode) for _, _, status in tree.walk(fd)) == 1
