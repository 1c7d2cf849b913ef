"""Disk usage of engines that add up themselves and of those that do not."""

from __future__ import annotations

from boxship.cli.commands.system.df import LISTING, summary, totals

OLD = {
    "LayersSize": 300,
    "Images": [{"Size": 200, "SharedSize": 50, "Containers": 1}, {"Size": 150, "SharedSize": 50, "Containers": 0}],
    "Containers": [{"State": "running", "SizeRw": 7}, {"State": "exited", "SizeRw": 3}],
    "Volumes": [{"UsageData": {"Size": 10, "RefCount": 0}}, {"UsageData": {"Size": -1, "RefCount": 1}}],
    "BuildCache": None,
}


def test_an_older_engines_objects_are_added_up() -> None:
    rows = [[row[key] for key in ("type", "total", "active", "size", "reclaimable")] for row in summary(totals(OLD))]
    assert rows == [
        ["Images", 2, 1, 300, 150],
        ["Containers", 2, 1, 10, 3],
        ["Local Volumes", 2, 1, 10, 10],
        ["Build Cache", 0, 0, 0, 0],
    ]


def test_what_can_come_free_is_shown_with_its_share() -> None:
    table = LISTING.table(summary(totals(OLD)), LISTING.default)
    assert table.splitlines()[1].split() == ["Images", "2", "1", "300B", "150B", "(50%)"]
