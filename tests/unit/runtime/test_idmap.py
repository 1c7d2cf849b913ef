"""Which ranges a user namespace gets for a mount with other owners."""

from __future__ import annotations

import itertools

import pytest

from boxship.runtime import idmap

ALL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("owner", "user", "ranges"),
    [
        (1000, 0, [(1000, 0, 1), (1, 1, 999), (1001, 1001, ALL - 1001)]),
        (0, 1, [(0, 1, 1), (2, 2, ALL - 2)]),
        (7, 7, [(0, 0, ALL)]),
    ],
)
def test_owner_and_user_change_places_with_nobody(owner: int, user: int, ranges: list[tuple[int, int, int]]) -> None:
    found = idmap._ranges(None, owner, user, [])
    assert found == ranges
    for side in (0, 1):
        spans = sorted((each[side], each[2]) for each in found)
        assert all(first + count <= following for (first, count), (following, _) in itertools.pairwise(spans))


def test_the_ids_of_a_container_are_those_that_the_host_gave_it() -> None:
    own = [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 10, "hostID": 5, "size": 1}]
    assert idmap._ranges(None, 1000, 0, own)[0] == (1000, 100000, 1)
    assert idmap._ranges([(1000, 8, 4)], 0, 0, own) == [(1000, 100008, 2), (1002, 5, 1)]
