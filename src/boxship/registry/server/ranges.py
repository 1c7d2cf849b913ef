"""``Content-Range`` of upload chunks, and the ``Range`` that tells how far an upload is. Pure."""

from __future__ import annotations

import re

from boxship.registry.server.errors import RegistryError

# The specification's form; clients of older ones write "bytes 0-9/*".
_CHUNK = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", re.ASCII)


def check_chunk(header: str, length: int | None, offset: int) -> int | None:
    """Return the bytes that a chunk has to bring, None when neither header says.

    ``length`` is Content-Length (None: streamed), ``offset`` what the upload already has. Raises RegistryError:
    RANGE_INVALID (416) for a chunk that is not the next one, SIZE_INVALID when the headers disagree.
    """
    if not header:
        return length
    found = _CHUNK.fullmatch(header.strip())
    if found is None:
        raise RegistryError("RANGE_INVALID", {"Content-Range": header[:100]})
    first, last = int(found[1]), int(found[2])
    if first != offset or last < first - 1:
        raise RegistryError("RANGE_INVALID", {"Content-Range": header, "expected": offset})
    size = last - first + 1
    if length is not None and length != size:
        raise RegistryError("SIZE_INVALID", {"Content-Range": header, "Content-Length": length})
    return size


def progress(offset: int) -> str:
    """Return the ``Range`` of an upload that has ``offset`` bytes.

    The last byte is inclusive, so that nothing can't be told from one byte; the reference registry says 0-0 for both.
    """
    return f"0-{max(offset - 1, 0)}"
