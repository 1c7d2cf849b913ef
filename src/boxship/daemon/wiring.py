"""Puts the engine together: every service gets what it needs through its constructor, here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from boxship.api import backend
from boxship.api.shipping import Shipping
from boxship.base.errors import InvalidInput, SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.build.caching import limits
from boxship.build.service import BuildService
from boxship.build.steps import entitlements
from boxship.content import ContentStore
from boxship.daemon import inspection
from boxship.daemon.authorization import PluginAuthorizer
from boxship.daemon.config import DaemonConfig
from boxship.daemon.listeners import exposure_warnings
from boxship.daemon.registries import Registries
from boxship.engine.checkpoints.service import CheckpointService
from boxship.engine.connecting import ContainerNetworks
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.containers import ContainerService
from boxship.engine.creation import Creator
from boxship.engine.debug.service import DebugService
from boxship.engine.disk.service import DiskService
from boxship.engine.files import ContainerFiles
from boxship.engine.health.monitor import HealthMonitor, SystemClock
from boxship.engine.health.probe import Probe
from boxship.engine.lifecycle import Lifecycle, Watchers
from boxship.engine.observation import sysinfo
from boxship.engine.observation.events import EventBus
from boxship.engine.observation.memory import MemoryMonitor
from boxship.engine.observation.sampling import StatsSampler
from boxship.engine.observation.system import SystemService, engine_id
from boxship.engine.options.apparmor import DefaultProfile
from boxship.engine.options.request import parse_size
from boxship.engine.processes.execs import ExecService
from boxship.engine.processes.launcher import Launcher
from boxship.engine.processes.nameserver import Nameserver
from boxship.engine.processes.proxy import Proxy
from boxship.engine.reconfigure.service import Reconfigurer
from boxship.engine.repair import Repair
from boxship.engine.rootfs import threads
from boxship.engine.rootfs.archive import ArchiveService
from boxship.engine.rootfs.commit import CommitService
from boxship.engine.rootfs.unpacking import Unpacking
from boxship.engine.rows import ContainerRows
from boxship.engine.settings import BUILTIN_RUNTIME, EngineSettings, Runtime
from boxship.engine.start import StartComposer
from boxship.engine.steps.runner import ContainerRunner
from boxship.engine.stillness import Stillness
from boxship.images import ImageService, ImageUser, collection
from boxship.networks import AddressPool, NetworkOptions, NetworkService
from boxship.networks.files import DNSDefaults
from boxship.networks.plugged import PluggedNetworks
from boxship.plugins import Ledger, PluginOptions, Plugins
from boxship.snapshots import open_snapshotter, quota
from boxship.spec.docker.container import LogConfig, Ulimit
from boxship.store import Store
from boxship.volumes import VolumeHistory, VolumeService
from boxship.volumes.drivers import VolumeDrivers

log = logging.getLogger(__name__)


class Services:
    """The running engine as the API sees it; ends with :meth:`close`."""

    def __init__(
        self,
        *,
        containers: backend.Containers,
        checkpoints: backend.Checkpoints,
        archives: backend.Archives,
        commits: backend.Commits,
        execs: backend.Execs,
        debugging: backend.Debugging,
        images: backend.Images,
        remotes: backend.Remotes,
        shipping: Shipping,
        system: backend.System,
        networks: backend.Networks,
        volumes: backend.Volumes,
        volume_history: backend.VolumeHistory,
        disk: backend.Disk,
        builds: BuildService,
        lifecycle: Lifecycle,
        sampler: StatsSampler,
        network_service: NetworkService,
        launcher: Launcher,
        events: EventBus,
        store: Store,
        instance: str,
        settings: EngineSettings,
        registries: Registries,
        collector: collection.Collector,
        debts: Ledger,
        authorizer: PluginAuthorizer | None,
    ) -> None:
        self.containers = containers
        self.checkpoints = checkpoints
        self.archives = archives
        self.commits = commits
        self.execs = execs
        self.debugging = debugging
        self.images = images
        self.remotes = remotes
        self.system = system
        self.shipping = shipping
        self.networks = networks
        self.volumes = volumes
        self.volume_history = volume_history
        self.disk = disk
        self.builds = builds
        self._lifecycle = lifecycle
        self._sampler = sampler
        self._network_service = network_service
        self._launcher = launcher
        self._events = events
        self._store = store
        self._instance = instance
        self._settings = settings
        self._registries = registries
        self._collector = collector
        self._debts = debts
        self.authorizer = authorizer
        self._collecting = asyncio.create_task(collector.run())

    async def reload(self, config: DaemonConfig) -> None:
        """Take over what SIGHUP may change, and say so. Raises SystemFailure and changes nothing for what is not there."""
        policy = collection.parse(config.image_gc)
        offered, bounds = entitlements.offered(config.builder), limits.parse(config.builder)
        self._registries.reload(config)
        self._collector.policy = policy
        self.builds.entitlements, self.builds.limits = offered, bounds
        self._settings.take_over(engine_settings(config))
        attributes = {
            "name": os.uname().nodename,
            "debug": str(config.debug).lower(),
            "default-cgroupns-mode": self._settings.default_cgroupns_mode or "private",
            "default-ipc-mode": "private",
            "default-runtime": self._settings.default_runtime,
            "default-shm-size": str(self._settings.default_shm_size),
            "insecure-registries": json.dumps(self._settings.insecure_registries),
            "labels": json.dumps(self._settings.labels),
            "live-restore": str(config.live_restore).lower(),
            "registry-mirrors": json.dumps(self._settings.registry_mirrors),
            "runtimes": ",".join(sorted(self._settings.runtimes)),
            "shutdown-timeout": str(config.shutdown_timeout),
        }
        self._events.emit("daemon", "reload", engine_id(self._instance), attributes)

    async def close(self, *, stop_containers: bool) -> None:
        """End the engine; containers are stopped first or left running with their network."""
        await self.builds.close()
        self._collecting.cancel()
        await asyncio.gather(self._collecting, return_exceptions=True)
        await self._sampler.close()
        await self._lifecycle.close(stop_containers=stop_containers)
        if stop_containers:
            await self._network_service.close()
        await self._debts.close()
        await self._launcher.close()
        await self._events.close()
        await asyncio.to_thread(self._store.close)


async def start_services(config: DaemonConfig, *, identity: IdentityMapping | None = None) -> Services:
    """Start the engine: open the store, repair what a crash left, be ready for the API.

    ``identity``: the ids of containers on the host, if they are not the same.
    """
    settings = msgspec.structs.replace(engine_settings(config), identity=identity)
    plugins = Plugins(PluginOptions(directories=config.plugin_dirs, wait=config.plugin_wait))
    authorizer = PluginAuthorizer(config.authorization_plugins, plugins) if config.authorization_plugins else None
    if authorizer is not None:
        await authorizer.check()
    registries = Registries(config)
    gc_policy = collection.parse(config.image_gc)
    os.makedirs(f"{settings.exec_root}/netns", mode=0o700, exist_ok=True)
    os.makedirs(settings.shims_dir(), mode=0o700, exist_ok=True)
    for root in (settings.data_root, settings.exec_root):
        os.makedirs(f"{root}/build", mode=0o700, exist_ok=True)
    os.makedirs(settings.containers_dir(), mode=0o710, exist_ok=True)
    os.chown(settings.containers_dir(), 0, settings.owner[1])
    launcher = Launcher()
    await launcher.start()
    store = await asyncio.to_thread(Store, f"{settings.data_root}/boxship.db")
    await asyncio.to_thread(inspection.inspect, store)
    instance = await asyncio.to_thread(_instance, store)
    content = await asyncio.to_thread(ContentStore, f"{settings.data_root}/content", store)
    snapshotter = await asyncio.to_thread(
        open_snapshotter, config.data_root, store, config.storage_driver or "", identity
    )
    if settings.storage_size:
        await asyncio.to_thread(_check_quota, f"{settings.data_root}/overlay2")
    settings = msgspec.structs.replace(settings, storage_driver=snapshotter.name)
    events = await EventBus.open(store)

    def emit(container: Container, action: str, attributes: dict[str, str], *, kept: bool = True) -> None:
        labels = container.spec.config.labels or {}
        named = {"image": container.spec.config.image, "name": container.spec.name}
        events.emit("container", action, container.id, {**labels, **named, **attributes}, kept=kept)

    files = ContainerFiles(settings)
    rows = ContainerRows(store)
    index = ContainerIndex()
    debts = await asyncio.to_thread(Ledger, store, plugins)
    volumes = VolumeService(
        store,
        f"{settings.data_root}/volumes",
        emit=events.emit,
        owner=settings.owner,
        drivers=VolumeDrivers(plugins, debts, private=(settings.data_root, settings.exec_root), look=threads.answered),
    )
    dns = DNSDefaults(dns=config.dns, search=config.dns_search, options=config.dns_opts)
    networks = NetworkService(
        store=store,
        exec_root=settings.exec_root,
        instance=instance[:8],
        options=network_options(config),
        namespaces=launcher,
        emit=events.emit,
        identity=identity,
        dns=dns,
        names=Nameserver(f"{settings.exec_root}/nameserver"),
        plugged=PluggedNetworks(plugins, debts),
        relay=Proxy(f"{settings.exec_root}/proxy"),
    )
    composer = StartComposer(
        settings,
        snapshotter=snapshotter,
        files=files,
        dns=dns,
        apparmor=DefaultProfile(),
        has_quota=volumes.has_quota,
    )

    def users() -> list[ImageUser]:
        return [
            ImageUser(container.id, id, reference, container.status.alive)
            for container in index
            for id, reference in container.spec.images().items()
        ]

    images = ImageService(store, content, snapshotter, emit=events.emit, users=users, registries=registries)

    def process(container: Container) -> dict[str, Any]:
        return composer.process(container)

    host = await asyncio.to_thread(sysinfo.probe)
    creator = Creator(
        settings,
        host,
        rows=rows,
        images=images,
        snapshotter=snapshotter,
        volumes=volumes,
        files=files,
        index=index,
        network_name=networks.name_of,
        emit=emit,
    )
    execs = ExecService(index, emit, process)
    health = HealthMonitor(
        probe=lambda container, plan: Probe(execs, container, plan),
        save=rows.save_status,
        emit=emit,
        restart=lambda container: lifecycle.restart_unhealthy(container),
        clock=SystemClock(),
    )
    memory = MemoryMonitor(composer.cgroup, lambda container: lifecycle.out_of_memory(container))
    lifecycle = Lifecycle(
        settings,
        host,
        rows=rows,
        index=index,
        snapshotter=snapshotter,
        networks=networks,
        volumes=volumes,
        launcher=launcher,
        composer=composer,
        files=files,
        emit=emit,
        exec_exited=execs.exited,
        watcher=Watchers(health, memory),
    )
    repair = Repair(
        settings,
        rows=rows,
        lifecycle=lifecycle,
        execs=execs,
        files=files,
        snapshotter=snapshotter,
        networks=networks,
        volumes=volumes,
    )
    reconfigurer = Reconfigurer(
        settings,
        host,
        rows=rows,
        lifecycle=lifecycle,
        networks=networks,
        volumes=volumes,
        images=images,
        snapshotter=snapshotter,
        composer=composer,
        files=files,
        emit=emit,
    )
    await repair.run()
    await reconfigurer.resume(index)
    debugging = DebugService(settings, index=index, creator=creator, lifecycle=lifecycle, execs=execs, images=images)
    await debugging.resume(index)
    checkpoints = CheckpointService(settings, lifecycle=lifecycle, index=index, files=files, emit=emit)
    await checkpoints.resume()
    runner = ContainerRunner(
        settings,
        tools=debugging.tools,
        creator=creator,
        lifecycle=lifecycle,
        index=index,
        snapshotter=snapshotter,
    )
    await runner.resume(index)
    builds = await asyncio.to_thread(
        BuildService,
        store,
        images,
        runner,
        data_root=f"{settings.data_root}/build",
        state_root=f"{settings.exec_root}/build",
        identity=identity,
        emit=events.emit,
        entitlements=entitlements.offered(config.builder),
        limits=limits.parse(config.builder),
    )
    await asyncio.to_thread(builds.clear)
    health.resume(index)
    for container in index:
        memory.changed(container)
    await images.sweep()
    # Again: starting the networks changes what the host does, such as forwarding.
    host = await asyncio.to_thread(sysinfo.probe)
    sampler = StatsSampler(index, composer.cgroup, memory_total=host.memory_total)
    containers = ContainerService(
        lifecycle,
        creator,
        images=images,
        snapshotter=snapshotter,
        files=files,
        composer=composer,
        execs=execs,
        sampler=sampler,
        reconfigurer=reconfigurer,
        emit=emit,
        emit_pruned=lambda freed: events.emit("container", "prune", "", {"reclaimed": str(freed)}),
    )
    disk = DiskService(
        settings.data_root,
        store=store,
        content=content,
        snapshotter=snapshotter,
        index=index,
        checks=inspection.CHECKS,
    )
    system = SystemService(
        settings,
        instance=instance,
        sysinfo=host,
        index=index,
        images=images,
        volumes=volumes,
        events=events,
        storage_status=await asyncio.to_thread(_storage_status, settings),
        container_rows=lambda: containers.list(backend.ContainerQuery(all=True, size=True)),
        build_cache=builds.cache_usage,
        warnings=exposure_warnings(config),
        network_drivers=networks.drivers,
        authorization=config.authorization_plugins,
        network_warnings=networks.warnings,
    )
    return Services(
        containers=containers,
        checkpoints=checkpoints,
        archives=ArchiveService(index, snapshotter=snapshotter, files=files, launcher=launcher, emit=emit),
        commits=CommitService(lifecycle, images=images, snapshotter=snapshotter, emit=emit),
        execs=execs,
        debugging=debugging,
        images=images,
        remotes=images.remote,
        shipping=images.shipping,
        system=system,
        networks=ContainerNetworks(networks, lifecycle=lifecycle, rows=rows, composer=composer),
        volumes=volumes,
        volume_history=VolumeHistory(
            volumes,
            emit=events.emit,
            still=Stillness(index, lifecycle).still,
            stream=threads.stream,
            unpack=lambda source: Unpacking(source, identity),
        ),
        disk=disk,
        builds=builds,
        lifecycle=lifecycle,
        sampler=sampler,
        network_service=networks,
        launcher=launcher,
        events=events,
        store=store,
        instance=instance,
        settings=settings,
        registries=registries,
        collector=collection.Collector(
            store,
            images,
            policy=gc_policy,
            in_use=lambda: {user.image_id for user in users()},
            fullness=lambda: collection.percent_used(settings.data_root),
        ),
        debts=debts,
        authorizer=authorizer,
    )


def engine_settings(config: DaemonConfig) -> EngineSettings:
    """Return the engine's part of the configuration. Raises SystemFailure for what this engine cannot do."""
    runtimes = {BUILTIN_RUNTIME: Runtime()}
    for name, fields in config.runtimes.items():
        runtimes[name] = Runtime(path=str(fields.get("path", name)), args=list(fields.get("runtimeArgs") or []))
    default_runtime = config.default_runtime or BUILTIN_RUNTIME
    if default_runtime not in runtimes:
        raise SystemFailure(f"specified default runtime '{default_runtime}' does not exist")
    return EngineSettings(
        data_root=config.data_root,
        exec_root=config.exec_root,
        cgroup_parent=config.cgroup_parent or "/boxship",
        default_runtime=default_runtime,
        runtimes=runtimes,
        log_config=LogConfig(type=config.log_driver, config=dict(config.log_opts)),
        default_ulimits=[Ulimit(name=n, soft=soft, hard=hard) for n, (soft, hard) in config.default_ulimits.items()],
        default_shm_size=config.default_shm_size,
        default_cgroupns_mode=config.default_cgroupns_mode or "",
        default_ipc_mode=config.default_ipc_mode,
        seccomp_profile=config.seccomp_profile or "",
        no_new_privileges=config.no_new_privileges,
        host_gateway=config.host_gateway_ip or "",
        storage_size=storage_size(config.storage_opts),
        selinux_enabled=config.selinux_enabled,
        cdi_spec_dirs=_cdi_spec_dirs(config),
        init=config.init,
        init_path=config.init_path or "",
        live_restore=config.live_restore,
        shutdown_timeout=config.shutdown_timeout,
        debug=config.debug,
        labels=list(config.labels),
        experimental=config.experimental,
        insecure_registries=list(config.insecure_registries),
        registry_mirrors=list(config.registry_mirrors),
    )


