"""What the engine takes from the daemon's configuration."""

from __future__ import annotations

import msgspec

from boxship.base.identity import IdentityMapping
from boxship.spec.docker.container import HostConfig, LogConfig, Ulimit

BUILTIN_RUNTIME = "boxship"


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """An OCI runtime by name; an empty path is our own, in the shim."""

    path: str = ""
    args: list[str] = []


# What a reload of the daemon's configuration changes (ENG-06); all else is fixed for its life.
RELOADABLE = (
    "debug",
    "default_runtime",
    "insecure_registries",
    "labels",
    "live_restore",
    "registry_mirrors",
    "runtimes",
    "shutdown_timeout",
)


class EngineSettings(msgspec.Struct, kw_only=True):
    """One object for the whole engine: who reads it anew sees what a reload changed."""

    data_root: str
    exec_root: str
    cgroup_parent: str = "/boxship"
    default_runtime: str = BUILTIN_RUNTIME
    runtimes: dict[str, Runtime] = msgspec.field(default_factory=lambda: {BUILTIN_RUNTIME: Runtime()})
    log_config: LogConfig = LogConfig(type="json-file")
    default_ulimits: list[Ulimit] = []
    default_shm_size: int = 64 * 1024 * 1024  # bytes
    default_cgroupns_mode: str = ""
    default_ipc_mode: str = "private"
    seccomp_profile: str = ""  # path of a file, or unconfined; empty is our own
    no_new_privileges: bool = False
    host_gateway: str = ""  # what host-gateway means in --add-host; empty is the bridge's address
    storage_size: int = 0  # bytes a writable layer may take, 0 for no bound
    cdi_spec_dirs: list[str] = []  # of rising priority; none turns CDI off
    init: bool = False
    init_path: str = ""
    live_restore: bool = False
    shutdown_timeout: int = 15  # seconds
    debug: bool = False
    labels: list[str] = []
    experimental: bool = False
    storage_driver: str = "overlay2"
    insecure_registries: list[str] = []
    registry_mirrors: list[str] = []
    selinux_enabled: bool = False
    identity: IdentityMapping | None = None  # --userns-remap

    def take_over(self, new: EngineSettings) -> None:
        """Replace what a reload may change by the values of ``new``."""
        for name in RELOADABLE:
            setattr(self, name, getattr(new, name))

    @property
    def owner(self) -> tuple[int, int]:
        """Uid and gid on the host of what belongs to container root."""
        return self.identity.root if self.identity else (0, 0)

    def identity_of(self, host: HostConfig) -> IdentityMapping | None:
        """Return the ids of a container on the host; None when they are the same."""
        return None if host.userns_mode == "host" else self.identity

    def containers_dir(self) -> str:
        """Return the directory that holds one directory per container."""
        return f"{self.data_root}/containers"

    def shims_dir(self) -> str:
        """Return the directory that holds one directory per shim."""
        return f"{self.exec_root}/shims"
