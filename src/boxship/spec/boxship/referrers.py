"""What refers to an image in a registry: signatures, lists of contents and other artifacts (``/boxship/images/.../referrers``)."""

from __future__ import annotations

import msgspec


class Referrer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One artifact."""

    digest: str
    media_type: str
    artifact_type: str  # what it is; "" when it does not say
    size: int  # bytes of its manifest
    tag: str = ""  # by which it was found, where the registry keeps no list of referrers
    annotations: dict[str, str] = {}


class Referrers(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """All about one manifest or index."""

    digest: str
    referrers: list[Referrer]
