"""What is asked of a registry without pulling: log in, look at a manifest, search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from boxship.base.errors import InvalidInput, NotFound, SystemFailure, Unauthorized
from boxship.images import reference
from boxship.images.transfers.pulling import Puller
from boxship.images.transfers.referrers import referrers
from boxship.registry.client.auth import Authenticator, basic, parse_challenges
from boxship.registry.client.credentials import from_auth_config, from_header
from boxship.registry.client.errors import Denied, ManifestUnknown, NameUnknown, RegistryError
from boxship.registry.client.hosts import HUB, Credentials, Endpoint, endpoints
from boxship.registry.client.places import first
from boxship.registry.client.repository import Document, Repository, escape
from boxship.registry.client.session import Session
from boxship.spec.boxship.referrers import Referrers
from boxship.spec.docker.registry import AuthConfig
from boxship.spec.oci import Manifest, parse_manifest
from boxship.spec.oci.manifest import CONFIGS

HUB_KEYS = ("", "index.docker.io", "docker.io", "registry-1.docker.io")
_SEARCH_HOST = "https://index.docker.io"
_LIMITS = (1, 100)
_USUAL = 25
_FILTERS = ("is-official", "is-automated", "stars")


class Remote:
    """Answers of registries, for the API."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller

    async def login(self, config: AuthConfig) -> dict[str, str]:
        """Check credentials; return the answer of ``POST /auth``.

        Raises Unauthorized when they are refused, SystemFailure when the registry can't be asked.
        """
        address = config.serveraddress
        host = urlsplit(address if "://" in address else f"//{address}").netloc
        domain = HUB if host in HUB_KEYS else host
        credentials = from_auth_config(config)
        async with self._puller.session() as session:
            places = endpoints(domain, "", session.settings, mirrors=False)
            repositories = [Repository(session, place, credentials) for place in places]

            async def ask(repository: Repository) -> str:
                return await _login(session, repository.endpoint, credentials)

            _, token = await first(repositories, ask)
        return {"IdentityToken": token, "Status": "Login Succeeded"}

    async def referrers(self, ref: str, auth: str | None) -> Referrers:
        """Return what refers to an image in its registry. Raises NotFound and its kin."""
        name = reference.parse(ref).with_default_tag()
        async with self._puller.session() as session:
            resolved = await self._puller.resolve(session, name, from_header(auth))
            _, found = await first(resolved.repositories, lambda repository: referrers(repository, resolved.digest))
        return Referrers(digest=resolved.digest, referrers=found)

    async def distribution(self, ref: str, auth: str | None) -> dict[str, Any]:
        """Return the answer of ``GET /distribution/{name}/json``: descriptor and platforms. Raises NotFound and its kin."""
        name = reference.parse(ref).with_default_tag()
        credentials = from_header(auth)
        async with self._puller.session() as session:
            repositories = self._puller.repositories(session, name, credentials)

            async def ask(repository: Repository) -> Document:
                return await repository.manifest(name.digest or name.tag or "")

            try:
                repository, document = await first(repositories, ask)
            except (ManifestUnknown, NameUnknown) as exc:
                raise NotFound(str(exc)) from exc
            except Denied as exc:
                raise Unauthorized(str(exc)) from exc
            platforms = await _platforms(repository, document)
        descriptor = {"mediaType": document.media_type, "digest": document.digest, "size": len(document.data)}
        return {"Descriptor": descriptor, "Platforms": platforms}

    async def search(
        self, term: str, *, limit: int | None, filters: Mapping[str, Sequence[str]], auth: str | None
    ) -> list[dict[str, Any]]:
        """Return the rows of ``GET /images/search``. Raises InvalidInput for a limit or filter that makes no sense."""
        wanted = _USUAL if limit is None else limit
        if not _LIMITS[0] <= wanted <= _LIMITS[1]:
            raise InvalidInput(f"Limit {wanted} is outside the range of [{_LIMITS[0]}, {_LIMITS[1]}]")
        keep = _Filter(filters)
        if not term:
            raise InvalidInput("search term is required")
        head, slash, rest = term.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost"):
            domain, text = head, rest
        else:
            domain, text = HUB, term
        async with self._puller.session() as session:
            rows = await self._rows(session, domain, text, wanted, from_header(auth))
        return [row for row in rows if keep(row)][:wanted]

    async def _rows(
        self, session: Session, domain: str, text: str, limit: int, credentials: Credentials
    ) -> list[dict[str, Any]]:
        places = list(endpoints(domain, "", session.settings))
        index = [Endpoint(_SEARCH_HOST, "")] if domain == HUB else places
        try:
            _, rows = await first(
                [Repository(session, place, credentials) for place in index],
                lambda repository: _indexed(repository, text, limit),
            )
            return rows
        except RegistryError as exc:
            # A registry has no search index: its catalogue is searched, for Docker Hub those of the mirrors.
            catalogues = [place for place in places if place.mirror] if domain == HUB else places
            if not catalogues:
                raise SystemFailure(str(exc)) from exc
        own = [
            Repository(session, place, credentials if place.credentials is None else place.credentials)
            for place in catalogues
        ]
        _, names = await first(own, Repository.catalogue)
        prefix = "" if domain == HUB else f"{domain}/"
        return [_row(prefix + name, official=name.startswith("library/")) for name in names if text in name]


