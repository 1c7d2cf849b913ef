"""Sizes and durations as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli.units import (
    binary_size,
    decimal_size,
    format_duration,
    human_duration,
    parse_cpus,
    parse_duration,
    parse_size,
    parse_swap,
)


@pytest.mark.row("CLI-14")
@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1730000, "1.73MB"), (223456789, "223MB"), (10**18, "1EB")],
)
def test_sizes_on_disk_are_decimal(size, text) -> None:
    assert decimal_size(size, 3) == text


@pytest.mark.row("CLI-14")
@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (319488, "312KiB"), (2095944040, "1.952GiB"), (25276510208, "23.54GiB")]
)
def test_memory_is_binary(size, text) -> None:
    assert binary_size(size) == text


@pytest.mark.row("CLI-14")
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (48, "48 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_spans_of_time_are_rough(seconds, text) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("1k", 1024), ("1.5KiB", 1536), ("2 gb", 2 << 30), ("3B", 3), ("1T", 1 << 40), ("1p", 1 << 50)],
)
def test_written_sizes_are_binary(text, size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "invalid size: 'x'"),
        ("-1", 'strconv.ParseFloat: parsing "": invalid syntax'),
        ("1x", "invalid suffix: 'x'"),
        ("1kx", "invalid suffix: 'kx'"),
        ("1kibb", "invalid suffix: 'kibb'"),
        ("", "invalid size: ''"),
    ],
)
def test_what_is_no_size_is_refused(text, problem) -> None:
    if text == "-1":
        assert parse_swap(text) == -1
        problem = "invalid size: '-1'"
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5s", 15 * 10**8),
        ("-2ms", -2 * 10**6),
        ("3us", 3000),
        (".5s", 5 * 10**8),
    ],
)
def test_durations_are_gos(text, nanoseconds) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("x", 'time: invalid duration "x"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
    ],
)
def test_what_is_no_duration_is_refused_in_gos_words(text, problem) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == problem


@given(st.integers(-(10**18), 10**18))
def test_a_printed_duration_reads_back(nanoseconds: int) -> None:
    assert abs(parse_duration(format_duration(nanoseconds)) - nanoseconds) <= 1


def test_cpus_are_billionths() -> None:
    assert parse_cpus("1.5") == 1_500_000_000
    for text in ("x", "1.0000000001", "1/0"):
        with pytest.raises(ValueError):
            parse_cpus(text)
