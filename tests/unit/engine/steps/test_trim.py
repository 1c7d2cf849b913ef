"""What stays of a step's layer when its mounts are gone."""

from __future__ import annotations

import io
import tarfile

import pytest

from boxship.engine.steps.trim import Trim

PLACES = {"a", "a/b", "a/b/c", "file"}


def _trimmed(*members: tuple[str, str], latest_ns: int | None = None) -> list[tuple[str, float]]:
    source = io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as tar:
        for path, text in members:
            entry = tarfile.TarInfo(path.rstrip("/"))
            entry.mtime = 9
            entry.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            entry.size = 0 if path.endswith("/") else len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    source.seek(0)
    out = io.BytesIO()
    Trim(out, places=PLACES, latest_ns=latest_ns).run(source)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return [(member.name, member.mtime) for member in tar]


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ((("a/", ""), ("a/b/", ""), ("a/b/c/", ""), ("file", "")), []),
        ((("a/", ""), ("a/b/", ""), ("a/b/c/", ""), ("a/own", "x")), ["a", "a/own"]),
        ((("a/", ""), ("a/b/", ""), ("a/b/c/", ""), ("a/b/c/d", "")), ["a", "a/b", "a/b/c", "a/b/c/d"]),
        ((("a/", ""), ("ab", ""), ("file", "text")), ["ab", "file"]),
        ((("other/", ""), ("z", "")), ["other", "z"]),
    ],
)
def test_empty_places_go_and_all_else_stays(members: tuple[tuple[str, str], ...], kept: list[str]) -> None:
    assert [name for name, _ in _trimmed(*members)] == kept


def test_no_time_is_after_the_latest() -> None:
    assert _trimmed(("x", "text"), latest_ns=3 * 10**9) == [("x", 3)]
