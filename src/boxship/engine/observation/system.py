"""Version, info, events and disk usage: ``api.backend.System``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import boxship
from boxship.base import clock
from boxship.engine.cdi import registry
from boxship.engine.container import ContainerIndex
from boxship.engine.model import State
from boxship.engine.observation.events import EventBus
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.settings import EngineSettings
from boxship.images import ImageService
from boxship.spec.docker.build import BuildCacheItem
from boxship.spec.docker.container import ContainerSummary
from boxship.spec.docker.system import ComponentVersion, EventMessage, Info, Version
from boxship.volumes import VolumeService

# Read now: an upgrade may replace the files under a running daemon.
_BUILD_TIME = clock.rfc3339(int(Path(boxship.__file__).stat().st_mtime) * 1_000_000_000)
API_VERSION = "1.56"
MIN_API_VERSION = "1.24"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


class EventQuery(Protocol):
    """What an event stream reads of its query (``api.backend.EventQuery``)."""

    @property
    def since(self) -> int: ...

    @property
    def until(self) -> int: ...

    @property
    def filters(self) -> dict[str, list[str]]: ...


class SystemService:
    """Answers questions about the engine and its host."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        instance: str,
        sysinfo: SysInfo,
        index: ContainerIndex,
        images: ImageService,
        volumes: VolumeService,
        events: EventBus,
        storage_status: list[list[str]],
        container_rows: Callable[[], Awaitable[list[ContainerSummary]]],
        build_cache: Callable[[], Awaitable[list[BuildCacheItem]]],
        warnings: Sequence[str] = (),
        network_drivers: Callable[[], list[str]],
        authorization: Sequence[str] = (),
        network_warnings: Callable[[], Awaitable[list[str]]],
    ) -> None:
        """``warnings`` are further ones of ``info``, about what the daemon does beside the engine."""
        self._settings = settings
        self._instance = instance
        self._sysinfo = sysinfo
        self._index = index
        self._images = images
        self._volumes = volumes
        self._events = events
        self._storage_status = storage_status
        self._container_rows = container_rows
        self._build_cache = build_cache
        self._warnings = warnings
        self._network_drivers = network_drivers
        self._authorization = list(authorization)
        self._network_warnings = network_warnings

    async def version(self) -> Version:
        """Return versions of the engine and its parts; Python's stands where clients print Go's."""
        details = {
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "Arch": architecture(),
            "BuildTime": _BUILD_TIME,
            "Experimental": str(self._settings.experimental).lower(),
            "GitCommit": _commit(),
            "GoVersion": _python(),
            "KernelVersion": platform.release(),
            "Os": "linux",
        }
        return Version(
            platform={"Name": "Boxship"},
            components=[
                ComponentVersion(name="Engine", version=boxship.__version__, details=details),
                ComponentVersion(name="boxship-runtime", version=boxship.__version__, details={"GitCommit": _commit()}),
                ComponentVersion(name="boxship-shim", version=boxship.__version__, details={"GitCommit": _commit()}),
            ],
            version=boxship.__version__,
            api_version=API_VERSION,
            min_api_version=MIN_API_VERSION,
            git_commit=_commit(),
            go_version=_python(),
            os="linux",
            arch=architecture(),
            kernel_version=platform.release(),
            experimental=bool(self._settings.experimental),
            build_time=_BUILD_TIME,
        )

    async def info(self) -> Info:
        """Return what ``docker info`` prints."""
        settings, host = self._settings, self._sysinfo
        states = [container.status.state for container in self._index]
        images = await self._images.list(all=True, filters={}, shared_size=False, digests=False)
        found = await asyncio.to_thread(registry.scan, settings.cdi_spec_dirs)
        warnings = [*self._warnings, *await self._network_warnings()]
        return {
            "ID": engine_id(self._instance),
            "Containers": len(states),
            "ContainersRunning": states.count(State.RUNNING),
            "ContainersPaused": states.count(State.PAUSED),
            "ContainersStopped": len(states) - states.count(State.RUNNING) - states.count(State.PAUSED),
            "Images": len(images),
            "Driver": settings.storage_driver,
            "DriverStatus": self._storage_status,
            "Plugins": {
                "Volume": self._volumes.drivers(),
                "Network": self._network_drivers(),
                "Authorization": self._authorization or None,
                "Log": ["json-file", "none"],
            },
            "MemoryLimit": host.memory_limit,
            "SwapLimit": host.swap_limit,
            "KernelMemoryTCP": False,
            "CpuCfsPeriod": host.cpu_cfs,
            "CpuCfsQuota": host.cpu_cfs,
            "CPUShares": host.cpu_shares,
            "CPUSet": host.cpuset,
            "PidsLimit": host.pids_limit,
            "IPv4Forwarding": host.ipv4_forwarding,
            "BridgeNfIptables": host.bridge_nf_iptables,
            "BridgeNfIp6tables": host.bridge_nf_ip6tables,
            "Debug": settings.debug,
            "NFd": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "OomKillDisable": host.oom_kill_disable,
            "NGoroutines": len(asyncio.all_tasks()),
            "SystemTime": clock.rfc3339(clock.now_ns()),
            "LoggingDriver": settings.log_config.type,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": str(host.cgroup_version),
            "NEventsListener": self._events.listeners,
            "KernelVersion": host.kernel_version,
            "OperatingSystem": host.operating_system,
            "OSVersion": host.os_version,
            "OSType": "linux",
            "Architecture": platform.machine(),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
                "IndexConfigs": {
                    "docker.io": {
                        "Name": "docker.io",
                        "Mirrors": settings.registry_mirrors,
                        "Secure": True,
                        "Official": True,
                    }
                },
                "Mirrors": settings.registry_mirrors,
            },
            "NCPU": host.cpus,
            "MemTotal": host.memory_total,
            "GenericResources": None,
            "DockerRootDir": settings.data_root,
            "HttpProxy": os.environ.get("HTTP_PROXY", ""),
            "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
            "NoProxy": os.environ.get("NO_PROXY", ""),
            "Name": platform.node(),
            "Labels": settings.labels,
            "ExperimentalBuild": settings.experimental,
            "ServerVersion": boxship.__version__,
            "Runtimes": {
                name: {"path": runtime.path or "boxship-runtime"} for name, runtime in settings.runtimes.items()
            },
            "DefaultRuntime": settings.default_runtime,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": settings.live_restore,
            "Isolation": "",
            "InitBinary": "docker-init",
            # What stands in for containerd and runc here; clients print these lines always.
            "ContainerdCommit": {"ID": f"boxship-shim {boxship.__version__}"},
            "RuncCommit": {"ID": f"boxship-runtime {boxship.__version__}"},
            "InitCommit": {"ID": ""},
            "SecurityOptions": self._security_options(),
            "CDISpecDirs": settings.cdi_spec_dirs,
            "DiscoveredDevices": [{"Source": "cdi", "ID": name} for name in sorted(found.devices)] or None,
            "Warnings": [*host.warnings(), *warnings, *(f"CDI: {error}" for error in found.errors)] or None,
        }

    def _security_options(self) -> list[str]:
        host = self._sysinfo
        options = ["name=seccomp,profile=builtin"] if host.seccomp else []
        options = ["name=apparmor", *options] if host.apparmor else options
        options += ["name=selinux"] if host.selinux and self._settings.selinux_enabled else []
        options += ["name=userns"] if self._settings.identity else []
        return options + (["name=cgroupns"] if host.cgroup_namespaces and host.cgroup_version == 2 else [])

    def events(self, query: EventQuery) -> AsyncIterator[EventMessage]:
        """Return events, past and coming."""
        return self._events.stream(since=query.since, until=query.until, filters=query.filters)

    async def disk_usage(self, types: Sequence[str]) -> dict[str, Any]:
        """Return what takes room, by kind; an empty ``types`` means all of them."""
        wanted = set(types) or {"container", "image", "volume", "build-cache"}
        result: dict[str, Any] = {}
        if "image" in wanted:
            images = await self._images.list(all=False, filters={}, shared_size=True, digests=False)
            result |= {"Images": images, "LayersSize": await asyncio.to_thread(self._images.layers.disk_usage)}
        if "container" in wanted:
            result["Containers"] = await self._container_rows()
        if "volume" in wanted:
            result["Volumes"] = list(await self._volumes.usage())
        if "build-cache" in wanted:
            cache = await self._build_cache()
            result |= {"BuildCache": cache, "BuilderSize": sum(item.size for item in cache)}
        return result


def architecture() -> str:
    """Return this machine's architecture in the words of image configurations."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def engine_id(instance: str) -> str:
    """Return an instance id in the form of Docker's: twelve groups of four letters and digits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    digest = hashlib.sha512(instance.encode()).digest()
    letters = "".join(alphabet[byte & 31] for byte in digest[:48])
    return ":".join(letters[i : i + 4] for i in range(0, 48, 4))


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


def _commit() -> str:
    return "source"
