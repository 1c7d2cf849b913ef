"""Single writes fail while images come, go and are made (F3): the operation says why, leaves nothing, and works afterwards.

Few writes of many; ``scripts/write-faults`` takes them all.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import pytest

from harness.write_faults import OPERATIONS, WriteFaults

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_EACH = 3  # writes of an operation, of different kinds


@pytest.fixture(scope="module")
def faults() -> Iterator[WriteFaults]:
    faults = WriteFaults()
    yield faults
    faults.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_f3_a_write_that_fails_fails_the_operation_and_nothing_else(faults: WriteFaults, name: str) -> None:
    operation = faults.operation(name)
    firsts: dict[str, int] = {}
    for number, call in enumerate(faults.count(operation)):
        firsts.setdefault(re.sub(r"[0-9a-f]{12,}|#\d+|/.*", "", call), number)
    chosen = list(firsts.values())
    for number in chosen[:: max(1, len(chosen) // _EACH)]:
        faults.check(operation, number, errno.EIO if number % 2 else errno.ENOSPC)
