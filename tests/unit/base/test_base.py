"""The leaf modules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxship.base import atomicfile, clock, failpoints, ids
from boxship.base.moments import parse_duration, parse_moment


def test_ids_are_64_hex_digits_and_never_look_like_a_number() -> None:
    for _ in range(100):
        id = ids.new_id()
        assert len(id) == 64
        assert not ids.short(id).isdecimal()


def test_a_failed_atomic_write_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="no space"):
        atomicfile.write(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_an_atomic_write_sets_the_mode(tmp_path: Path) -> None:
    atomicfile.write(str(tmp_path / "f"), b"x", mode=0o640)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, "0001-01-01T00:00:00Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"), (2_000_000_000, "1970-01-01T00:00:02Z")],
)
def test_times_are_printed_as_go_does(time_ns: int, text: str) -> None:
    assert clock.rfc3339(time_ns) == text


@pytest.mark.parametrize(("text", "ns"), [("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000), ("250ms", 250_000_000)])
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "h1"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10.5", 10_500_000_000),
        ("1970-01-02", 86400 * 10**9),
        ("1970-01-01T00:00:02Z", 2 * 10**9),
        ("10s", 90 * 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_moments(text: str, ns: int) -> None:
    assert parse_moment(text, now_ns=100 * 10**9) == ns


def test_an_unknown_failpoint_is_a_bug() -> None:
    with pytest.raises(KeyError):
        failpoints.hit("no.such.place")
