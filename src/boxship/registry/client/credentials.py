"""Credentials as Docker's API carries them: ``X-Registry-Auth`` and the body of ``POST /auth``."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode

import msgspec

from boxship.registry.client.hosts import Credentials
from boxship.spec.docker.registry import AuthConfig


def from_auth_config(config: AuthConfig) -> Credentials:
    """Return the credentials of an ``AuthConfig``."""
    username, password = config.username, config.password
    if not username and config.auth:
        username, _, password = _decoded(config.auth).partition(":")
    return Credentials(
        username=username,
        password=password.rstrip("\0"),
        identity_token=config.identitytoken,
        registry_token=config.registrytoken,
    )


def from_header(header: str | None) -> Credentials:
    """Return the credentials of an ``X-Registry-Auth`` header; one that can't be read is none, as in Docker."""
    try:
        return from_auth_config(msgspec.json.decode(_decoded(header or ""), type=AuthConfig))
    except (msgspec.DecodeError, RecursionError):
        return Credentials()


def _decoded(text: str) -> str:
    """Return what base64 of either alphabet, padded or not, stands for; "" for what is neither."""
    plain = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        return urlsafe_b64decode(plain + "=" * (-len(plain) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
