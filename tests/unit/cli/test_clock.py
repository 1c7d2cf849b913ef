"""Points in time, in and out."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli.clock import parse_rfc3339, timestamp


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(st.datetimes(min_value=datetime.datetime(1970, 1, 1), timezones=st.just(datetime.UTC)))
def test_rfc3339_is_read_as_datetime_reads_it(moment: datetime.datetime) -> None:
    exact = moment.replace(microsecond=0)
    expected = int(exact.timestamp()) * 10**9 + moment.microsecond * 1000
    assert parse_rfc3339(moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z") == expected


def test_zones_count() -> None:
    assert parse_rfc3339("1970-01-01T01:30:00+01:30") == 0
    assert parse_rfc3339("1969-12-31T23:00:00-01:00") == 0


@pytest.mark.row("LOG-02", "MON-07")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2013-01-02", "1357084800.000000000"),
        ("2013-01-02T13:23", "1357132980.000000000"),
        ("2013-01-02T13:23:37", "1357133017.000000000"),
        ("2013-01-02T13:23:37Z", "1357133017.000000000"),
        ("2013-01-02T13:23:37.5+01:00", "1357129417.500000000"),
        ("1357133017", "1357133017"),
        ("1357133017.25", "1357133017.25"),
        ("", ""),
    ],
)
def test_since_takes_dates_and_unix_times(text, seconds) -> None:
    assert timestamp(text) == seconds


@pytest.mark.row("LOG-02")
def test_since_takes_a_duration_back_from_now() -> None:
    before = time.time()
    moment = float(timestamp("10m"))
    assert before - 601 < moment <= time.time() - 600


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match='failed to parse value as time or duration: "x"'):
        timestamp("x")


def test_zero_is_the_beginning_of_time_and_no_duration() -> None:
    assert timestamp("0") == "0"
    assert float(timestamp("0s")) == pytest.approx(time.time(), abs=60)
