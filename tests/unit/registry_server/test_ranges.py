from __future__ import annotations

import pytest

from boxship.registry.server.errors import RegistryError
from boxship.registry.server.ranges import check_chunk, progress


@pytest.mark.parametrize(
    ("header", "length", "offset", "size"),
    [
        ("", None, 7, None),
        ("", 5, 7, 5),
        ("0-9", 10, 0, 10),
        ("5-9", None, 5, 5),
        ("bytes 5-9/*", 5, 5, 5),
        ("bytes=5-9/100", 5, 5, 5),
        ("5-4", 0, 5, 0),
    ],
)
def test_the_next_chunk_is_taken(header: str, length: int | None, offset: int, size: int | None) -> None:
    assert check_chunk(header, length, offset) == size


@pytest.mark.parametrize("header", ["1-9", "0-", "-9", "9-1", "a-b", "0-9-9", "0-1, 3-4", "0-" + "9" * 40])
def test_another_chunk_is_416(header: str) -> None:
    with pytest.raises(RegistryError) as caught:
        check_chunk(header, None, 0)
    assert (caught.value.status, caught.value.code) == (416, "RANGE_INVALID")


def test_headers_that_disagree_are_refused() -> None:
    with pytest.raises(RegistryError, match="SIZE_INVALID"):
        check_chunk("0-9", 5, 0)


def test_progress_names_the_last_byte() -> None:
    assert [progress(offset) for offset in (0, 1, 1000)] == ["0-0", "0-0", "0-999"]
