"""The daemon's configuration: flags and daemon.json, put together once, then frozen."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec

from boxship.daemon.flags import Flags
from boxship.daemon.options import BY_FLAG, BY_KEY, OPTIONS, BadValue, shown
from boxship.plugins.service import DIRECTORIES

CONFIG_FILE = "/etc/boxship/daemon.json"
DEFAULT_HOST = "unix:///run/boxship/boxship.sock"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
CERTIFICATES = "~/.docker"  # where dockerd looks for ca.pem, cert.pem and key.pem


class ConfigError(Exception):
    """The configuration is wrong; the text is for the person, in dockerd's words."""


class DaemonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, checked. Names are the keys of daemon.json with underscores; None is "not given"."""

    # This daemon's places and listeners.
    data_root: str = "/var/lib/boxship"
    exec_root: str = "/run/boxship"
    pidfile: str = "/run/boxship.pid"
    config_file: str = CONFIG_FILE
    hosts: tuple[str, ...] = (DEFAULT_HOST,)
    group: str = "boxship"
    tls: bool | None = None
    tlsverify: bool | None = None
    tlscacert: str | None = None
    tlscert: str | None = None
    tlskey: str | None = None
    metrics_addr: str | None = None
    authorization_plugins: tuple[str, ...] = ()
    experimental: bool = False
    features: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    live_restore: bool = False
    shutdown_timeout: int = 15  # seconds for all containers together, -1 no limit
    oom_score_adjust: int = 0

    # Its own log.
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    raw_logs: bool = False

    # Storage and images.
    storage_driver: str | None = None
    storage_opts: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    registry_mirror_rules: tuple[dict[str, Any], ...] = ()  # see docs/registry-client.md
    builder: dict[str, Any] = msgspec.field(default_factory=dict)  # see docs/build.md
    image_gc: dict[str, Any] = msgspec.field(default_factory=dict)  # see docs/images.md
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    http_proxy: str | None = None
    https_proxy: str | None = None
    no_proxy: str | None = None

    # Defaults of containers.
    runtimes: dict[str, dict[str, Any]] = {}  # name -> {"path": ..., "runtimeArgs": [...]}
    default_runtime: str | None = None
    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}
    default_ulimits: dict[str, tuple[int, int]] = {}  # name -> (soft, hard), -1 unlimited
    default_shm_size: int = 64 * 1024 * 1024  # bytes
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str | None = None
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")  # one empty name turns CDI off
    init: bool = False
    init_path: str | None = None
    cgroup_parent: str | None = None
    seccomp_profile: str | None = None
    no_new_privileges: bool = False
    userns_remap: str | None = None
    selinux_enabled: bool = False
    exec_opts: tuple[str, ...] = ()

    # Networks.
    bip: str | None = None
    bip6: str | None = None
    bridge: str | None = None
    fixed_cidr: str | None = None
    fixed_cidr_v6: str | None = None
    default_gateway: str | None = None
    default_gateway_v6: str | None = None
    default_address_pools: tuple[tuple[str, int], ...] = ()  # (CIDR, bits of each network)
    mtu: int = 1500
    network_control_plane_mtu: int = 1500
    icc: bool = True
    ip: str = "0.0.0.0"  # published ports without a host address bind here
    ip_forward: bool = True
    ip_masq: bool = True
    iptables: bool = True
    ip6tables: bool = True
    ipv6: bool = False
    firewall_backend: str | None = None
    firewall_policy: str = "publish"  # or "respect-host"
    publish_on_loopback: bool = False
    userland_proxy: bool = False
    userland_proxy_path: str | None = None
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ip: str | None = None

    # Plugins.
    plugin_dirs: tuple[str, ...] = DIRECTORIES
    plugin_wait: int = 30  # seconds

    # Cluster.
    swarm_default_advertise_addr: str | None = None
    node_generic_resources: tuple[str, ...] = ()

    @property
    def uses_tls(self) -> bool:
        """Whether TCP listeners speak TLS."""
        return bool(self.tls or self.tlsverify)

    @property
    def level(self) -> str:
        """The effective log level: ``debug`` wins."""
        return "debug" if self.debug else self.log_level


def load(flags: Flags) -> DaemonConfig:
    """Return the configuration of these flags and of the file they name. Raises ConfigError."""
    path = str(flags.values.get("config-file", CONFIG_FILE))
    try:
        fields = _read(path, flags, required="config-file" in flags.values)
        from_file = _checked(DaemonConfig(**fields)) if fields else DaemonConfig()
    except ConfigError as exc:
        raise ConfigError(f"unable to configure the Docker daemon with file {path}: {exc}") from exc
    given = {option.field: value for name, value in flags.values.items() if (option := BY_FLAG[name]).field}
    if "runtimes" in given:
        given["runtimes"] = {**from_file.runtimes, **given["runtimes"]}
    config = msgspec.structs.replace(from_file, **given)
    try:
        return _complete(_checked(config))
    except ConfigError as exc:
        raise ConfigError(str(exc).removeprefix("configuration validation from file failed: ")) from exc


def reload(config: DaemonConfig, flags: Flags) -> DaemonConfig:
    """Return ``config`` with what SIGHUP may change read anew; a key that left the file gets its default again.

    Raises ConfigError; nothing has changed then.
    """
    fresh = load(flags)
    fields = [option.field for option in OPTIONS if option.reload and option.field]
    return msgspec.structs.replace(config, **{field: getattr(fresh, field) for field in fields})


def ignored(flags: Flags) -> list[str]:
    """Return the flags that were accepted without meaning anything here."""
    return [name for name in flags.values if BY_FLAG[name].field is None]


def _read(path: str, flags: Flags, *, required: bool) -> dict[str, Any]:
    """Return the fields that the file sets; none if it is missing and nobody asked for it."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        if not required:
            return {}
        raise ConfigError(f"open {path}: no such file or directory") from None
    except OSError as exc:
        raise ConfigError(f"open {path}: {(exc.strerror or str(exc)).lower()}") from exc
    text = text.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"invalid JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ConfigError("the file does not hold a JSON object")
    _check_unknown(document)
    _check_conflicts(document, flags)
    fields = {}
    for key, value in _flattened(document).items():
        option = BY_KEY[key]
        try:
            converted = option.kind.from_json(value)
        except BadValue as exc:
            raise ConfigError(f"{key}: {exc}") from exc
        if option.field:
            fields[option.field] = converted
    return fields


