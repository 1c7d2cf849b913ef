"""COPY and ADD: which files go where, and what their digest depends on."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.build.files import Archive
from boxship.build.graph import Copy
from boxship.build.steps.copying import CopyFailed, LayerWriter, Owner, Selection
from boxship.build.steps.target import Target

Members = dict[str, tuple[str, str]]  # path: kind and content or link


def _archive(directory: Path, members: Members, *, mtime: int = 0, mode: int = 0o644, uid: int = 0) -> Archive:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (kind, text) in members.items():
            entry = tarfile.TarInfo(path)
            entry.mtime, entry.mode, entry.uid = mtime, mode if kind == "file" else 0o755, uid
            if kind == "file":
                entry.size = len(text)
            else:
                entry.type = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind]
                entry.linkname = text
            tar.addfile(entry, io.BytesIO(text.encode()) if kind == "file" else None)
    buffer.seek(0)
    archive = Archive(str(directory))
    try:
        archive.fill(buffer)
    except BaseException:
        archive.close()
        raise
    return archive


FILES: Members = {
    "a1": ("file", "one"),
    "a2": ("file", "two"),
    "d": ("dir", ""),
    "d/x": ("file", "x"),
    "d/s/y": ("file", "y"),
    "out": ("link", "../../../../etc/passwd"),
    "abs": ("link", "/d"),
    "loop": ("link", "loop"),
}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Archive]:
    archive = _archive(tmp_path, FILES)
    yield archive
    archive.close()


def _written(files: Archive, copy: Copy, target: Target | None = None, **options: object) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    writer = LayerWriter(out, target or Target(None), **options)  # type: ignore[arg-type]
    writer.copy(Selection(files, copy, verb="COPY", local=True), 5 * 10**9)
    writer.finish()
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {member.name: member for member in tar}


def _digest(files: Archive, *sources: str, target: str = "/x/", **fields: object) -> str:
    copy = Copy(sources=sources, target=target, **fields)  # type: ignore[arg-type]
    return Selection(files, copy, verb="COPY", local=True).digest()[0]


@pytest.mark.parametrize(
    ("sources", "target", "expected"),
    [
        (("/a1",), "/x", ["x"]),
        (("/a1",), "/x/", ["x", "x/a1"]),
        (("/a?",), "/x/", ["x", "x/a1", "x/a2"]),
        (("/a[2-9]",), "/x/", ["x", "x/a2"]),
        (("/d",), "/x", ["x", "x/s", "x/s/y", "x/x"]),
        (("/abs/",), "/x/", ["x", "x/s", "x/s/y", "x/x"]),
        (("/d", "/a1"), "/x/", ["x", "x/a1", "x/s", "x/s/y", "x/x"]),
        (("/d/../a1",), "/x/y/z", ["x", "x/y", "x/y/z"]),
    ],
)
def test_sources_go_where_docker_puts_them(
    files: Archive, sources: tuple[str, ...], target: str, expected: list[str]
) -> None:
    assert sorted(_written(files, Copy(sources=sources, target=target))) == expected


def test_parents_keeps_the_way_to_a_file(files: Archive) -> None:
    assert "x/d/s/y" in _written(files, Copy(sources=("/d/s/y",), target="/x/", parents=True))
    assert "x/s/y" in _written(files, Copy(sources=("/d/./s/y",), target="/x/", parents=True))


def test_excluded_files_are_left_out_and_do_not_count(files: Archive, tmp_path: Path) -> None:
    copy = Copy(sources=("/d",), target="/x", exclude=("s",))
    other = _archive(tmp_path, {**FILES, "d/s/y": ("file", "changed")})

    assert sorted(_written(files, copy)) == ["x", "x/x"]
    assert _digest(files, "/d", exclude=("s",)) == _digest(other, "/d", exclude=("s",))
    other.close()


@pytest.mark.parametrize("source", ["/nope", "/out", "/loop", "/a1/x", "/d/../../nope"])
def test_a_source_that_is_not_in_the_context_is_refused_in_dockers_words(files: Archive, source: str) -> None:
    with pytest.raises(
        CopyFailed, match=r"COPY failed: file not found in build context or excluded by \.dockerignore: stat "
    ):
        Selection(files, Copy(sources=(source,), target="/x"), verb="COPY", local=True)


def test_wildcards_that_fit_nothing_are_refused(files: Archive) -> None:
    with pytest.raises(CopyFailed, match="ADD failed: no source files were specified"):
        Selection(files, Copy(sources=("/zz*",), target="/x/"), verb="ADD", local=True)


def test_several_files_need_a_directory(files: Archive) -> None:
    with pytest.raises(CopyFailed, match="When using COPY with more than one source file"):
        Selection(files, Copy(sources=("/a?",), target="/x"), verb="COPY", local=True)


def test_links_of_the_target_are_followed_inside_it(files: Archive, tmp_path: Path) -> None:
    below = _archive(tmp_path, {"real": ("dir", ""), "way": ("link", "/../../real"), "esc": ("link", "../../tmp")})

    assert "real/a1" in _written(files, Copy(sources=("/a1",), target="/way/"), Target(below))
    assert "tmp/a1" in _written(files, Copy(sources=("/a1",), target="/esc/"), Target(below))
    assert "way/a1" in _written(files, Copy(sources=("/a1",), target="/way/"), Target(below, links=False))
    below.close()


def test_owner_mode_and_latest_time_are_those_that_were_asked_for(files: Archive) -> None:
    copy = Copy(sources=("/d",), target="/x")
    found = _written(files, copy, owner=Owner(5, 6), chmod="u=rwX,go=", latest_ns=3 * 10**9)

    assert {(member.uid, member.gid) for member in found.values()} == {(5, 6)}
    assert found["x/x"].mode == 0o600 and found["x/s"].mode == 0o700
    assert max(member.mtime for member in found.values()) <= 3


def test_archives_are_unpacked_by_add_alone_and_stay_inside(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for path in ("in/f", "../../escape", "/absolute"):
            entry = tarfile.TarInfo(path)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    archive = Archive(str(tmp_path))
    archive.put("files.tgz", [inner.getvalue()])

    unpacked = _written(archive, Copy(sources=("/files.tgz",), target="/x/", unpack=True))
    copied = _written(archive, Copy(sources=("/files.tgz",), target="/x/"))

    assert sorted(unpacked) == ["x", "x/absolute", "x/escape", "x/in/f"]
    assert sorted(copied) == ["x", "x/files.tgz"]
    archive.close()


def test_a_hard_link_stays_one(tmp_path: Path) -> None:
    archive = _archive(tmp_path, {"d/a": ("file", "x"), "d/b": ("hard", "d/a")})

    assert _written(archive, Copy(sources=("/d",), target="/x"))["x/b"].linkname == "x/a"
    archive.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"d/x": ("file", "other")},
        {"d/new": ("file", "")},
        {"d/x": ("link", "s")},
        {"d/s/y": ("file", "yy")},
    ],
)
def test_every_change_that_counts_changes_the_digest(files: Archive, tmp_path: Path, changed: Members) -> None:
    other = _archive(tmp_path, {**FILES, **changed})

    assert _digest(files, "/d") != _digest(other, "/d")
    other.close()


def test_modes_count_and_times_owners_and_other_files_do_not(files: Archive, tmp_path: Path) -> None:
    closed = _archive(tmp_path, FILES, mode=0o600)
    later = _archive(tmp_path, {**FILES, "a1": ("file", "changed")}, mtime=99, uid=7)

    assert _digest(files, "/d") != _digest(closed, "/d")
    assert _digest(files, "/d") == _digest(later, "/d")
    closed.close()
    later.close()


NAMES = st.text(st.sampled_from("ab./-*é"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(["file", "link", "dir"]), NAMES), max_size=8), NAMES, NAMES)
def test_no_archive_and_no_path_leaves_the_target(
    tmp_path_factory: pytest.TempPathFactory, members: Members, source: str, target: str
) -> None:
    try:
        archive = _archive(tmp_path_factory.getbasetemp(), members)
    except Exception as exc:
        assert type(exc).__name__ == "InvalidTar"
        return
    try:
        written = _written(archive, Copy(sources=(source,), target=f"/{target}/"), Target(archive))
    except CopyFailed:
        return
    except OSError:  # a loop of links
        return
    finally:
        archive.close()
    assert not any(name.startswith("/") or ".." in name.split("/") for name in written)
