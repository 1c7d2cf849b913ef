"""The start document: everything a shim needs, composed for one start of one container."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from boxship.base.errors import Conflict, InvalidInput, SystemFailure
from boxship.engine import image_trees, init, links
from boxship.engine.cdi import injection, requests
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.files import ContainerFiles
from boxship.engine.model import ContainerSpec
from boxship.engine.options import devices, identity, oci, seccomp_profile
from boxship.engine.options.apparmor import DEFAULT_PROFILE, DefaultProfile
from boxship.engine.options.request import parse_size, storage_size
from boxship.engine.options.security import security_options
from boxship.engine.rootfs import threads
from boxship.engine.settings import EngineSettings
from boxship.linux import project_quota
from boxship.linux.cgroup import Cgroup, open_cgroup
from boxship.networks import files as network_files
from boxship.runtime import seccomp
from boxship.snapshots import Snapshotter
from boxship.spec.docker.container import HostConfig

COMPOSE_DEADLINE = 30.0  # seconds
_ONLY_OURS = {
    "namespace": "sharing /dev/shm of another container",
    "subpath": "a subpath of a volume or an image",
    "idmap": "mounts with other owners",
}


class StartComposer:
    """Turns a container's specification and surroundings into the message for the launcher."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        snapshotter: Snapshotter,
        files: ContainerFiles,
        dns: network_files.DNSDefaults,
        apparmor: DefaultProfile,
        has_quota: Callable[[str], bool],
    ) -> None:
        """``has_quota``: whether a quota bounds the volume of that name."""
        self._has_quota = has_quota
        self._apparmor = apparmor
        self._settings = settings
        self._snapshotter = snapshotter
        self._files = files
        self._dns = dns
        self._default_profile = _default_profile(settings.seccomp_profile)
        self._kernel = _kernel()
        self._programs: dict[tuple[str, ...], str] = {}

    def cgroup_path(self, spec: ContainerSpec) -> str:
        """Return the container's cgroup below the hierarchy's root."""
        parent = spec.host_config.cgroup_parent or self._settings.cgroup_parent
        return f"/{parent.strip('/')}/{spec.id}"

    def cgroup(self, container: Container) -> Cgroup:
        """Return the container's cgroup, to freeze, measure or list it."""
        return open_cgroup(self.cgroup_path(container.spec))

    def process(self, container: Container) -> dict[str, Any]:
        """Return the OCI process of the container, from which execs take environment, directory and capabilities."""
        spec = container.spec
        return oci.process(
            spec,
            hostname=spec.config.hostname or spec.id[:12],
            default_ulimits=self._settings.default_ulimits,
            no_new_privileges=self._settings.no_new_privileges,
        )

    async def compose(self, container: Container, index: ContainerIndex) -> dict[str, Any]:
        """Return the start document of ``wire.messages``; writes the files that it names."""
        # Devices and files that the user names may be on a file system that never answers.
        complaint = f"the files and devices that container {container.id} needs do not answer"
        return await threads.answered(lambda: self._compose(container, index), COMPOSE_DEADLINE, complaint)

    def _compose(self, container: Container, index: ContainerIndex) -> dict[str, Any]:
        spec, status = container.spec, container.status
        limits = spec.host_config
        if spec.apparmor_profile == DEFAULT_PROFILE:
            self._apparmor.ensure()
        hostname = self.write_files(container, index)
        state_dir = self._files.prepare_state_dir(spec.id)
        rootfs = self._snapshotter.rootfs(spec.id)
        if spec.beneath:
            lower = self._snapshotter.rootfs(spec.beneath)
            rootfs["lower"] = [lower["upper"], *cast("list[str]", lower["lower"])]
        runtime = self._settings.runtimes[limits.runtime]
        remapped = self._settings.identity_of(limits)
        document = oci.compose(
            spec,
            oci.Surroundings(
                files_dir=self._files_owner(spec),
                rootfs=str(rootfs["target"]),
                cgroup_path=self.cgroup_path(spec),
                network_namespace=self._network_namespace(container, index),
                identity=remapped,
                user_namespace=identity.namespace_path(container, index) if remapped else "",
                namespaces=_joined(limits, index),
                devices=devices.devices(limits),
                block_devices=devices.numbers(limits),
                shm_namespace=_shm_namespace(limits, index),
                seccomp=None,
                init_path=self._init_path(limits),
                hostname=hostname,
                default_ulimits=self._settings.default_ulimits,
                no_new_privileges=self._settings.no_new_privileges,
            ),
        )
        document["process"]["env"] += links.environment(spec, links.of(spec, index, running=True))
        if container.secret_env:
            document["process"]["env"] = oci.replace_env(document["process"]["env"], list(container.secret_env))
        injection.inject(document, requests.resolve(limits.device_requests or [], self._settings.cdi_spec_dirs))
        if runtime.path:
            _check_foreign(document, limits.runtime)
        bounding = document["process"]["capabilities"]["bounding"]
        bounded = bool(storage_size(limits) or self._settings.storage_size) or any(
            self._has_quota(mount.name) for mount in spec.mounts if mount.type == "volume"
        )
        program, profile = self._seccomp(limits, bounding, compiled=not runtime.path, bounded=bounded)
        if profile is not None:
            document["linux"]["seccomp"] = profile
        trees = [self._snapshotter.rootfs(key) for key in image_trees.keys(spec)]
        label = {"label": spec.mount_label} if spec.mount_label else {}
        log = limits.log_config
        options = log.config or {}
        return {
            "id": spec.id,
            "state_dir": state_dir,
            "spec": document,
            "user": {"name": spec.config.user, "groups": limits.group_add or []},
            "rootfs": {**rootfs, **label},
            "trees": [{**tree, **label} for tree in trees],
            "stdio": {
                "tty": spec.config.tty,
                "stdin": spec.config.open_stdin,
                "stdin_once": spec.config.stdin_once,
                "console_size": limits.console_size if limits.console_size and all(limits.console_size) else None,
            },
            "log": {
                "driver": log.type,
                "path": self._files.log_path(spec.id),
                "max_size": parse_size(options["max-size"]) if "max-size" in options else 0,
                "max_file": int(options.get("max-file", "1")),
                "compress": options.get("compress") == "true",
            },
            "seccomp": program,
            "cgroup": {"path": self.cgroup_path(spec)},
            "runtime": {"path": runtime.path, "args": runtime.args} if runtime.path else None,
            "sandbox": status.sandbox.id if status.sandbox else "",
        }

    # -- the three files ---------------------------------------------------------------------------------------------

    def write_files(self, container: Container, index: ContainerIndex) -> str:
        """Write hostname, hosts and resolv.conf; return the hostname. A container that shares a network shares its files.

        Blocking; for a container that starts, and again when its networks have changed.
        """
        spec, limits = container.spec, container.spec.host_config
        if limits.network_mode.startswith("container:"):
            return _peer(limits.network_mode, index).spec.config.hostname
        hostname = spec.config.hostname or spec.id[:12]
        sandbox = container.status.sandbox
        endpoints = sandbox.endpoints if sandbox else []
        addresses = [text for endpoint in endpoints for text in (endpoint.address, endpoint.address_v6) if text]
        gateway = next((endpoint.gateway for endpoint in sandbox.endpoints if endpoint.gateway), "") if sandbox else ""
        if limits.network_mode == "host":
            hosts = network_files.host_hosts_file(
                network_files.read_host_hosts(),
                extra_hosts=limits.extra_hosts or [],
                host_gateway=self._settings.host_gateway,
            )
        else:
            hosts = network_files.hosts_file(
                hostname=hostname,
                domainname=spec.config.domainname,
                addresses=addresses,
                extra_hosts=limits.extra_hosts or [],
                host_gateway=self._settings.host_gateway or gateway,
                linked=links.hosts(links.of(spec, index)),
            )
        resolv = network_files.resolv_conf(
            self._dns,
            host_network=limits.network_mode == "host",
            dns=limits.dns or [],
            search=limits.dns_search or [],
            options=limits.dns_options or [],
            embedded=bool(sandbox and sandbox.resolves),
        )
        self._files.write_network_files(spec.id, hostname=hostname, hosts=hosts, resolv_conf=resolv)
        return hostname

    def _files_owner(self, spec: ContainerSpec) -> str:
        mode = spec.host_config.network_mode
        return self._files.directory(mode.removeprefix("container:") if mode.startswith("container:") else spec.id)

    # -- namespaces and devices --------------------------------------------------------------------------------------

    def _network_namespace(self, container: Container, index: ContainerIndex) -> str | None:
        mode = container.spec.host_config.network_mode
        if mode == "host":
            return None
        if mode.startswith("container:"):
            peer = _peer(mode, index)
            return peer.status.sandbox.key if peer.status.sandbox else f"/proc/{peer.status.pid}/ns/net"
        if container.status.sandbox is None:
            raise SystemFailure(f"container {container.id} has no network sandbox")
        return container.status.sandbox.key

    def _init_path(self, limits: HostConfig) -> str | None:
        wanted = self._settings.init if limits.init is None else limits.init
        return init.find(self._settings.init_path, f"{self._settings.data_root}/init") if wanted else None

    # -- seccomp -----------------------------------------------------------------------------------------------------

    def _seccomp(
        self, limits: HostConfig, capabilities: list[str], *, compiled: bool, bounded: bool
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Return the path of the compiled program, or for a runtime that compiles itself the OCI document.

        Both are kept by capability set for the default profile, since composing one costs more than the rest of a start.
        """
        wanted = _seccomp_option(limits)
        profile = self._default_profile if wanted in (None, "unconfined") else seccomp_profile.parse(wanted)
        if limits.privileged or wanted == "unconfined" or profile is None:
            return None, None
        key = tuple(capabilities)
        # A file's owner may give it another project, which would not count against the bound of layer or volume.
        denied = project_quota.CHANGING_IOCTLS if bounded else ()
        if wanted is None and compiled and not denied and key in self._programs:
            return self._programs[key], None
        document = seccomp_profile.for_container(
            profile, capabilities=capabilities, arch=platform.machine(), kernel=self._kernel
        )
        if document is None or not compiled:
            return None, document
        path = seccomp.cached(document, f"{self._settings.data_root}/seccomp", denied)
        if wanted is None and not denied:
            self._programs[key] = path
        return path, None


def _default_profile(wanted: str) -> dict[str, Any] | None:
    """Return the profile of containers that name none: ours, a file's, or None for no filter. Raises SystemFailure."""
    if wanted in ("", "builtin"):
        return seccomp_profile.default()
    if wanted == "unconfined":
        return None
    try:
        return seccomp_profile.parse(Path(wanted).read_text())
    except (OSError, UnicodeDecodeError, InvalidInput) as exc:
        raise SystemFailure(f"opening seccomp profile ({wanted}) failed: {exc}") from exc


def _seccomp_option(limits: HostConfig) -> str | None:
    for key, value in security_options(limits):
        if key == "seccomp" and value != "builtin":
            return value
    return None


def _check_foreign(document: dict[str, Any], runtime: str) -> None:
    """Raise InvalidInput for mounts that only our own runtime can make."""
    for mount in document["mounts"]:
        for field, what in _ONLY_OURS.items():
            if field in mount:
                raise InvalidInput(f"runtime {runtime} does not support {what}: use the default runtime")


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(itertools.takewhile(str.isdecimal, minor)))


