"""From a create request and an image's configuration to a checked container configuration (pure)."""

from __future__ import annotations

import re

import msgspec

from boxship.base.errors import InvalidInput
from boxship.engine.health import policy as health_policy
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import identity, selinux
from boxship.engine.options.security import security_options
from boxship.engine.settings import EngineSettings
from boxship.engine.signals import parse_signal
from boxship.runtime import mount_options
from boxship.spec.docker.container import (
    ContainerConfig,
    CreateRequest,
    HostConfig,
    LogConfig,
    RestartPolicy,
)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HOSTNAME_BYTES = 63
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_])?\Z")
_LOG_OPTIONS = {
    "json-file": {
        "max-size",
        "max-file",
        "compress",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
        "mode",
        "max-buffer-size",
    },
    "none": set(),
}
_SECURITY_OPTIONS = ("apparmor", "label", "no-new-privileges", "seccomp", "systempaths")
_BOOLEANS = ("true", "false")
_TMPFS_FLAGS = mount_options.names()
_TMPFS_VALUES = ("gid", "huge", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid")
_SIZE = re.compile(r"(?i)(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\Z")


def merge_image(request: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """Return the request's configuration with what it leaves open filled in from the image's.

    An entrypoint given by the user clears the image's command, as in Docker.
    """
    env = list(request.env or [])
    named = {entry.partition("=")[0] for entry in env}
    env = [entry for entry in image.env or [] if entry.partition("=")[0] not in named] + env
    entrypoint, cmd = as_words(request.entrypoint), as_words(request.cmd)
    if entrypoint is None:
        if not cmd:
            cmd = as_words(image.cmd)
        entrypoint = as_words(image.entrypoint)
    elif entrypoint in ([], [""]):
        entrypoint = None
    return msgspec.structs.replace(
        _plain(request),
        user=request.user or image.user,
        exposed_ports={**(image.exposed_ports or {}), **(request.exposed_ports or {})} or None,
        env=env,
        labels={**(image.labels or {}), **(request.labels or {})},
        cmd=cmd or None,
        entrypoint=entrypoint,
        volumes={**(image.volumes or {}), **(request.volumes or {})} or None,
        working_dir=request.working_dir or image.working_dir,
        stop_signal=request.stop_signal or image.stop_signal,
        stop_timeout=request.stop_timeout if request.stop_timeout is not None else image.stop_timeout,
        healthcheck=health_policy.merge(request.healthcheck, image.healthcheck),
        shell=request.shell or image.shell,
        on_build=None,
    )


def command(config: ContainerConfig) -> tuple[str, list[str]]:
    """Return the program and its arguments; raise InvalidInput when the configuration names none."""
    words = (as_words(config.entrypoint) or []) + (as_words(config.cmd) or [])
    if not words:
        raise InvalidInput("no command specified")
    return words[0], words[1:]


def as_words(value: list[str] | str | None) -> list[str] | None:
    """Return a command that may have come as one string as a list; old clients send a plain string."""
    return [value] if isinstance(value, str) else value


def check(config: ContainerConfig, host: HostConfig, settings: EngineSettings, info: SysInfo) -> HostConfig:
    """Check what needs no image and no host state; return the host configuration with Docker's defaults filled in.

    ``settings`` give the daemon's own defaults. Limits are checked by :func:`boxship.engine.options.limits.fit`.
    Raises InvalidInput in Docker's words.
    """
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidInput(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    if config.hostname and (
        len(config.hostname) > 253
        or not _HOSTNAME.match(config.hostname)
        or len(config.hostname.split(".")[0]) > _HOSTNAME_BYTES
    ):
        raise InvalidInput(f"invalid hostname format: {config.hostname}")
    for entry in config.env or []:
        if not entry.partition("=")[0]:
            raise InvalidInput(f"invalid environment variable: {entry}")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    _check_ports(config, host)
    _check_modes(host)
    if settings.identity_of(host) is not None:
        identity.check(host)
    _check_security(host, info)
    _check_restart(host)
    storage_size(host)
    _check_tmpfs(host)
    log = _checked_log(_with_daemon_options(host.log_config, settings.log_config))
    return msgspec.structs.replace(
        host,
        log_config=log,
        network_mode="bridge" if host.network_mode in ("", "default") else host.network_mode,
        ipc_mode=host.ipc_mode or settings.default_ipc_mode,
        cgroupns_mode=host.cgroupns_mode
        or settings.default_cgroupns_mode
        or ("host" if host.privileged else "private"),
        shm_size=host.shm_size or settings.default_shm_size,
        memory_swap=host.memory * 2 if host.memory > 0 and host.memory_swap == 0 else host.memory_swap,
        restart_policy=host.restart_policy if host.restart_policy.name else RestartPolicy(name="no"),
        pids_limit=host.pids_limit or None,
        runtime=host.runtime or settings.default_runtime,
    )


def split_request(request: CreateRequest) -> tuple[ContainerConfig, HostConfig]:
    """Return the two halves of a create request."""
    return _plain(request), request.host_config or HostConfig()


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``10m`` or ``1.5GiB`` (units of 1024); raise InvalidInput."""
    match = _SIZE.match(text.strip())
    if not match:
        raise InvalidInput(f"invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** "_kmgtp".index(match[2].lower() or "_"))


def storage_size(host: HostConfig) -> int:
    """Return how many bytes the writable layer may take, 0 for no bound. Raises InvalidInput for any other option."""
    size = 0
    for name, value in (host.storage_opt or {}).items():
        if name.lower() != "size":
            raise InvalidInput(f"Unknown option {name}")
        size = parse_size(value)
    return size


def _plain(config: ContainerConfig) -> ContainerConfig:
    """Return only the ContainerConfig part of a struct that may be a CreateRequest."""
    return ContainerConfig(**{name: getattr(config, name) for name in ContainerConfig.__struct_fields__})


def _check_ports(config: ContainerConfig, host: HostConfig) -> None:
    for port in {**(config.exposed_ports or {}), **(host.port_bindings or {})}:
        number, _, protocol = port.partition("/")
        if not number.isdecimal() or not 0 < int(number) < 65536 or protocol not in ("", "tcp", "udp", "sctp"):
            raise InvalidInput(f'invalid port specification: "{port}"')
    for port, bindings in (host.port_bindings or {}).items():
        for binding in bindings or []:
            low, _, high = binding.host_port.partition("-")
            numbers = [text for text in (low, high) if text]
            if any(not text.isdecimal() or int(text) > 65535 for text in numbers) or (high and int(high) < int(low)):
                raise InvalidInput(f'invalid port specification: "{binding.host_port}"')
            if not port:
                raise InvalidInput('invalid port specification: ""')


def _check_modes(host: HostConfig) -> None:
    for what, mode, known in (
        ("IPC", host.ipc_mode, ("", "none", "private", "shareable", "host")),
        ("PID", host.pid_mode, ("", "host")),
        ("UTS", host.uts_mode, ("", "host")),
        ("user namespace", host.userns_mode, ("", "host")),
        ("cgroup namespace", host.cgroupns_mode, ("", "private", "host")),
    ):
        joined = what in ("IPC", "PID") and mode.startswith("container:")
        if mode not in known and not joined:
            raise InvalidInput(f"Invalid {what} mode: {mode}")
    if host.isolation not in ("", "default"):
        raise InvalidInput(f"Invalid isolation: \"{host.isolation}\" - linux only supports 'default'")


def _check_security(host: HostConfig, info: SysInfo) -> None:
    for option, (key, value) in zip(host.security_opt or [], security_options(host), strict=True):
        if not value and key != "disable":
            raise InvalidInput(f'invalid --security-opt 1: "{option}"')
        if key not in (*_SECURITY_OPTIONS, "disable") or (key == "no-new-privileges" and value not in _BOOLEANS):
            raise InvalidInput(f'invalid --security-opt 2: "{option}"')
        if key == "apparmor" and value != "unconfined" and not info.apparmor:
            # Docker ignores the profile; whoever asked for one should not believe in it.
            raise InvalidInput(f'invalid --security-opt: "{option}": AppArmor is not enabled on this host')
    selinux.check(host)


def _check_tmpfs(host: HostConfig) -> None:
    for options in (host.tmpfs or {}).values():
        unknown = [
            option
            for option in options.split(",")
            if option and option not in _TMPFS_FLAGS and option.partition("=")[0] not in _TMPFS_VALUES
        ]
        if unknown:
            words = " ".join(f'"{option}"' for option in unknown)
            raise InvalidInput(f"invalid tmpfs option [{words}]")


def _check_restart(host: HostConfig) -> None:
    policy = host.restart_policy
    if policy.name not in ("", "no", "always", "on-failure", "unless-stopped"):
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidInput("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")


def _with_daemon_options(log: LogConfig, default: LogConfig) -> LogConfig:
    """Return the container's choice; the daemon's options count for the daemon's driver only."""
    driver = log.type or default.type
    options = dict(default.config or {}) if driver == default.type else {}
    return LogConfig(type=driver, config={**options, **(log.config or {})})


def _checked_log(log: LogConfig) -> LogConfig:
    driver = log.type or "json-file"
    if driver not in _LOG_OPTIONS:
        raise InvalidInput(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    options = log.config or {}
    for name, value in options.items():
        if name not in _LOG_OPTIONS[driver]:
            raise InvalidInput(f"unknown log opt '{name}' for {driver} log driver")
        if name == "max-size":
            try:
                parse_size(value)
            except InvalidInput as exc:
                raise InvalidInput(f"failed to initialize logging driver: {exc}") from exc
        if name == "max-file" and (not value.isdecimal() or int(value) < 1):
            raise InvalidInput("failed to initialize logging driver: max-file cannot be less than 1")
    return LogConfig(type=driver, config=dict(options))
