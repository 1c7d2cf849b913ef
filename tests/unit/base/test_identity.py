"""Ids of containers and of the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.base.identity import IdentityMapping, UnmappedId

MAPPING = IdentityMapping([(0, 100000, 10), (10, 500, 5)], [(0, 200000, 15)])


def test_ids_are_found_in_their_range() -> None:
    assert MAPPING.root == (100000, 200000)
    assert MAPPING.to_host(12, 3) == (502, 200003)
    assert MAPPING.to_container(502, 200003) == (12, 3)


@pytest.mark.parametrize(("uid", "gid", "id"), [(15, 0, 15), (0, 15, 15), (4_000_000_000, 0, 4_000_000_000)])
def test_an_id_that_is_not_mapped_is_named(uid: int, gid: int, id: int) -> None:
    with pytest.raises(UnmappedId, match=f"Container ID {id} cannot be mapped to a host ID"):
        MAPPING.to_host(uid, gid)


def test_a_mapping_without_root_is_refused() -> None:
    with pytest.raises(UnmappedId):
        IdentityMapping([(1, 100000, 10)], [(0, 100000, 10)])


def test_the_hosts_other_ids_stay_as_they_are() -> None:
    assert MAPPING.to_container(0, 4) == (0, 4)


@given(st.integers(0, 14), st.integers(0, 14))
def test_the_way_back_leads_to_the_same_ids(uid: int, gid: int) -> None:
    assert MAPPING.to_container(*MAPPING.to_host(uid, gid)) == (uid, gid)


def test_the_runtime_spec_has_a_row_for_each_range() -> None:
    assert MAPPING.oci() == {
        "uidMappings": [
            {"containerID": 0, "hostID": 100000, "size": 10},
            {"containerID": 10, "hostID": 500, "size": 5},
        ],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 15}],
    }
