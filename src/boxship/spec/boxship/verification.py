"""Answer of GET /boxship/build/compare: whether two images are the same, and if not, where they first differ."""

from __future__ import annotations

import msgspec


class Difference(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The first difference. ``layer`` counts from 1, 0 is the configuration; ``path`` is a file's, or a field's there.

    ``aspect`` is missing or added (in the second image), type, mode, owner, device, content, target, mtime, ``xattr NAME``,
    layers (their number), archive (equal files, other bytes) or value; ``first`` and ``second`` are what each image has.
    """

    layer: int = 0
    layers: int = 0  # of the first image
    created_by: str = ""  # the instruction that made the layer
    path: str = ""
    aspect: str
    first: str = ""
    second: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """``only_times``: files and settings are the same but for when they were made."""

    identical: bool
    only_times: bool = False
    difference: Difference | None = None
