"""Filters of listings: values and refusals."""

import pytest

from boxship.base.errors import InvalidInput
from boxship.images import filters


@pytest.mark.parametrize(
    ("pattern", "reference", "matches"),
    [
        ("busybox", "busybox:latest", True),
        ("busybox:lat*", "busybox:latest", True),
        ("busy", "busybox:latest", False),
        ("*", "busybox:latest", True),
        ("*", "user/app:1", False),
        ("*/*", "user/app:1", True),
        ("user/ap?", "user/app:1", True),
        ("[a-b]usybox", "busybox:1", True),
        ("[^b]usybox", "busybox:1", False),
        ("a.b", "axb:1", False),
    ],
)
def test_a_reference_pattern_matches_as_gos_path_match(pattern: str, reference: str, matches: bool) -> None:
    assert bool(filters.reference_test([pattern])(reference)) is matches


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(InvalidInput, match="syntax error in pattern"):
        filters.reference_test(["[a"])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1h30m", 1_000_000 - 5400), ("500", 500), ("1970-01-01T00:10:00Z", 600), ("1970-01-02", 86400)],
)
def test_until_takes_durations_and_times(value: str, seconds: float) -> None:
    assert filters.until_seconds([value], 1_000_000) == seconds


def test_bad_values_are_refused() -> None:
    with pytest.raises(InvalidInput, match="invalid filter 'x'"):
        filters.check_keys({"x": ["1"]}, filters.LIST_KEYS)
    with pytest.raises(InvalidInput, match=r"invalid filter 'dangling=\[y\]'"):
        filters.dangling({"dangling": ["y"]})
    with pytest.raises(InvalidInput, match="until=soon"):
        filters.until_seconds(["soon"], 0)
    with pytest.raises(InvalidInput, match="more than one until"):
        filters.until_seconds(["1", "2"], 0)


def test_creation_times_of_any_precision_are_read() -> None:
    assert filters.seconds_of("1970-01-01T00:00:10.123456789Z") == 10
    assert filters.seconds_of("nonsense") == 0
    assert filters.seconds_of(None) == 0
