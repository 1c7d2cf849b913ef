"""Where a repository is looked for: the registry's own host and its mirrors, in order, and how each is spoken to (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from boxship.base.errors import Forbidden, InvalidInput

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
LOOPBACK = ("127.0.0.0/8", "::1/128")  # insecure without being told, as in Docker


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a user proves who they are with, for one registry."""

    username: str = ""
    password: str = ""
    identity_token: str = ""  # an OAuth2 refresh token
    registry_token: str = ""  # a bearer token to be sent as it is

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:  # never into a log
        return f"Credentials(username={self.username!r})"


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """One mirror of a rule."""

    url: str  # scheme and authority
    rewrite: str | None = None  # what the rule's prefix becomes there, None: unchanged
    ca: str = ""  # file of certificates to trust
    credentials: Credentials = Credentials()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Which mirrors serve the repositories whose name starts with ``prefix`` (whole path components)."""

    prefix: str  # "docker.io", "quay.io/org"
    mirrors: tuple[Mirror, ...] = ()
    fallback: bool = True  # whether the registry itself is asked at last

    def matches(self, name: str) -> bool:
        """Return whether the rule is for the repository ``host/path``."""
        return name == self.prefix or name.startswith(f"{self.prefix}/")


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's settings about registries; a reload replaces the whole."""

    mirrors: tuple[str, ...] = ()  # URLs, of Docker Hub
    rules: tuple[Rule, ...] = ()
    insecure: tuple[str, ...] = ()  # hosts, host:ports, CIDRs
    certificates: tuple[str, ...] = ("/etc/docker/certs.d",)  # directories with one directory per host:port
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    downloads: int = 3  # connections at once
    uploads: int = 5
    attempts: int = 5


class Endpoint(NamedTuple):
    """One place where a repository may be found."""

    url: str  # scheme and authority
    path: str  # the repository's name there
    verify: bool = True  # certificates
    mirror: bool = False
    ca: str = ""
    credentials: Credentials | None = None  # its own; None: the user's

    @property
    def host(self) -> str:
        """Host and port as in the URL."""
        return urlsplit(self.url).netloc


def endpoints(domain: str, path: str, settings: RegistrySettings, *, mirrors: bool = True) -> Sequence[Endpoint]:
    """Return the places of the repository ``domain/path``, the preferred one first.

    ``mirrors`` False is for what changes a registry. Raises Forbidden when a rule has no place for it and forbids the
    registry itself.
    """
    found: list[Endpoint] = []
    name = f"{domain}/{path}"
    matching = [rule for rule in settings.rules if rule.matches(name)]
    rule = max(matching, key=lambda rule: len(rule.prefix), default=None)
    if mirrors:
        if rule is not None:
            found += [_of_mirror(mirror, rule, name, path, settings) for mirror in rule.mirrors]
        if domain == HUB:
            found += [
                Endpoint(url, path, verify=_is_secure(url, settings), mirror=True, credentials=Credentials())
                for url in settings.mirrors
            ]
    if rule is not None and not rule.fallback:
        if not found:
            raise Forbidden(
                f"registry {domain} must not be contacted for {name}: the mirror rule {rule.prefix!r} forbids it"
            )
        return found
    host = HUB_HOST if domain == HUB else domain
    if is_insecure(host, settings.insecure):
        found += [Endpoint(f"https://{host}", path, verify=False), Endpoint(f"http://{host}", path, verify=False)]
    else:
        found.append(Endpoint(f"https://{host}", path))
    return found


def is_insecure(host: str, insecure: Iterable[str]) -> bool:
    """Return whether ``host[:port]`` may be spoken to without a verified certificate."""
    name = urlsplit(f"//{host}").hostname or ""
    address = _address("127.0.0.1" if name == "localhost" else name)
    for entry in (*LOOPBACK, *insecure):
        if entry in (host, name):
            return True
        try:
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            pass  # a host name
    return False


def parse_mirror(url: str) -> str:
    """Return a ``registry-mirrors`` entry in its plain form. Raises InvalidInput in Docker's words."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(f'invalid mirror: unsupported scheme "{parts.scheme}" in "{url}"')
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidInput(f'invalid mirror: path, query, or fragment at end of the URI "{url}"')
    if parts.username is not None:
        raise InvalidInput(
            f"invalid mirror: username/password not allowed in URI {parts.scheme}://xxxxx@{parts.hostname}"
        )
    if not parts.hostname:
        raise InvalidInput(f'invalid mirror: "{url}" is not a valid URI')
    return f"{parts.scheme}://{parts.netloc}"


def parse_rules(documents: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Return the rules of daemon.json's ``registry-mirror-rules``; passwords are read from their files.

    Raises InvalidInput that names the rule at fault.
    """
    rules = []
    for document in documents:
        if not isinstance(document, Mapping) or not isinstance(document.get("prefix"), str) or not document["prefix"]:
            raise InvalidInput("registry-mirror-rules: a rule needs a prefix")
        prefix = document["prefix"].strip("/")
        unknown = set(document) - {"prefix", "mirrors", "fallback"}
        if unknown:
            raise InvalidInput(f"registry-mirror-rules: {prefix}: unknown key {min(unknown)!r}")
        if not isinstance(document.get("fallback", True), bool):
            raise InvalidInput(f"registry-mirror-rules: {prefix}: fallback is true or false")
        mirrors = tuple(_parse_rule_mirror(prefix, mirror) for mirror in document.get("mirrors") or ())
        rules.append(Rule(prefix=prefix, mirrors=mirrors, fallback=document.get("fallback", True)))
    return tuple(rules)


_MIRROR_KEYS = ("url", "rewrite", "ca", "username", "password-file")


def _parse_rule_mirror(prefix: str, document: Any) -> Mirror:  # a JSON document
    if isinstance(document, str):
        document = {"url": document}
    if not isinstance(document, Mapping) or any(not isinstance(value, str) for value in document.values()):
        raise InvalidInput(f"registry-mirror-rules: {prefix}: a mirror is a URL or an object of texts")
    unknown = set(document) - set(_MIRROR_KEYS)
    if unknown:
        raise InvalidInput(f"registry-mirror-rules: {prefix}: unknown key {min(unknown)!r}")
    password = ""
    if path := document.get("password-file"):
        try:
            with open(path, encoding="utf-8") as file:
                password = file.read().rstrip("\n")
        except (OSError, ValueError) as exc:
            raise InvalidInput(f"registry-mirror-rules: {prefix}: can't read {path}: {exc}") from exc
    rewrite = document.get("rewrite")
    return Mirror(
        url=parse_mirror(document.get("url", "")),
        rewrite=None if rewrite is None else rewrite.strip("/"),
        ca=document.get("ca", ""),
        credentials=Credentials(username=document.get("username", ""), password=password),
    )


def _of_mirror(mirror: Mirror, rule: Rule, name: str, path: str, settings: RegistrySettings) -> Endpoint:
    there = path
    if mirror.rewrite is not None:
        there = f"{mirror.rewrite}/{name[len(rule.prefix) :].lstrip('/')}".strip("/")
    return Endpoint(
        mirror.url,
        there,
        verify=_is_secure(mirror.url, settings),
        mirror=True,
        ca=mirror.ca,
        credentials=mirror.credentials,
    )


def _is_secure(url: str, settings: RegistrySettings) -> bool:
    return not is_insecure(urlsplit(url).netloc, settings.insecure)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
