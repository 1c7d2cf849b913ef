"""Durations as Go prints them."""

from __future__ import annotations

import pytest

from boxship.base.moments import format_duration

SECOND = 10**9


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (1_000_001, "1.000001ms"),
        (300_000_000, "300ms"),
        (SECOND, "1s"),
        (1_500_000_000, "1.5s"),
        (90 * SECOND, "1m30s"),
        (7200 * SECOND + SECOND // 4, "2h0m0.25s"),
    ],
)
def test_durations_are_printed_as_go_does(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text
