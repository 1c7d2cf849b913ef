"""The document of ``POST /containers/create``: all flags of ``run`` and ``create`` put together as Docker puts them."""

from __future__ import annotations

from boxship.cli.options.devices import parse_devices
from boxship.cli.options.environment import read_environment, read_labels
from boxship.cli.options.mounts import parse_tmpfs, parse_volumes
from boxship.cli.options.networks import check_mac, endpoints
from boxship.cli.options.ports import parse_exposed, parse_ports
from boxship.cli.stdio import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.flags import Values

    Document = dict[str, Any]

HEALTH_TIMES = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
)
NAMESPACE_MODES = (
    ("pid", ("", "host"), "--pid: invalid PID mode"),
    ("uts", ("", "host"), "--uts: invalid UTS mode"),
    ("userns", ("", "host"), "--userns: invalid USER mode"),
    ("cgroupns", ("", "private", "host"), "--cgroupns: invalid CGROUP mode"),
)


def create_document(values: Values, *, detach: bool, api_socket: str) -> Document:
    """Return the whole document. ``values`` are those of CREATE_FLAGS; arguments are image and command; ``api_socket`` is
    the path that --use-api-socket mounts.

    Raises ValueError for what the command line alone shows to be wrong, OSError for files.
    """
    _check_conflicts(values)
    container = _container_config(values, detach=detach)
    host = _host_config(values, api_socket)
    mode, networks = endpoints(values)
    host["NetworkMode"] = mode
    exposed, host["PortBindings"] = parse_ports(values.many("publish"))
    exposed |= parse_exposed(values.many("expose"))
    if exposed:
        container["ExposedPorts"] = {port: {} for port in sorted(exposed)}
    host["Binds"], container["Volumes"] = parse_volumes(values.many("volume"))
    host["Binds"] = host["Binds"] or None
    return {**container, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": networks}}


def _check_conflicts(values: Values) -> None:
    if values.text("mac-address"):
        check_mac(values.text("mac-address"))
    swappiness = values.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    for flag, allowed, problem in NAMESPACE_MODES:
        mode = values.text(flag)
        if mode not in allowed and not (flag == "pid" and mode.startswith("container:") and len(mode) > 10):
            raise ValueError(problem)
    if values.is_set("rm") and restart_policy(values.text("restart"))["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")


def _container_config(values: Values, *, detach: bool) -> Document:
    attach = values.many("attach")
    interactive, tty = values.is_set("interactive"), values.is_set("tty")
    stdin = not detach and ("stdin" in attach or interactive)
    image, *command = values.arguments
    entrypoint: list[str] | None = None
    if "entrypoint" in values.changed:
        entrypoint = [values.text("entrypoint")]
    config: Document = {
        "Hostname": values.text("hostname"),
        "Domainname": values.text("domainname"),
        "User": values.text("user"),
        "AttachStdin": stdin,
        "AttachStdout": not detach and (not attach or "stdout" in attach),
        "AttachStderr": not detach and (not attach or "stderr" in attach),
        "Tty": tty,
        "OpenStdin": interactive,
        # The first attached client's end of input is the container's, if it attaches at all.
        "StdinOnce": interactive and stdin,
        "Env": read_environment(values.many("env-file"), values.many("env")) or None,
        "Cmd": command or None,
    }
    health = _health(values)
    if health is not None:
        config["Healthcheck"] = health
    config.update(
        {
            "Image": image,
            "Volumes": {},
            "WorkingDir": values.text("workdir"),
            "Entrypoint": entrypoint,
            "OnBuild": None,
            "Labels": read_labels(values.many("label-file"), values.many("label")),
        }
    )
    if values.text("stop-signal"):
        config["StopSignal"] = values.text("stop-signal")
    if "stop-timeout" in values.changed:
        config["StopTimeout"] = values.number("stop-timeout")
    return config


def _health(values: Values) -> Document | None:
    command = values.text("health-cmd")
    retries = values.number("health-retries")
    times = {field: values.number(flag) for flag, field in HEALTH_TIMES}
    given = bool(command or retries or any(times.values()))
    if values.is_set("no-healthcheck"):
        if given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for flag, field in HEALTH_TIMES:
        if times[field] < 0:
            raise ValueError(f"--{flag} cannot be negative")
    if retries < 0:
        raise ValueError("--health-retries cannot be negative")
    health: Document = {"Test": ["CMD-SHELL", command]} if command else {}
    health.update({field: nanoseconds for field, nanoseconds in times.items() if nanoseconds})
    if retries:
        health["Retries"] = retries
    return health


def restart_policy(text: str) -> Document:
    """Return ``RestartPolicy`` from ``no``, ``always``, ``unless-stopped`` or ``on-failure[:count]``. Raises ValueError."""
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    name, colon, count = text.partition(":")
    if not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    retries = 0
    if colon:
        try:
            retries = int(count)
        except ValueError:
            raise ValueError("invalid restart policy format: maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": retries}


def _host_config(values: Values, api_socket: str) -> Document:
    security, masked, readonly = _security(values.many("security-opt"))
    # Boxship's create call knows no other order than Docker's documents: keep it, a diff of the two stays readable.
    host: Document = {
        "Binds": None,
        "ContainerIDFile": values.text("cidfile"),
        "LogConfig": _log_config(values),
        "NetworkMode": "default",
        "PortBindings": {},
        "RestartPolicy": restart_policy(values.text("restart")),
        "AutoRemove": values.is_set("rm"),
        "VolumeDriver": values.text("volume-driver"),
        "VolumesFrom": values.many("volumes-from") or None,
        "ConsoleSize": list(window_size()),
    }
    if values.many("annotation"):
        host["Annotations"] = pairs(values.many("annotation"))
    host.update(
        {
            "CapAdd": _capabilities(values.many("cap-add")),
            "CapDrop": _capabilities(values.many("cap-drop")),
            "CgroupnsMode": values.text("cgroupns"),
            "Dns": values.many("dns"),
            "DnsOptions": values.many("dns-option"),
            "DnsSearch": values.many("dns-search"),
            "ExtraHosts": values.many("add-host") or None,
            "GroupAdd": values.many("group-add") or None,
            "IpcMode": values.text("ipc"),
            "Cgroup": "",
            "Links": values.many("link") or None,
            "OomScoreAdj": values.number("oom-score-adj"),
            "PidMode": values.text("pid"),
            "Privileged": values.is_set("privileged"),
            "PublishAllPorts": values.is_set("publish-all"),
            "ReadonlyRootfs": values.is_set("read-only"),
            "SecurityOpt": security if security or masked is not None else None,
        }
    )
    if values.many("storage-opt"):
        host["StorageOpt"] = _storage_options(values.many("storage-opt"))
    if values.many("tmpfs"):
        host["Tmpfs"] = parse_tmpfs(values.many("tmpfs"))
    host.update(
        {
            "UTSMode": values.text("uts"),
            "UsernsMode": values.text("userns"),
            "ShmSize": values.number("shm-size"),
        }
    )
    if values.many("sysctl"):
        host["Sysctls"] = pairs(values.many("sysctl"))
    if values.text("runtime"):
        host["Runtime"] = values.text("runtime")
    host["Isolation"] = values.text("isolation")
    host.update(_resources(values))
    mounts: list[Any] = list(values.many("mount"))
    if values.is_set("use-api-socket"):
        mounts.append(_api_socket_mount(api_socket))
    if mounts:
        host["Mounts"] = mounts
    host["MaskedPaths"] = masked
    host["ReadonlyPaths"] = readonly
    if values.is_set("init") or "init" in values.changed:
        host["Init"] = values.is_set("init")
    return host


def _resources(values: Values) -> Document:
    devices, qualified = parse_devices(values.many("device"))
    requests: list[Any] = list(values.many("gpus"))
    if qualified:
        requests.append({"Driver": "cdi", "Count": 0, "DeviceIDs": qualified, "Capabilities": None, "Options": None})
    resources: Document = {
        "CpuShares": values.number("cpu-shares"),
        "Memory": values.number("memory"),
        "NanoCpus": values.number("cpus"),
        "CgroupParent": values.text("cgroup-parent"),
        "BlkioWeight": values.number("blkio-weight"),
        "BlkioWeightDevice": values.many("blkio-weight-device"),
        "BlkioDeviceReadBps": values.many("device-read-bps"),
        "BlkioDeviceWriteBps": values.many("device-write-bps"),
        "BlkioDeviceReadIOps": values.many("device-read-iops"),
        "BlkioDeviceWriteIOps": values.many("device-write-iops"),
        "CpuPeriod": values.number("cpu-period"),
        "CpuQuota": values.number("cpu-quota"),
        "CpuRealtimePeriod": values.number("cpu-rt-period"),
        "CpuRealtimeRuntime": values.number("cpu-rt-runtime"),
        "CpusetCpus": values.text("cpuset-cpus"),
        "CpusetMems": values.text("cpuset-mems"),
        "Devices": devices,
        "DeviceCgroupRules": values.many("device-cgroup-rule") or None,
        "DeviceRequests": requests or None,
        "MemoryReservation": values.number("memory-reservation"),
        "MemorySwap": values.number("memory-swap"),
        "MemorySwappiness": values.number("memory-swappiness"),
        "OomKillDisable": values.is_set("oom-kill-disable"),
        "PidsLimit": values.number("pids-limit"),
        "Ulimits": sorted(
            {limit["Name"]: limit for limit in ulimits(values)}.values(), key=lambda limit: str(limit["Name"])
        ),
        "CpuCount": values.number("cpu-count"),
        "CpuPercent": values.number("cpu-percent"),
        "IOMaximumIOps": values.number("io-maxiops"),
        "IOMaximumBandwidth": values.number("io-maxbandwidth"),
    }
    return resources


def ulimits(values: Values) -> list[Document]:
    """Return the limits of ``--ulimit`` as they were given."""
    limits: list[Any] = values.many("ulimit")
    return limits


def pairs(items: list[str]) -> dict[str, str]:
    """Return ``name=value`` texts as a mapping; a bare name has an empty value."""
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _log_config(values: Values) -> Document:
    driver, options = values.text("log-driver"), pairs(values.many("log-opt"))
    if driver == "none" and options:
        raise ValueError(f"invalid logging opts for driver {driver}")
    return {"Type": driver, "Config": options}


def _storage_options(items: list[str]) -> dict[str, str]:
    if any("=" not in item for item in items):
        raise ValueError("invalid storage option")
    return pairs(items)


def _capabilities(names: list[str]) -> list[str] | None:
    """Return capability names in full (``sys_admin`` is ``CAP_SYS_ADMIN``), sorted, once each."""
    found = set()
    for name in names:
        upper = name.strip().upper()
        found.add(upper if upper in ("ALL", "") or upper.startswith("CAP_") else f"CAP_{upper}")
    return sorted(found - {""}) or None


def _security(options: list[str]) -> tuple[list[str], list[str] | None, list[str] | None]:
    """Return the options with seccomp profiles read in, and the masked and read-only paths (None: the engine's)."""
    found: list[str] = []
    masked: list[str] | None = None
    readonly: list[str] | None = None
    for option in options:
        if option == "systempaths=unconfined":
            masked, readonly = [], []
            continue
        name, equals, value = option.partition("=")
        if not equals and name != "no-new-privileges":
            name, equals, value = option.partition(":")
            if not equals:
                raise ValueError(f'Invalid --security-opt: "{option}"')
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            found.append(f"seccomp={_seccomp_profile(value)}")
        else:
            found.append(option)
    return found, masked, readonly


def _seccomp_profile(path: str) -> str:
    from boxship.client import jsontext

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as exc:
        reason = f"open {path}: {(exc.strerror or '').lower()}"
        raise ValueError(f"opening seccomp profile ({path}) failed: {reason}") from exc
    try:
        return jsontext.dumps(jsontext.loads(content))
    except ValueError as exc:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {exc}") from exc


def _api_socket_mount(api_socket: str) -> Document:
    return {
        "Type": "bind",
        "Source": api_socket,
        "Target": "/var/run/docker.sock",
        "BindOptions": {},
    }
