"""Digests as OCI writes them: ``sha256:<64 hex>`` or ``sha512:<128 hex>`` (image-spec, descriptor.md, "Digests")."""

import hashlib
import re

from boxship.base.errors import InvalidInput

_SYNTAX = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_ANY = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)


class InvalidDigest(InvalidInput):
    """The text is no digest that names a blob here."""


def parse(digest: str) -> tuple[str, str]:
    """Return ``(algorithm, hex)``; both are safe as file names. Raises InvalidDigest."""
    if _SYNTAX.fullmatch(digest):
        algorithm, _, encoded = digest.partition(":")
        return algorithm, encoded
    if not _ANY.fullmatch(digest):
        raise InvalidDigest(f"invalid checksum digest format: {digest!r}")
    algorithm, _, _ = digest.partition(":")
    if algorithm not in ("sha256", "sha512"):
        raise InvalidDigest(f"unsupported digest algorithm: {digest!r}")
    raise InvalidDigest(f"invalid checksum digest length: {digest!r}")


def of_bytes(data: bytes) -> str:
    """Return the sha256 digest of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
