"""Which layers are kept uncompressed."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from boxship.images.sampling import SAMPLE, resists_compression

NOISE = random.Random(1).randbytes(SAMPLE)
WORDS = b"words " * (SAMPLE // 6)


def start_of(content: bytes, size: int, *, before: bytes = b"") -> bytes:
    """Return the first bytes of a tar with a directory, maybe a small file, and a file of ``size`` bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        directory = tarfile.TarInfo("d")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        if before:
            small = tarfile.TarInfo("d/small")
            small.size = len(before)
            tar.addfile(small, io.BytesIO(before))
        member = tarfile.TarInfo("d/f")
        member.size = size
        out.write(member.tobuf())
        out.write(content)
        return out.getvalue()[:SAMPLE]


@pytest.mark.parametrize(
    ("start", "size", "resists"),
    [
        (start_of(NOISE, 50_000_000), 50_010_240, True),
        (start_of(WORDS, 50_000_000), 50_010_240, False),
        (start_of(NOISE, 50_000_000), 100_000_000, False),  # something else follows
        (start_of(NOISE, 50_000_000, before=b"x"), 50_010_240, True),  # nearly all of it is one file
        (start_of(NOISE, 50_000_000)[:2000], 50_010_240, False),  # too short to tell
        (NOISE, 50_010_240, False),  # no tar
        (b"", 50_010_240, False),
    ],
)
def test_a_layer_of_one_large_file_that_does_not_get_smaller_resists(start: bytes, size: int, resists: bool) -> None:
    assert resists_compression(start, size) == resists