def _cdi_spec_dirs(config: DaemonConfig) -> list[str]:
    """Return where specifications of CDI devices are; none when they are turned off, in either of Docker's two ways."""
    return [] if config.features.get("cdi") is False else [path for path in config.cdi_spec_dirs if path]


def storage_size(options: Sequence[str]) -> int:
    """Return the bytes a writable layer may take by ``--storage-opt``, 0 for no bound. Raises SystemFailure."""
    size = 0
    for option in options:
        key, separator, value = option.partition("=")
        match key.strip().lower():
            case "overlay2.size" if separator:
                try:
                    size = parse_size(value)
                except InvalidInput as exc:
                    raise SystemFailure(str(exc)) from exc
            case "overlay2.override_kernel_check":
                pass  # there is no such check
            case unknown:
                raise SystemFailure(f"overlay2: unknown option {unknown}")
    return size


def _check_quota(root: str) -> None:
    try:
        quota.check(root)
    except quota.QuotaUnsupported as exc:
        raise SystemFailure(
            "Storage option overlay2.size not supported. Filesystem does not support Project Quota"
        ) from exc


def network_options(config: DaemonConfig) -> NetworkOptions:
    """Return the networks' part of the configuration."""
    options = NetworkOptions(
        bridge=config.bridge or "",
        bip=config.bip or "",
        fixed_cidr=config.fixed_cidr or "",
        mtu=config.mtu,
        icc=config.icc,
        ip="127.0.0.1" if config.publish_on_loopback and config.ip == DaemonConfig().ip else config.ip,
        ip_forward=config.ip_forward,
        ip_masq=config.ip_masq,
        iptables=config.iptables,
        userland_proxy=config.userland_proxy,
        ipv6=config.ipv6,
        fixed_cidr_v6=config.fixed_cidr_v6 or "",
        ip6tables=config.ip6tables,
        respect_host=config.firewall_policy == "respect-host",
    )
    if config.default_address_pools:
        pools = tuple(AddressPool(base=base, size=size) for base, size in config.default_address_pools)
        options = msgspec.structs.replace(options, default_address_pools=pools)
    return options


def _instance(store: Store) -> str:
    """Return the id of this data root, made at its first start."""
    with store.read() as tx:
        known = tx.get("meta", "instance")
    if known is None:
        known = uuid.uuid4().hex.encode()
        document = known
        store.write_now(lambda tx: tx.put("meta", "instance", document))
    return known.decode()


def _storage_status(settings: EngineSettings) -> list[list[str]]:
    """Return the ``DriverStatus`` rows of info."""
    filesystem = "unknown"
    root = os.path.realpath(settings.data_root)
    with open("/proc/self/mountinfo") as file:
        mounts = [(fields[4], fields[fields.index("-") + 1]) for fields in (line.split() for line in file)]
    for point, kind in sorted(mounts):
        if root == point or root.startswith(point.rstrip("/") + "/"):
            filesystem = kind
    if settings.storage_driver != "overlay2":
        return []
    return [
        ["Backing Filesystem", "extfs" if filesystem.startswith("ext") else filesystem],
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
        ["userxattr", "false"],
    ]