def _peer(mode: str, index: ContainerIndex) -> Container:
    peer = index.find(mode.removeprefix("container:"))
    if not peer.status.alive:
        raise Conflict(f"cannot join network of a non running container: {peer.id}")
    return peer


def _joined(limits: HostConfig, index: ContainerIndex) -> dict[str, str]:
    result = {}
    for kind, mode in (("pid", limits.pid_mode), ("ipc", limits.ipc_mode)):
        if mode.startswith("container:"):
            peer = index.find(mode.removeprefix("container:"))
            if not peer.status.alive:
                raise Conflict(f"cannot join {kind.upper()} of a non running container: {peer.id}")
            if kind == "ipc" and peer.spec.host_config.ipc_mode in ("none", "private"):
                raise InvalidInput(
                    f"can't join IPC of container {peer.id}: non-shareable IPC "
                    "(hint: use IpcMode:shareable for the donor container)"
                )
            result[kind] = f"/proc/{peer.status.pid}/ns/{kind}"
    return result


def _shm_namespace(limits: HostConfig, index: ContainerIndex) -> str | None:
    """Return the mount namespace of the container whose /dev/shm goes with the IPC namespace that is joined."""
    if not limits.ipc_mode.startswith("container:"):
        return None
    peer = index.find(limits.ipc_mode.removeprefix("container:"))
    return f"/proc/{peer.status.pid}/ns/mnt"
