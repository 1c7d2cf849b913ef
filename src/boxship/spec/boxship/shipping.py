"""Images on their way from engine to engine without a registry: ``/boxship/images/...`` and ``/boxship/blobs/...``."""

from __future__ import annotations

import msgspec


class ShippedLayer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One layer's blob."""

    digest: str
    size: int  # bytes


class ShippedBlob(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A small blob of an attestation."""

    digest: str
    size: int  # bytes
    media_type: str = ""


class ShippedManifest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A manifest of the index, with what it needs: an image of another platform, or an attestation."""

    manifest: str  # verbatim
    manifest_type: str  # media type
    config: str = ""  # of an image: the configuration, verbatim; "" for an attestation
    layers: list[ShippedLayer] = []  # of an image
    blobs: list[ShippedBlob] = []  # of an attestation


class Shipment(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """All about one image, and what stands beside it under its name, but for the blobs."""

    config: str  # the configuration, verbatim; its digest is the image's id
    layers: list[ShippedLayer]  # bottom first, as many as the configuration has diff IDs
    names: list[str] = []  # normalised references with a tag
    manifest: str = ""  # the manifest that it was pulled or pushed with, verbatim; "" without one
    manifest_type: str = ""  # media type
    index: str = ""  # the index that the name means, verbatim; "" without one
    index_type: str = ""  # media type
    members: list[ShippedManifest] = []  # what of the index is there, this image too


class MissingLayer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A blob that the receiver needs."""

    digest: str
    size: int  # bytes
    here: int  # bytes from the start that it has from an earlier attempt
