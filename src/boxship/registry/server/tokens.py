"""Bearer tokens: signed JSON (RFC 7519) that says who may do what, from somebody else's issuer or from our own.

The claims are Docker's ("Token Authentication Specification"): ``access`` lists ``{"type": "repository", "name", "actions"}``.
A token counts only if its signature is by a known key with an algorithm that the configuration names (never "none", never a
symmetric one), its issuer and audience are the configured ones, and now is between ``nbf`` and ``exp``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from boxship.base import atomicfile
from boxship.base.errors import InvalidInput
from boxship.registry.server.rules import ACTIONS

ASYMMETRIC = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"))
LEEWAY = 10.0  # seconds between two clocks
_SCOPE = re.compile(r"(?P<type>[a-z]+(?:\([a-z]+\))?):(?P<name>[^ ]+):(?P<actions>[a-z*,]*)", re.ASCII)


class Scope(NamedTuple):
    """What is asked for: ``repository:library/busybox:pull,push``."""

    type: str
    name: str
    actions: frozenset[str]


class Claims(NamedTuple):
    """What a token says."""

    user: str
    scopes: Sequence[Scope]

    def allowed(self, type: str, name: str) -> frozenset[str]:
        """Return the actions granted on one resource."""
        found: set[str] = set()
        for scope in self.scopes:
            if (scope.type, scope.name) == (type, name):
                found |= ACTIONS | {"*"} if "*" in scope.actions else scope.actions
        return frozenset(found)


class InvalidToken(Exception):
    """The token counts for nothing here."""


class Verifier:
    """Checks tokens of one issuer for one service."""

    def __init__(self, *, issuer: str, service: str, keys: Sequence[Any], algorithms: Sequence[str]) -> None:
        """``keys`` are public keys of cryptography or jwt. Raises InvalidInput for symmetric or unknown algorithms."""
        unknown = sorted(set(algorithms) - ASYMMETRIC)
        if unknown:
            raise InvalidInput(f"auth.token: signing algorithm {unknown[0]!r} can't be used")
        if not keys:
            raise InvalidInput("auth.token: there is no key in rootcertbundle or jwks")
        self._issuer = issuer
        self._service = service
        self._keys = keys
        self._algorithms = list(algorithms)

    def verify(self, token: str) -> Claims:
        """Return what a token says. Raises InvalidToken."""
        reason = "unknown key"
        for key in self._keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=self._algorithms,
                    audience=self._service,
                    issuer=self._issuer,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud"]},
                )
                return _read_claims(claims)
            except (jwt.PyJWTError, TypeError, ValueError) as exc:
                reason = str(exc)
        raise InvalidToken(reason)


class Issuer:
    """Issues tokens signed by a key of our own, kept at ``path`` and made when it is missing."""

    def __init__(self, path: str, *, issuer: str, service: str, expiration: float) -> None:
        self.service = service
        self.issuer = issuer
        self._expiration = expiration
        self._key = _load_key(path)

    def verifier(self) -> Verifier:
        """Return what checks these tokens."""
        return Verifier(issuer=self.issuer, service=self.service, keys=[self._key.public_key()], algorithms=["ES256"])

    def issue(
        self, user: str, asked: Sequence[Scope], allowed: Callable[[str, Scope], frozenset[str]]
    ) -> dict[str, Any]:
        """Return the answer of a token endpoint: a token for what is both asked and allowed."""
        now = int(time.time())
        access = [
            {"type": scope.type, "name": scope.name, "actions": sorted(_granted(scope, allowed(user, scope)))}
            for scope in asked
        ]
        claims = {
            "iss": self.issuer,
            "aud": self.service,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + int(self._expiration),
            "jti": os.urandom(16).hex(),
            "access": [item for item in access if item["actions"]],
        }
        token = jwt.encode(claims, self._key, algorithm="ES256")
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return {"token": token, "access_token": token, "expires_in": int(self._expiration), "issued_at": issued}


def _granted(asked: Scope, allowed: frozenset[str]) -> frozenset[str]:
    return allowed if "*" in asked.actions else asked.actions & allowed


def parse_scopes(texts: Sequence[str]) -> list[Scope]:
    """Return the scopes of a token request; what is no scope asks for nothing."""
    matches = [_SCOPE.fullmatch(word) for text in texts for word in text.split()]
    return [Scope(match["type"], match["name"], frozenset(match["actions"].split(","))) for match in matches if match]


def load_keys(*, certificates: str = "", jwks: str = "") -> list[Any]:  # keys of cryptography or jwt
    """Return the public keys of a file of PEM certificates and of a JSON Web Key Set. Raises InvalidInput, OSError."""
    keys: list[Any] = []
    if certificates:
        with open(certificates, "rb") as file:
            data = file.read()
        try:
            keys += [certificate.public_key() for certificate in x509.load_pem_x509_certificates(data)]
        except ValueError as exc:
            raise InvalidInput(f"{certificates}: {exc}") from exc
    if jwks:
        with open(jwks, "rb") as file:
            text = file.read()
        try:
            keys += [key.key for key in jwt.PyJWKSet.from_dict(json.loads(text)).keys]
        except (ValueError, jwt.PyJWTError) as exc:
            raise InvalidInput(f"{jwks}: {exc}") from exc
    return keys


def _read_claims(claims: Mapping[str, Any]) -> Claims:
    scopes = []
    access = claims.get("access") or []
    for item in access if isinstance(access, list) else [None]:
        document = item if isinstance(item, dict) else {}
        type, name, actions = document.get("type"), document.get("name"), document.get("actions")
        if not (isinstance(type, str) and isinstance(name, str) and isinstance(actions, list)):
            raise ValueError("access is not a list of resources")
        scopes.append(Scope(type, name, frozenset(str(action) for action in actions)))
    return Claims(str(claims.get("sub") or ""), scopes)


def _load_key(path: str) -> ec.EllipticCurvePrivateKey:
    if not os.path.exists(path):
        made = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.PKCS8
        atomicfile.write(path, made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    with open(path, "rb") as file:
        key = serialization.load_pem_private_key(file.read(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput(f"{path}: not an elliptic curve key")
    return key
