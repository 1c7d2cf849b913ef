"""What a running registry consists of: storage, access, events, counters; opened once, shared by all handlers."""

from __future__ import annotations

import fcntl
import math
import os
import sys
from typing import NamedTuple

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.registry.server.access import Access
from boxship.registry.server.blobs import Blobs
from boxship.registry.server.collector import Collector, Policy
from boxship.registry.server.config import Config, seconds
from boxship.registry.server.database import Database
from boxship.registry.server.htpasswd import Htpasswd
from boxship.registry.server.metrics import Metrics
from boxship.registry.server.notifications import Notifier
from boxship.registry.server.proxy import Proxy
from boxship.registry.server.repositories import Repositories
from boxship.registry.server.rules import Rule, Rules
from boxship.registry.server.tokens import Issuer, Verifier, load_keys
from boxship.registry.server.uploads import Limits, Uploads

LONGEST = 86400.0  # seconds; a limit that is switched off is this


class Storage(NamedTuple):
    """Everything below the root directory."""

    database: Database
    blobs: Blobs
    uploads: Uploads
    repositories: Repositories
    collector: Collector
    lock_fd: int

    def close(self) -> None:
        """Close the database and let another process have the directory."""
        self.database.close()
        os.close(self.lock_fd)


class Service(NamedTuple):
    """A registry, ready to answer."""

    config: Config
    storage: Storage
    access: Access
    notifier: Notifier
    metrics: Metrics
    proxy: Proxy | None

    @property
    def stall(self) -> float:
        """How many seconds a client may bring nothing to speak of."""
        return min(seconds(self.config.http.clients.stall), LONGEST)


def open_storage(config: Config) -> Storage:
    """Open or create the root directory. Raises SystemFailure when another process has it, OSError."""
    root = config.storage.filesystem.rootdirectory
    os.makedirs(root, 0o700, exist_ok=True)
    lock_fd = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        database = Database(os.path.join(root, "registry.db"))
    except BlockingIOError:
        os.close(lock_fd)
        raise SystemFailure(f"another registry serves {root}") from None
    except BaseException:
        os.close(lock_fd)
        raise
    blobs = Blobs(os.path.join(root, "blobs"), database)
    limits = config.limits
    uploads = Uploads(
        os.path.join(root, "uploads"),
        blobs,
        Limits(limits.blob or sys.maxsize, limits.uploads or sys.maxsize, limits.useruploads or sys.maxsize),
    )
    repositories = Repositories(database)
    collector = Collector(database, repositories, blobs, uploads, policy_of(config))
    return Storage(database, blobs, uploads, repositories, collector, lock_fd)


def policy_of(config: Config) -> Policy:
    """Return what the collector may take."""
    maintenance = config.storage.maintenance
    purging = maintenance.uploadpurging
    upload_age = seconds(purging.age if purging.enabled and not purging.dryrun else "")
    if config.proxy.remoteurl:
        ttl = seconds(config.proxy.ttl) or math.inf
        return Policy(grace=ttl, upload_age=upload_age, untagged="keep" if math.isinf(ttl) else "all", tag_age=ttl)
    return Policy(
        grace=seconds(maintenance.garbagecollection.grace),
        upload_age=upload_age,
        untagged=maintenance.garbagecollection.untagged,
        rules=config.retention,
    )


def open_access(config: Config) -> Access:
    """Return what decides about requests. Raises InvalidInput, OSError for files that are missing or wrong."""
    auth = config.auth
    rules = [Rule(rule.repositories, rule.users, rule.actions) for rule in config.access]
    known = Rules(rules, config.groups, open=auth.htpasswd is None and auth.token is None)
    if auth.token is not None:
        keys = load_keys(certificates=auth.token.rootcertbundle, jwks=auth.token.jwks)
        verifier = Verifier(
            issuer=auth.token.issuer,
            service=auth.token.service,
            keys=keys,
            algorithms=auth.token.signingalgorithms,
        )
        return Access(known, verifier=verifier, realm=auth.token.realm, service=auth.token.service)
    users = _open_users(auth.htpasswd.path) if auth.htpasswd is not None else None
    realm = auth.htpasswd.realm if auth.htpasswd is not None else ""
    if auth.issuer is None:
        return Access(known, users=users, basic_realm=realm)
    issuer = Issuer(
        os.path.join(config.storage.filesystem.rootdirectory, "token-key.pem"),
        issuer=auth.issuer.issuer,
        service=auth.issuer.service,
        expiration=seconds(auth.issuer.expiration),
    )
    return Access(
        known,
        users=users,
        basic_realm=realm,
        verifier=issuer.verifier(),
        realm=auth.issuer.realm,
        service=auth.issuer.service,
        issuer=issuer,
    )


def _open_users(path: str) -> Htpasswd:
    try:
        return Htpasswd(path)
    except OSError as exc:
        raise InvalidInput(f"auth.htpasswd: {path}: {exc.strerror}") from exc
