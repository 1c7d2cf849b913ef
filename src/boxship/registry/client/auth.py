"""Authentication at one endpoint: basic, or bearer tokens from a token service (distribution-spec, "Authentication").

Theory of operation. The first request goes without credentials unless the endpoint is known to want them; its 401 says how
(``WWW-Authenticate``), and the request is made again with what that asks for. Tokens are kept until shortly before they
expire, by scope. The user's password goes to the endpoint itself, or to the token service that the endpoint names: over
https, or, where the endpoint itself is plain http, on the same host.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from boxship.registry.client.errors import Denied, Misbehaved, NoCredentials, Unreachable, of_answer
from boxship.registry.client.hosts import Credentials, Endpoint
from boxship.registry.client.session import Answer, Session, shown

CLIENT_ID = "boxship"
_SHORTEST = 60.0  # seconds a token is good for when its service does not say (token specification)
_LONGEST = 3600.0
_MARGIN = 10.0  # seconds before its end at which a token is no longer used
_PARAMETER = re.compile(r'([a-zA-Z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.ASCII)
_SCHEME = re.compile(r"\s*(Basic|Bearer)(?=\s|$)", re.ASCII | re.IGNORECASE)
_CHALLENGE_LIMIT = 8192


class Challenge(NamedTuple):
    """How an endpoint wants to be authenticated to."""

    scheme: str  # "basic" or "bearer"
    realm: str = ""
    service: str = ""
    scope: str = ""


class _Token(NamedTuple):
    text: str
    expires: float  # of the loop's clock


def parse_challenges(headers: Sequence[str]) -> list[Challenge]:
    """Return the challenges that can be answered, in their order."""
    found = []
    for header in headers:
        match = _SCHEME.match(header[:_CHALLENGE_LIMIT])
        if match is None:
            continue
        parameters = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            for name, quoted, plain in _PARAMETER.findall(header[match.end() : _CHALLENGE_LIMIT])
        }
        found.append(
            Challenge(
                match[1].lower(),
                parameters.get("realm", ""),
                parameters.get("service", ""),
                parameters.get("scope", ""),
            )
        )
    return found


def basic(credentials: Credentials) -> str:
    """Return the ``Authorization`` header of user name and password."""
    return "Basic " + b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


class Authenticator:
    """What one user sends to one endpoint."""

    def __init__(self, session: Session, endpoint: Endpoint, credentials: Credentials) -> None:
        self._session = session
        self._endpoint = endpoint
        self._credentials = credentials
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], _Token] = {}
        self._asking = asyncio.Lock()  # layers that start at once ask for one token

    async def header(self, scopes: frozenset[str]) -> str:
        """Return the ``Authorization`` for a request, "" while nothing is known to be wanted."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return basic(self._credentials)
        async with self._asking:
            token = self._tokens.get(scopes)
            if token is None or token.expires <= asyncio.get_running_loop().time():
                token = self._tokens[scopes] = await self._fetch(self._challenge, scopes)
        return f"Bearer {token.text}"

    def answer(self, refusal: Answer, scopes: frozenset[str], *, sent: str) -> bool:
        """Learn from a 401; return whether the request is worth repeating. ``sent`` is the ``Authorization`` it had.

        Raises NoCredentials when basic credentials are wanted and there are none.
        """
        challenges = parse_challenges(refusal.challenges())
        if self._credentials.registry_token:
            return False
        chosen = next((one for one in challenges if one.scheme == "bearer" and one.realm), None)
        chosen = chosen or next((one for one in challenges if one.scheme == "basic"), None)
        if chosen is None:
            return False
        if chosen.scheme == "basic":
            if not self._credentials.username:
                raise NoCredentials(self._endpoint.url)
            self._challenge = chosen
            return sent != basic(self._credentials)
        if sent.startswith("Bearer "):
            known = self._tokens.get(scopes)
            if known is not None and sent != f"Bearer {known.text}":
                return True  # another request has a newer one
            if self._tokens.pop(scopes, None) is None or "invalid_token" not in " ".join(refusal.challenges()):
                return False
        self._challenge = chosen
        return True

    async def login(self, challenge: Challenge) -> str:
        """Prove the credentials to the token service; return its identity token, "" when it gives none."""
        document = await self._ask(challenge, frozenset(), offline=True)
        token = document.get("refresh_token", "")
        return token if isinstance(token, str) else ""

    async def _fetch(self, challenge: Challenge, scopes: frozenset[str]) -> _Token:
        wanted = scopes or (frozenset(challenge.scope.split()) if challenge.scope else frozenset())
        document = await self._ask(challenge, wanted, offline=False)
        text = document.get("token") or document.get("access_token")
        if not isinstance(text, str) or not text or any(sign <= " " or sign > "~" for sign in text):
            raise Misbehaved("authorization server did not include a token in the response")
        seconds = document.get("expires_in")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < _SHORTEST:
            seconds = _SHORTEST
        return _Token(text, asyncio.get_running_loop().time() + min(seconds, _LONGEST) - _MARGIN)

    async def _ask(self, challenge: Challenge, scopes: frozenset[str], *, offline: bool) -> dict[str, object]:
        """Return the token service's answer. Raises Denied, Unreachable, Misbehaved."""
        realm = urlsplit(challenge.realm)
        self._check_realm(challenge.realm)
        service = Endpoint(f"{realm.scheme}://{realm.netloc}", "", verify=self._endpoint.verify, ca=self._endpoint.ca)
        query: list[tuple[str, str]] = [("service", challenge.service)] if challenge.service else []
        credentials = self._credentials
        if credentials.identity_token:
            form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", credentials.identity_token),
                ("client_id", CLIENT_ID),
                *query,
                ("scope", " ".join(sorted(scopes))),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            async with self._session.request("POST", challenge.realm, service, headers=headers, body=body) as answer:
                return await _document(answer)
        query += [("scope", scope) for scope in sorted(scopes)]
        if credentials.username:
            query.append(("account", credentials.username))
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        url = f"{challenge.realm}{'&' if realm.query else '?'}{urlencode(query)}"
        sent = basic(credentials) if credentials.username else ""
        async with self._session.request("GET", url, service, authorization=sent) as answer:
            return await _document(answer)

    def _check_realm(self, realm: str) -> None:
        parts, own = urlsplit(realm), urlsplit(self._endpoint.url)
        if parts.scheme == "https" or (
            parts.scheme == "http" and own.scheme == "http" and parts.hostname == own.hostname
        ):
            # What the endpoint must not point to is the session's to refuse.
            self._session.check(realm, self._endpoint)
            return
        raise Misbehaved(f"{self._endpoint.host} asks for credentials at {shown(realm)}, which is not encrypted")


async def _document(answer: Answer) -> dict[str, object]:
    body = await answer.document()
    if answer.status in (401, 403):
        error = of_answer(answer.status, answer.reason, body)
        detail = (
            error
            if error.code not in ("", "UNAUTHORIZED", "DENIED")
            else "unauthorized: incorrect username or password"
        )
        raise Denied(f'Get "{shown(answer.url)}": {detail}', status=answer.status, code="UNAUTHORIZED")
    if answer.status >= 400:
        raise Unreachable(f"{shown(answer.url)}: {of_answer(answer.status, answer.reason, body)}", status=answer.status)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Misbehaved(f"unable to decode token response: {exc}") from exc
    if not isinstance(document, dict):
        raise Misbehaved("unable to decode token response: it is no object")
    return document
