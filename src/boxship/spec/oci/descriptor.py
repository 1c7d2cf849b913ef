"""Descriptors: what refers to a blob (image-spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import re

import msgspec
from msgspec import field

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)


def check_digest(text: str) -> str:
    """Return ``text`` if it is a digest that can name a blob here. Raises ValueError in Docker's words."""
    if _DIGEST.fullmatch(text):
        return text
    if not _ANY_DIGEST.fullmatch(text):
        raise ValueError("invalid checksum digest format")
    if text.partition(":")[0] not in ("sha256", "sha512"):
        raise ValueError("unsupported digest algorithm")
    raise ValueError("invalid checksum digest length")


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manifest of an index runs on; names are Go's (amd64, linux)."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = field(default="", name="os.version")


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A blob by type, digest and length in bytes."""

    media_type: str = ""
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None  # where else it may be fetched
    artifact_type: str = ""  # of a manifest that is no image

    def __post_init__(self) -> None:
        check_digest(self.digest)
        if self.size < 0:
            raise ValueError(f"negative size {self.size}")
