"""Images on their way from engine to engine without a registry: ``/boxship/images/...`` and ``/boxship/blobs/...``."""

from __future__ import annotations

import msgspec


class ShippedLayer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One layer's blob."""

    digest: str
    size: int  # bytes


class Shipment(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """All about one image but the blobs of its layers."""

    config: str  # the configuration, verbatim; its digest is the image's id
    layers: list[ShippedLayer]  # bottom first, as many as the configuration has diff IDs
    names: list[str] = []  # normalised references with a tag
    manifest: str = ""  # the manifest that it was pulled or pushed with, verbatim; "" without one
    manifest_type: str = ""  # media type


class MissingLayer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A blob that the receiver needs."""

    digest: str
    size: int  # bytes
    here: int  # bytes from the start that it has from an earlier attempt
