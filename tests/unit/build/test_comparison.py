"""Where two trees first differ, in order of paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.build.outcome.comparison import Found, trees

TIME = 1_700_000_000


def make(root: Path) -> Path:
    (root / "d/sub").mkdir(parents=True)
    (root / "a").write_text("a")
    (root / "d/file").write_text("content")
    (root / "d.txt").write_text("sorts before d/ by characters")
    (root / "link").symlink_to("a")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return root


def settle(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        if int(path.lstat().st_mtime) > TIME:  # what a test gave an older time keeps it
            os.utime(path, (TIME, TIME), follow_symlinks=False)


def found(tmp_path: Path, change: Callable[[Path], object]) -> list[Found]:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    change(other)
    descriptors = []
    for root in (one, other):
        settle(root)
        descriptors.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    try:
        return list(trees(*descriptors, set()))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_equal_trees_do_not_differ(tmp_path: Path) -> None:
    assert found(tmp_path, lambda root: None) == []


@pytest.mark.parametrize(
    ("change", "path", "aspect", "shown"),
    [
        (lambda root: (root / "a").chmod(0o600), "a", "mode", ("0644", "0600")),
        (lambda root: (root / "d/file").unlink(), "d/file", "missing", ("file", "(none)")),
        (lambda root: (root / "d/sub").rmdir(), "d/sub", "missing", ("directory", "(none)")),
        (lambda root: (root / "b").symlink_to("x"), "b", "added", ("(none)", "symbolic link")),
        (lambda root: (root / "link").unlink() or (root / "link").symlink_to("b"), "link", "target", ("a", "b")),
        (lambda root: (root / "a").unlink() or os.mkfifo(root / "a"), "a", "type", ("file", "FIFO")),
        (
            lambda root: os.utime(root / "a", (0, 0)),
            "a",
            "mtime",
            ("2023-11-14T22:13:20Z", "1970-01-01T00:00:00Z"),
        ),
    ],
)
def test_a_difference_has_its_place_and_its_kind(
    tmp_path: Path, change: Callable[[Path], object], path: str, aspect: str, shown: tuple[str, str]
) -> None:
    assert found(tmp_path, change) == [Found(path, aspect, *shown)]


def test_content_is_told_by_its_digest(tmp_path: Path) -> None:
    (only,) = found(tmp_path, lambda root: (root / "d/file").write_text("content!"))
    assert (only.path, only.aspect) == ("d/file", "content")
    assert only.first.endswith("(7 bytes)") and only.second.endswith("(8 bytes)")


def test_a_directory_that_is_gone_is_told_with_all_that_was_in_it_and_the_rest_is_compared(tmp_path: Path) -> None:
    def change(root: Path) -> None:
        (root / "d/file").unlink()
        (root / "d/sub").rmdir()
        (root / "d").rmdir()
        (root / "link").unlink()

    assert [(one.path, one.aspect) for one in found(tmp_path, change)] == [
        ("d", "missing"),
        ("d/file", "missing"),
        ("d/sub", "missing"),
        ("link", "missing"),
    ]


def test_attributes_of_the_image_count_and_those_of_the_host_do_not(tmp_path: Path) -> None:
    def change(root: Path) -> None:
        try:
            os.setxattr(root / "a", "user.mine", b"\x01\x02")
        except OSError as exc:
            pytest.skip(f"no attributes of users here: {exc}")
        os.setxattr(root / "d", "user.overlay.opaque", b"y")

    assert found(tmp_path, change) == [Found("a", "xattr user.mine", "(none)", "0102")]
