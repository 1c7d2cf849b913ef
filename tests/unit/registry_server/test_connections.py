from __future__ import annotations

import pytest

from boxship.registry.server.connections import most_connections


@pytest.mark.parametrize(
    ("wanted", "descriptors", "most"),
    [(0, 1 << 20, 10_000), (0, 1024, 341), (20, 1024, 20), (5000, 1024, 341), (0, 2, 1)],
)
def test_no_more_connections_are_taken_than_files_can_be_opened(wanted: int, descriptors: int, most: int) -> None:
    assert most_connections(wanted, descriptors) == most
