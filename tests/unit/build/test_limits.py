"""``builder.gc`` of daemon.json, and how much a bound leaves."""

from __future__ import annotations

from typing import Any

import pytest

from boxship.base.errors import InvalidInput
from boxship.build.caching.limits import parse
from boxship.build.caching.usage import KEEP_STORAGE, Choice

GB = 1024**3


def test_without_settings_there_is_one_bound() -> None:
    assert parse({}) == parse({"gc": {}}) == parse({"entitlements": {}}) == (Choice(all=True, reserved=KEEP_STORAGE),)


def test_collection_can_be_turned_off() -> None:
    assert parse({"gc": {"enabled": False, "defaultKeepStorage": "1GB"}}) == ()


def test_the_default_bounds_are_dockerds() -> None:
    assert parse({"gc": {"enabled": True, "defaultKeepStorage": "20GB"}}) == (Choice(all=True, reserved=20 * GB),)
    assert parse({"gc": {"defaultReservedSpace": "1.5g", "defaultMaxUsedSpace": "2GiB", "defaultMinFreeSpace": 7}}) == (
        Choice(all=True, reserved=3 * GB // 2, max_used=2 * GB, min_free=7),
    )


def test_rules_come_in_their_order() -> None:
    policy = [
        {"keepStorage": "512MB", "filter": ["type=exec.cachemount", "unused-for=48h"]},
        {"reservedSpace": "10GB", "filter": {"unused-for": {"1m": True}}},
        {"maxUsedSpace": "100GB", "all": True},
    ]

    assert parse({"gc": {"policy": policy}}) == (
        Choice(
            reserved=512 * 1024**2,
            filters={"type": ["exec.cachemount"], "unused-for": ["48h"]},
            unused_ns=48 * 3600 * 10**9,
        ),
        Choice(reserved=10 * GB, filters={"unused-for": ["1m"]}, unused_ns=60 * 10**9),
        Choice(all=True, max_used=100 * GB),
    )


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        ({"gcc": {}}, "builder: unknown setting gcc"),
        ({"gc": {"defaultKeep": "1"}}, "builder.gc: Object contains unknown field `defaultKeep`"),
        ({"gc": {"defaultKeepStorage": "much"}}, "builder.gc: invalid size: 'much'"),
        ({"gc": {"defaultKeepStorage": -1}}, "builder.gc: invalid size: '-1'"),
        ({"gc": {"policy": [{"filter": ["until"]}]}}, "builder.gc: invalid filter 'until': expected name=value"),
        ({"gc": {"policy": [{"filter": ["color=red"]}]}}, "builder.gc: invalid filter 'color'"),
        (
            {"gc": {"policy": [{"filter": ["unused-for=long"]}]}},
            "builder.gc: 'unused-for' filter only supports durations",
        ),
    ],
)
def test_what_makes_no_sense_is_named(builder: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(builder)

    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("choice", "total", "free", "left"),
    [
        (Choice(), 100, 0, 0),
        (Choice(reserved=30), 100, 0, 30),
        (Choice(max_used=40), 100, 0, 40),
        (Choice(max_used=40, reserved=60), 100, 0, 60),
        (Choice(min_free=10), 100, 50, 100),
        (Choice(min_free=70), 100, 50, 80),
        (Choice(min_free=70, max_used=90), 100, 50, 80),
        (Choice(min_free=500, reserved=25), 100, 50, 25),
    ],
)
def test_a_bound_leaves_so_much(choice: Choice, total: int, free: int, left: int) -> None:
    assert choice.keeps(total, free) == left
