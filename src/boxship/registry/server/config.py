"""Configuration: the reference registry's keys in YAML, overridden by ``REGISTRY_*`` variables, and some of our own.

``REGISTRY_HTTP_ADDR`` is ``http.addr``: the variable's words are the path of the key, its value is YAML. Sections that mean
nothing here (caches, log hooks, other storage drivers' tuning) are taken and ignored, so that a file for the reference
registry works; a misspelt key of a known section is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml
from msgspec import field

from boxship.base.errors import InvalidInput
from boxship.base.moments import parse_duration
from boxship.registry.server.collector import UNTAGGED
from boxship.registry.server.retention import Rule
from boxship.spec.oci import DOCUMENT_LIMIT

PREFIX = "REGISTRY_"


class InvalidConfiguration(InvalidInput):
    """The configuration can't be read; the text names the key."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of the file; unknown keys are errors."""


class Enabled(_Section, frozen=True, kw_only=True):
    """A switch."""

    enabled: bool = True


class Filesystem(_Section, frozen=True, kw_only=True):
    """Where everything is kept."""

    rootdirectory: str = "/var/lib/registry"
    maxthreads: int = 100  # the reference registry's, no meaning here


class UploadPurging(_Section, frozen=True, kw_only=True):
    """Sessions that nobody continues."""

    enabled: bool = True
    age: str = "168h"
    interval: str = ""  # they go with every round of the collector
    dryrun: bool = False


class ReadOnly(_Section, frozen=True, kw_only=True):
    """Refuses every change."""

    enabled: bool = False


class GarbageCollection(_Section, frozen=True, kw_only=True):
    """Our own: collection while the registry runs."""

    enabled: bool = True
    interval: str = "1m"
    grace: str = "1h"
    untagged: str = "deleted"

    def __post_init__(self) -> None:
        if self.untagged not in UNTAGGED:
            raise ValueError(f"untagged: {self.untagged!r} is none of {', '.join(UNTAGGED)}")


class Maintenance(_Section, frozen=True, kw_only=True):
    """What the registry does beside serving."""

    uploadpurging: UploadPurging = UploadPurging()
    readonly: ReadOnly = ReadOnly()
    garbagecollection: GarbageCollection = GarbageCollection()


class Storage(_Section, frozen=True, kw_only=True):
    """The storage and its care."""

    filesystem: Filesystem = Filesystem()
    delete: Enabled = Enabled()
    maintenance: Maintenance = Maintenance()
    cache: dict[str, Any] | None = None
    redirect: dict[str, Any] | None = None


class Tls(_Section, frozen=True, kw_only=True):
    """The listener's certificate; ``clientcas`` asks clients for one of theirs."""

    certificate: str = ""
    key: str = ""
    clientcas: list[str] = []
    minimumtls: str = "tls1.2"
    ciphersuites: list[str] = []


class Clients(_Section, frozen=True, kw_only=True):
    """Our own: what clients may cost that are slow on purpose."""

    connections: int = 0  # at a time; 0: 10,000, or fewer where the process may not open that many files
    head: str = "75s"  # from the end of an answer until the next request's head is there
    stall: str = "5m"  # in which a body brings 64 KiB, and a client takes something of its answer

    def __post_init__(self) -> None:
        if self.connections < 0:
            raise ValueError(f"connections: {self.connections} is below 0")


class Http(_Section, frozen=True, kw_only=True):
    """The listener."""

    addr: str = ":5000"
    tls: Tls = Tls()
    headers: dict[str, list[str]] = {}
    host: str = ""
    prefix: str = ""
    net: str = "tcp"
    relativeurls: bool = True  # they always are
    secret: str = ""
    draintimeout: str = "10s"
    clients: Clients = Clients()
    http2: dict[str, Any] | None = None
    h2c: dict[str, Any] | None = None
    debug: dict[str, Any] | None = None


class Htpasswd(_Section, frozen=True, kw_only=True):
    """Users in a file of Apache's htpasswd (bcrypt)."""

    realm: str = "Registry Realm"
    path: str


class Token(_Section, frozen=True, kw_only=True):
    """Tokens of somebody else's issuer."""

    realm: str
    service: str
    issuer: str
    rootcertbundle: str = ""
    jwks: str = ""
    signingalgorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    autoredirect: bool = False


class Issuer(_Section, frozen=True, kw_only=True):
    """Our own: this registry issues tokens itself, to the users of ``htpasswd``."""

    service: str = "registry"
    issuer: str = "boxship-registry"
    expiration: str = "5m"
    realm: str = ""  # URL of /token as clients see it; "": as they call this registry


class Auth(_Section, frozen=True, kw_only=True):
    """Who may come in."""

    htpasswd: Htpasswd | None = None
    token: Token | None = None
    issuer: Issuer | None = None

    def __post_init__(self) -> None:
        if self.token is not None and (self.htpasswd is not None or self.issuer is not None):
            raise ValueError("auth: token excludes htpasswd and issuer")
        if self.issuer is not None and self.htpasswd is None:
            raise ValueError("auth: issuer needs the users of htpasswd")


class AccessRule(_Section, frozen=True, kw_only=True):
    """Our own: who may do what with which repositories."""

    repositories: list[str]  # patterns as in a shell
    users: list[str]  # names, @groups, "*" (everybody signed in), "anonymous" (everybody)
    actions: list[str]  # pull, push, delete, "*"

    def __post_init__(self) -> None:
        for action in self.actions:
            if action not in ("pull", "push", "delete", "*"):
                raise ValueError(f"access: {action!r} is none of pull, push, delete, *")


