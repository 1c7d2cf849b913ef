"""A look at a layer's first bytes: is it worth to compress it?"""

from __future__ import annotations

import io

from isal import isal_zlib

from boxship.snapshots.tar_reader import REGULAR, InvalidTar, TarReader

SAMPLE = 1024 * 1024  # bytes
LARGE = 16 * 1024 * 1024  # bytes of a layer; for smaller ones it is not worth to ask
_LEAST = 64 * 1024  # bytes that tell something
_WORTH = 0.95  # what compressing has to make of the sample


def resists_compression(start: bytes, size: int) -> bool:
    """Return whether a tar of ``size`` bytes is mostly one large file that hardly gets smaller.

    ``start`` is the tar's first SAMPLE bytes. Other tars are too mixed to judge them by their start.
    """
    reader = TarReader(io.BytesIO(start))
    try:
        for entry in reader:
            if entry.type == REGULAR and entry.size >= size * 3 // 4:
                content = reader.take(SAMPLE)
                return len(content) >= _LEAST and len(isal_zlib.compress(content, 1)) > _WORTH * len(content)
    except InvalidTar:
        pass  # whoever unpacks it tells why
    return False
