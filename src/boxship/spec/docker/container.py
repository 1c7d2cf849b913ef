"""Container documents: configuration, creation, inspection, listing, exec (Engine API, tag Container and Exec)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field

from boxship.spec.docker.network import EndpointSettings


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """A health check; durations are nanoseconds, 0 means "inherit"."""

    test: list[str] | None = None  # [] inherit, ["NONE"], ["CMD", ...], ["CMD-SHELL", "..."]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What does not depend on the host (``Config`` of inspect, and of images)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None  # {"80/tcp": {}}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool | None = None
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class PortBinding(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    type: str = ""
    config: dict[str, str] | None = None


class Ulimit(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str = ""
    hard: int = 0
    soft: int = 0


class DeviceMapping(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class WeightDevice(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    path: str = ""
    weight: int = 0


class ThrottleDevice(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    path: str = ""
    rate: int = 0


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Mount(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """One ``--mount`` of a host configuration; the option documents are kept as given."""

    type: str = ""  # bind, volume, tmpfs, image, npipe, cluster
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None
    tmpfs_options: dict[str, Any] | None = None
    image_options: dict[str, Any] | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Limits of one container; memory in bytes, CPU periods in microseconds."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")


class HostConfig(Resources, frozen=True, kw_only=True, rename="pascal"):
    """What depends on the host (``HostConfig`` of create and inspect)."""

    binds: list[str] | None = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[Mount] | None = None
    console_size: list[int] | None = None  # [height, width]
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    init: bool | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None


class NetworkingConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateRequest(ContainerConfig, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /containers/create: a configuration with the host's part beside it."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class CreateResponse(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    id: str
    warnings: list[str] = []


class HealthResult(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    start: str = ""
    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    status: str = "none"
    failing_streak: int = 0
    log: list[HealthResult] | None = None


class ContainerState(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    status: str = "created"  # created running paused restarting removing exited dead
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = field(default=False, name="OOMKilled")
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    health: Health | msgspec.UnsetType = msgspec.UNSET


class MountPoint(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One mount as inspect and ps show it."""

    type: str = ""
    name: str | msgspec.UnsetType = msgspec.UNSET  # volumes only
    source: str = ""
    destination: str = ""
    driver: str | msgspec.UnsetType = msgspec.UNSET  # volumes only
    mode: str = ""
    rw: bool = field(default=True, name="RW")
    propagation: str = ""


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """``NetworkSettings`` of inspect; the flat addresses are those of the default bridge (dropped from 1.52 on)."""

    bridge: str = ""
    sandbox_id: str = field(default="", name="SandboxID")
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] = {}
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = field(default=0, name="LinkLocalIPv6PrefixLen")
    secondary_ip_addresses: None = field(default=None, name="SecondaryIPAddresses")
    secondary_ipv6_addresses: None = field(default=None, name="SecondaryIPv6Addresses")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = {}


class GraphDriver(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str
    data: dict[str, str] | None = None


class ContainerInspect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of GET /containers/{id}/json."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerState
    image: str
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str = ""
    restart_count: int = 0
    driver: str = ""
    platform: str = "linux"
    image_manifest_descriptor: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = field(default=None, name="ExecIDs")
    host_config: HostConfig
    graph_driver: GraphDriver
    size_rw: int | msgspec.UnsetType = msgspec.UNSET
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET
    mounts: list[MountPoint] = []
    config: ContainerConfig
    network_settings: NetworkSettings


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a listing; ``IP`` and ``PublicPort`` only when published."""

    ip: str | msgspec.UnsetType = field(default=msgspec.UNSET, name="IP")
    private_port: int = field(default=0, name="PrivatePort")
    public_port: int | msgspec.UnsetType = field(default=msgspec.UNSET, name="PublicPort")
    type: str = field(default="tcp", name="Type")


class SummaryHostConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    network_mode: str = ""
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class SummaryNetworks(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    networks: dict[str, EndpointSettings] = {}


class HealthSummary(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    status: str = "none"
    failing_streak: int = 0


class ContainerSummary(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of GET /containers/json; ``created`` is in Unix seconds."""

    id: str
    names: list[str]
    image: str
    image_id: str = field(name="ImageID")
    command: str
    created: int
    ports: list[Port]
    size_rw: int | msgspec.UnsetType = msgspec.UNSET
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworks
    mounts: list[MountPoint]
    health: HealthSummary = HealthSummary()  # since 1.52


class ExecConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | str | None = None


class ExecStart(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class ExecProcess(msgspec.Struct, frozen=True, kw_only=True):
    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool = False
    user: str | msgspec.UnsetType = msgspec.UNSET


class ExecInspect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of GET /exec/{id}/json."""

    id: str = field(name="ID")
    running: bool
    exit_code: int | None
    process_config: ExecProcess = field(name="ProcessConfig")
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str = field(name="ContainerID")
    detach_keys: str = ""
    pid: int = 0


class WaitError(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    message: str = ""


class WaitResult(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of POST /containers/{id}/wait."""

    status_code: int
    error: WaitError | msgspec.UnsetType = msgspec.UNSET


class TopResult(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    processes: list[list[str]]
    titles: list[str]


class PathStat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is at a path of a container (header ``X-Docker-Container-Path-Stat``)."""

    name: str
    size: int
    mode: int  # Go's os.FileMode
    mtime: str
    link_target: str