class Proxy(_Section, frozen=True, kw_only=True):
    """Pull-through cache of another registry."""

    remoteurl: str = ""
    username: str = ""
    password: str = ""
    ttl: str = "168h"
    exec: dict[str, Any] | None = None


class Ignored(_Section, frozen=True, kw_only=True):
    """Events that an endpoint does not want."""

    mediatypes: list[str] = []
    actions: list[str] = []


class Endpoint(_Section, frozen=True, kw_only=True):
    """Where events go."""

    name: str
    url: str
    disabled: bool = False
    headers: dict[str, list[str]] = {}
    timeout: str = "5s"
    threshold: int = 3
    backoff: str = "1s"
    ignoredmediatypes: list[str] = []
    ignore: Ignored = Ignored()


class Notifications(_Section, frozen=True, kw_only=True):
    """Webhooks."""

    endpoints: list[Endpoint] = []
    events: dict[str, Any] | None = None


class Indexes(_Section, frozen=True, kw_only=True):
    """Whether an index may name manifests that are not here (``none``)."""

    platforms: str = "all"
    platformlist: list[dict[str, Any]] = []


class Manifests(_Section, frozen=True, kw_only=True):
    """Checks of manifests."""

    urls: dict[str, Any] | None = None
    indexes: Indexes = Indexes()


class Validation(_Section, frozen=True, kw_only=True):
    """Checks of what is pushed; ``disabled`` is the reference registry's and never true here."""

    enabled: bool = True
    disabled: bool = False
    manifests: Manifests = Manifests()


class Limits(_Section, frozen=True, kw_only=True):
    """Our own: what pushes may cost. 0 is no limit."""

    blob: int = 0  # bytes of one blob
    manifest: int = DOCUMENT_LIMIT  # bytes of one manifest; never more than the default
    uploads: int = 10_000  # that are under way at a time
    useruploads: int = 1_000  # of those, of one user; all who did not sign in are one

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 0:
                raise ValueError(f"limits: {name} is below 0")


class Catalog(_Section, frozen=True, kw_only=True):
    """Limits of lists."""

    maxentries: int = 1000


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged: ``level`` and the access log; the rest is the reference registry's."""

    level: str = "info"
    accesslog: dict[str, Any] = {}


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    version: float | str = 0.1
    log: Log = Log()
    storage: Storage = Storage()
    http: Http = Http()
    auth: Auth = Auth()
    access: list[AccessRule] = []
    groups: dict[str, list[str]] = {}
    retention: list[Rule] = []
    proxy: Proxy = Proxy()
    notifications: Notifications = Notifications()
    validation: Validation = Validation()
    limits: Limits = Limits()
    catalog: Catalog = Catalog()
    pages: Enabled = field(default_factory=Enabled)
    health: dict[str, Any] | None = None
    redis: dict[str, Any] | None = None
    reporting: dict[str, Any] | None = None
    middleware: dict[str, Any] | None = None
    policy: dict[str, Any] | None = None


def load(text: str, environment: Mapping[str, str]) -> Config:
    """Return the configuration of a file's text and the environment. Raises InvalidConfiguration."""
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except yaml.YAMLError as exc:
        raise InvalidConfiguration(f"configuration: {exc}") from exc
    if not isinstance(document, dict):
        raise InvalidConfiguration("configuration: not a mapping of sections")
    for name, value in sorted(environment.items()):
        _override(document, name, value)
    try:
        config = msgspec.convert(_without_nulls(document), Config)
        _check_durations(config)
    except (msgspec.ValidationError, ValueError) as exc:
        raise InvalidConfiguration(f"configuration: {exc}") from exc
    return config


def seconds(duration: str) -> float:
    """Return the seconds of a Go duration; "" is never. Raises ValueError."""
    return parse_duration(duration) / 1e9 if duration else math.inf


def _override(document: dict[str, Any], name: str, value: str) -> None:
    """Put one variable into the document, if it names a section at all."""
    words = name.removeprefix(PREFIX).lower().split("_")
    if not name.startswith(PREFIX) or words[0] not in Config.__struct_fields__:
        return
    place = document
    for word in words[:-1]:
        if not isinstance(place.get(word), dict):
            place[word] = {}
        place = place[word]
    try:
        parsed = yaml.load(value, Loader=yaml.SafeLoader) if value else ""
    except yaml.YAMLError:
        parsed = value
    if len(words) == 1 and isinstance(parsed, str):  # REGISTRY_AUTH=htpasswd chooses one of several
        section = document.setdefault(words[0], {})
        if isinstance(section, dict):
            section.setdefault(parsed, {})
        return
    # ":5000" and the like are text for us whatever YAML thinks; so are passwords of digits.
    place[words[-1]] = parsed if isinstance(parsed, bool | dict | list | int) and words[-1] not in _TEXTS else value


_TEXTS = frozenset(("addr", "password", "username", "secret", "rootdirectory", "path", "realm"))


def _without_nulls(value: Any) -> Any:  # a YAML document
    """Leave out keys without a value: "cache:" alone means the default."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _check_durations(config: Config) -> None:
    maintenance = config.storage.maintenance
    for text in (
        maintenance.uploadpurging.age,
        maintenance.garbagecollection.interval,
        maintenance.garbagecollection.grace,
        config.proxy.ttl,
        config.http.draintimeout,
        config.http.clients.head,
        config.http.clients.stall,
        *(text for endpoint in config.notifications.endpoints for text in (endpoint.timeout, endpoint.backoff)),
    ):
        seconds(text)
