"""Who is asking, and whether they may: passwords, tokens, rules; and the challenge for who is not known yet."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from aiohttp import web

from boxship.registry.server.errors import RegistryError
from boxship.registry.server.htpasswd import Htpasswd
from boxship.registry.server.rules import ANONYMOUS, Rules
from boxship.registry.server.tokens import Claims, InvalidToken, Issuer, Scope, Verifier


class Caller(NamedTuple):
    """Who sent a request; ``claims`` is the token's word, which then counts instead of the rules."""

    user: str
    claims: Claims | None = None


class Access:
    """Decides every request.

    ``users`` alone is basic authentication. With ``issuer`` clients exchange their password for a token of ours. With
    ``verifier`` and no issuer the tokens come from elsewhere (``realm``, ``service``) and say themselves what they allow.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        users: Htpasswd | None = None,
        basic_realm: str = "",
        verifier: Verifier | None = None,
        realm: str = "",
        service: str = "",
        issuer: Issuer | None = None,
    ) -> None:
        self._rules = rules
        self._users = users
        self._basic_realm = basic_realm
        self._verifier = verifier
        self._realm = realm
        self._service = service
        self.issuer = issuer

    @property
    def open(self) -> bool:
        """Return whether there are no users at all."""
        return self._users is None and self._verifier is None

    async def identify(self, request: web.BaseRequest) -> Caller:
        """Return who sent the request. Raises RegistryError UNAUTHORIZED for credentials that are wrong."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        scheme, value = scheme.lower(), value.strip()
        if scheme == "basic" and self._users is not None:
            user, password = read_basic(value)
            if not await self._users.check(user, password):
                raise self._unauthorized(request, None, "")
            return Caller(user)
        if scheme == "bearer" and self._verifier is not None and value:
            try:
                claims = self._verifier.verify(value)
            except InvalidToken:
                raise self._unauthorized(request, None, "invalid_token") from None
            return Caller(claims.user, claims)
        return Caller(ANONYMOUS)

    def allowed(self, caller: Caller, repository: str) -> frozenset[str]:
        """Return what a caller may do with a repository."""
        if caller.claims is not None:
            granted = caller.claims.allowed("repository", repository)
            # Our own tokens never give more than the rules do now.
            return granted & self._rules.allowed(caller.user, repository) if self.issuer is not None else granted
        if self._verifier is not None and self.issuer is None:
            return frozenset()
        return self._rules.allowed(caller.user, repository)

    def require(self, request: web.BaseRequest, caller: Caller, repository: str, *actions: str) -> None:
        """Raise RegistryError unless the caller may do all of this: UNAUTHORIZED who may sign in, DENIED who did."""
        if frozenset(actions) <= self.allowed(caller, repository):
            return
        scope = Scope("repository", repository, frozenset(actions))
        if caller.user and (caller.claims is None or self.issuer is not None):
            granted = self._rules.allowed(caller.user, repository)
            if not frozenset(actions) <= granted:
                raise RegistryError("DENIED", {"name": repository, "actions": sorted(actions)})
        error = "insufficient_scope" if caller.claims is not None else ""
        raise self._unauthorized(request, scope, error)

    def require_known(self, request: web.BaseRequest, caller: Caller) -> None:
        """Raise UNAUTHORIZED unless the caller is signed in, where there are users.

        Also where some repositories are public: clients learn from this challenge how to sign in, and those who can't go
        on without.
        """
        if not self.open and not caller.user and caller.claims is None:
            raise self._unauthorized(request, None, "")

    def may_list(self, caller: Caller, repository: str) -> bool:
        """Return whether the catalogue shows a repository to the caller."""
        if caller.claims is not None and "*" in caller.claims.allowed("registry", "catalog"):
            return self.issuer is None or "pull" in self._rules.allowed(caller.user, repository)
        return "pull" in self.allowed(caller, repository)

    def grants(self, user: str, scope: Scope) -> frozenset[str]:
        """Return what our own issuer may give a user for one scope."""
        if scope.type == "repository":
            return self._rules.allowed(user, scope.name)
        if (scope.type, scope.name) == ("registry", "catalog"):
            return frozenset("*")  # what it lists is filtered by the rules
        return frozenset()

    async def sign_in(self, user: str, password: str) -> bool:
        """Return whether the password is right."""
        return self._users is not None and await self._users.check(user, password)

    def challenge(self, request: web.BaseRequest, scope: Scope | None, error: str) -> str:
        """Return the ``WWW-Authenticate`` header."""
        if self._verifier is None:
            return f'Basic realm="{self._basic_realm}"'
        realm = self._realm or f"{request.scheme}://{request.host}/token"
        text = f'Bearer realm="{realm}",service="{self._service}"'
        if scope is not None:
            text += f',scope="{scope.type}:{scope.name}:{",".join(sorted(scope.actions, key=_pull_first))}"'
        return f'{text},error="{error}"' if error else text

    def _unauthorized(self, request: web.BaseRequest, scope: Scope | None, error: str) -> RegistryError:
        if self.open:
            return RegistryError("DENIED")
        detail = (
            [{"Type": scope.type, "Name": scope.name, "Action": a} for a in sorted(scope.actions)] if scope else None
        )
        headers = {"WWW-Authenticate": self.challenge(request, scope, error)}
        return RegistryError("UNAUTHORIZED", detail, headers=headers)


def read_basic(value: str) -> tuple[str, str]:
    """Return user and password of a basic ``Authorization``; both empty when it is none."""
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, password = text.partition(":")
    return user, password


def _pull_first(action: str) -> tuple[bool, str]:
    return action != "pull", action