def _flattened(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with ``proxies`` spread over the keys that its flags have."""
    proxies = document.get("proxies")
    if not isinstance(proxies, dict):
        return document
    return {**document, **{key: value for key, value in proxies.items() if key in BY_KEY}}


def _check_unknown(document: dict[str, Any]) -> None:
    unknown = sorted(key for key in document if key not in BY_KEY)
    if unknown:
        raise ConfigError(f"the following directives don't match any configuration option: {', '.join(unknown)}")


def _check_conflicts(document: dict[str, Any], flags: Flags) -> None:
    conflicts = []
    for name in sorted(flags.texts):
        option = BY_FLAG[name]
        if option.key not in document or name == "add-runtime":  # runtimes of both places add up
            continue
        texts = flags.texts[name]
        if option.kind.metavar == "map":
            value = shown(flags.values[name])
        else:
            value = shown(texts) if option.kind.many else shown(flags.values[name])
        conflicts.append(f"{option.key}: (from flag: {value}, from file: {shown(document[option.key])})")
    if conflicts:
        raise ConfigError(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )


def _checked(config: DaemonConfig) -> DaemonConfig:
    """Return ``config`` if each setting by itself makes sense."""
    for label in config.labels:
        if "=" not in label:
            raise _invalid(f"bad attribute format: {label}")
    for name in ("max_concurrent_downloads", "max_concurrent_uploads"):
        if getattr(config, name) < 0:
            raise _invalid(f"invalid {name.replace('_', ' ')}: {getattr(config, name)}")
    if config.max_download_attempts <= 0:
        raise _invalid(f"invalid max download attempts: {config.max_download_attempts}")
    if config.plugin_wait < 0:
        raise _invalid(f"invalid plugin wait: {config.plugin_wait}")
    if config.mtu < 0:
        raise _invalid(f"invalid default MTU: {config.mtu}")
    if config.log_level not in LOG_LEVELS:
        raise ConfigError(f"invalid logging level: {config.log_level}")
    if config.log_format not in ("text", "json"):
        raise ConfigError(f"invalid log format: {config.log_format}")
    if config.firewall_policy not in ("publish", "respect-host"):
        raise _invalid(f'invalid firewall policy: {config.firewall_policy}: use "publish" or "respect-host"')
    if config.default_ipc_mode not in ("private", "shareable"):
        raise _invalid(f'IPC mode "{config.default_ipc_mode}" is not supported as default value for daemon')
    for option in config.exec_opts:
        if option not in ("native.cgroupdriver=cgroupfs", "native.cgroupdriver=systemd", ""):
            raise _invalid(f"invalid exec option: {option}")
    if config.default_cgroupns_mode not in (None, "", "private", "host"):
        raise _invalid(
            f"invalid default cgroup namespace ({config.default_cgroupns_mode}): "
            'use "host" for cgroupns or "private" for private cgroupns'
        )
    return config


def _complete(config: DaemonConfig) -> DaemonConfig:
    """Return ``config`` with what depends on several settings, checked."""
    default = config.default_runtime
    if default is not None and default not in config.runtimes and default not in ("boxship", "runc"):
        raise ConfigError(f"specified default runtime '{default}' does not exist")
    directory = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser(CERTIFICATES)
    changes: dict[str, Any] = {
        "hosts": config.hosts or (DEFAULT_HOST,),
        "data_root": os.path.abspath(config.data_root),
        "exec_root": os.path.abspath(config.exec_root),
    }
    if config.uses_tls:
        changes["tlscert"] = config.tlscert or f"{directory}/cert.pem"
        changes["tlskey"] = config.tlskey or f"{directory}/key.pem"
        changes["tlscacert"] = config.tlscacert or (f"{directory}/ca.pem" if config.tlsverify else None)
    return msgspec.structs.replace(config, **changes)


# Nothing here uses these yet; none of them protects anybody.
_WITHOUT_EFFECT = (
    "bip6",
    "default_gateway",
    "default_gateway_v6",
    "firewall_backend",
    "fixed_cidr_v6",
    "metrics_addr",
    "network_control_plane_mtu",
    "node_generic_resources",
    "raw_logs",
    "swarm_default_advertise_addr",
    "userland_proxy_path",
)


def without_effect(config: DaemonConfig) -> list[str]:
    """Return the names of options that somebody set and that this engine does not follow."""
    default = DaemonConfig()
    drivers = [option for option in config.exec_opts if option == "native.cgroupdriver=systemd"]  # cgroups are our own
    return drivers + [
        name.replace("_", "-") for name in _WITHOUT_EFFECT if getattr(config, name) != getattr(default, name)
    ]


def _invalid(text: str) -> ConfigError:
    return ConfigError(f"configuration validation from file failed: {text}")
