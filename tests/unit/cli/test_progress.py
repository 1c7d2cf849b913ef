"""Progress, statistics, events: figures that become text."""

from __future__ import annotations

import os

import pytest

from boxship.cli.command import ExitError
from boxship.cli.commands.containers.stats import cpu_percent, disk_bytes, memory_used
from boxship.cli.commands.system.events import event_line
from boxship.cli.progress import Progress, Rate, progress_text


@pytest.mark.row("CLI-21")
def test_progress_without_a_terminal_is_plain_lines() -> None:
    read_end, write_end = os.pipe()
    try:
        messages = [
            {"status": "Pulling from library/x", "id": "latest"},
            {"status": "Pulling fs layer", "id": "abc", "progressDetail": {}},
            {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 2}},
            {"stream": "Loaded image: x\n"},
            {"aux": {"ID": "sha256:1"}},
        ]
        assert Progress(write_end).show(messages) == [{"ID": "sha256:1"}]
        shown = os.read(read_end, 4096).decode()
    finally:
        os.close(read_end)
        os.close(write_end)
    assert shown == "latest: Pulling from library/x\nabc: Pulling fs layer\nLoaded image: x\n"


def test_an_error_in_the_stream_ends_it() -> None:
    with pytest.raises(ExitError, match="manifest unknown"):
        Progress(2).show([{"errorDetail": {"message": "manifest unknown"}, "error": "x"}])


def test_progress_shows_figures_and_on_wide_terminals_a_bar() -> None:
    assert progress_text({"current": 500000, "total": 1000000}, 80) == "   500kB/1MB"
    assert progress_text({"current": 1, "total": 2}, 200) == "[" + "=" * 25 + ">" + " " * 25 + "]       1B/2B"
    assert progress_text({"current": 3}, 80) == "      3B"
    assert progress_text({}, 80) == ""


@pytest.mark.row("MON-05")
def test_figures_of_statistics() -> None:
    before = {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000}
    now = {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 2000, "online_cpus": 2}
    assert cpu_percent(before, now) == pytest.approx(20.0)
    assert cpu_percent(now, now) == 0.0
    assert memory_used({"usage": 100, "stats": {"total_inactive_file": 40}}) == 60
    assert memory_used({"usage": 100, "stats": {"inactive_file": 30}}) == 70
    assert memory_used({}) == 0
    assert disk_bytes([{"op": "Read", "value": 1}, {"op": "write", "value": 2}, {"op": "Sync", "value": 9}]) == (1, 2)


@pytest.mark.row("MON-07")
def test_an_event_is_one_line(monkeypatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    event = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"name": "web", "exitCode": "0"}},
        "time": 1357133017,
        "timeNano": 1357133017000000005,
    }
    assert event_line(event) == "2013-01-02T13:23:37.000000005Z container die abc (exitCode=0, name=web)"


def test_a_bar_tells_its_speed_and_the_time_left():
    rate = Rate("Downloading", 100.0)
    assert rate.text({"current": 0, "total": 10_000_000}, 100.0) == ""
    assert rate.text({"current": 2_000_000, "total": 10_000_000}, 101.0) == "  2MB/s  5s"
    assert rate.text({"current": 10_000_000, "total": 10_000_000}, 102.0) == "  5MB/s"
    assert rate.text({"current": 3, "total": 5, "units": "steps"}, 103.0) == ""
