"""Credentials as Docker's API carries them: ``X-Registry-Auth`` and the body of ``POST /auth``."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from boxship.registry.client.hosts import Credentials


def from_document(document: Mapping[str, Any]) -> Credentials:
    """Return the credentials of an ``AuthConfig`` (Docker API); what is no text counts as not given."""

    def text(key: str) -> str:
        value = document.get(key, "")
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if not username and text("auth"):
        username, _, password = _decoded(text("auth")).partition(":")
    return Credentials(
        username=username,
        password=password.rstrip("\0"),
        identity_token=text("identitytoken"),
        registry_token=text("registrytoken"),
    )


def from_header(header: str | None) -> Credentials:
    """Return the credentials of an ``X-Registry-Auth`` header; one that can't be read is none, as in Docker."""
    try:
        document = json.loads(_decoded(header or ""))
    except (ValueError, RecursionError):
        return Credentials()
    return from_document(document) if isinstance(document, dict) else Credentials()


def _decoded(text: str) -> str:
    """Return what base64 of either alphabet, padded or not, stands for; "" for what is neither."""
    plain = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        return urlsafe_b64decode(plain + "=" * (-len(plain) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
