"""Registries in the Docker API."""

from __future__ import annotations

import msgspec


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials for one registry; the names are the API's."""

    username: str = ""
    password: str = ""
    auth: str = ""  # base64 of "username:password", in place of both
    email: str = ""  # without meaning since long
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:  # never into a log
        return f"AuthConfig(username={self.username!r}, serveraddress={self.serveraddress!r})"