async def _login(session: Session, endpoint: Endpoint, credentials: Credentials) -> str:
    """Return the identity token that the registry gives for the credentials, "" when it gives none."""
    url = f"{endpoint.url}/v2/"
    async with session.request("GET", url, endpoint) as answer:
        if answer.status < 400:
            return ""
        challenges = parse_challenges(answer.challenges()) if answer.status == 401 else []
        status, reason = answer.status, answer.reason
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.realm:
            return await Authenticator(session, endpoint, credentials).login(challenge)
        if challenge.scheme == "basic":
            async with session.request("GET", url, endpoint, authorization=basic(credentials)) as answer:
                if answer.status < 400:
                    return ""
                status, reason = answer.status, answer.reason
            break
    raise Denied(f"login attempt to {url} failed with status: {status} {reason}", status=status)


async def _platforms(repository: Repository, document: Document) -> list[dict[str, Any]]:
    parsed = parse_manifest(document.data, document.media_type)
    if not isinstance(parsed, Manifest):
        shown = (descriptor.platform for descriptor in parsed.manifests if descriptor.platform is not None)
        return [
            {
                key: value
                for key, value in (
                    ("architecture", platform.architecture),
                    ("os", platform.os),
                    ("os.version", platform.os_version),
                    ("variant", platform.variant),
                )
                if value
            }
            for platform in shown
        ]
    if parsed.config.media_type not in CONFIGS:
        return []
    async with repository.blob(parsed.config.digest) as (answer, _):
        data = await answer.document()
    try:
        config = json.loads(data)
        return [{key: config[key] for key in ("architecture", "os", "os.version", "variant") if config.get(key)}]
    except (ValueError, AttributeError, TypeError, RecursionError) as exc:
        raise SystemFailure(f"invalid image config: {exc}") from exc


async def _indexed(repository: Repository, text: str, limit: int) -> list[dict[str, Any]]:
    """Return what the registry's own search finds (``/v1/search``, which Docker Hub has)."""
    url = f"{repository.endpoint.url}/v1/search?q={escape(text)}&n={limit}"
    async with repository.call("GET", url, scopes=frozenset()) as answer:
        data = await answer.document()
    try:
        found = json.loads(data)["results"]
        return [
            _row(
                str(row["name"]),
                description=str(row.get("description") or ""),
                stars=int(row.get("star_count") or 0),
                official=bool(row.get("is_official")),
                automated=bool(row.get("is_automated")),
            )
            for row in found
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise RegistryError(f"{repository.endpoint.host}: its search answers with no list") from exc


def _row(
    name: str, *, description: str = "", stars: int = 0, official: bool = False, automated: bool = False
) -> dict[str, Any]:
    return {
        "star_count": stars,
        "is_official": official,
        "name": name,
        "is_automated": automated,
        "description": description,
    }


class _Filter:
    """Whether a row passes the filters. Raises InvalidInput for one that is not known."""

    def __init__(self, filters: Mapping[str, Sequence[str]]) -> None:
        for key in filters:
            if key not in _FILTERS:
                raise InvalidInput(f"invalid filter '{key}'")
        self._official = _flag(filters, "is-official")
        self._automated = _flag(filters, "is-automated")
        stars = filters.get("stars") or ["0"]
        if not all(text.isdecimal() and len(text) < 10 for text in stars):
            raise InvalidInput(f"invalid filter 'stars={stars[0]}'")
        self._stars = max(int(text) for text in stars)

    def __call__(self, row: Mapping[str, Any]) -> bool:
        return (
            self._official in (None, row["is_official"])
            and self._automated in (None, row["is_automated"])
            and row["star_count"] >= self._stars
        )


def _flag(filters: Mapping[str, Sequence[str]], key: str) -> bool | None:
    values = {value.lower() for value in filters.get(key) or ()}
    if values - {"true", "false", "1", "0"}:
        raise InvalidInput(f"invalid filter '{key}={min(values)}'")
    return None if not values else bool(values & {"true", "1"})
