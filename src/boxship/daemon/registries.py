"""What the daemon's configuration says about registries, as the registry client wants it."""

from __future__ import annotations

import os

from boxship.base.errors import InvalidInput
from boxship.daemon.config import ConfigError, DaemonConfig
from boxship.registry.client.hosts import RegistrySettings, parse_mirror, parse_rules

DOCKER_CERTIFICATES = "/etc/docker/certs.d"


class Registries:
    """The settings in force; calling it returns them."""

    def __init__(self, config: DaemonConfig) -> None:
        self._current = registry_settings(config)

    def __call__(self) -> RegistrySettings:
        return self._current

    def reload(self, config: DaemonConfig) -> None:
        """Take over what a reload may change; proxies stay. Raises ConfigError, and changes nothing then."""
        fresh = registry_settings(config)
        self._current = fresh


def registry_settings(config: DaemonConfig) -> RegistrySettings:
    """Return the settings. Raises ConfigError for a mirror or rule that makes no sense."""
    try:
        return RegistrySettings(
            mirrors=tuple(parse_mirror(url) for url in config.registry_mirrors),
            rules=parse_rules(config.registry_mirror_rules),
            insecure=config.insecure_registries,
            certificates=(os.path.join(os.path.dirname(config.config_file), "certs.d"), DOCKER_CERTIFICATES),
            http_proxy=config.http_proxy or "",
            https_proxy=config.https_proxy or "",
            no_proxy=config.no_proxy or "",
            downloads=config.max_concurrent_downloads,
            uploads=config.max_concurrent_uploads,
            attempts=config.max_download_attempts,
        )
    except InvalidInput as exc:
        raise ConfigError(str(exc)) from exc
