"""What the throw-away container of a debugging shell is asked to be (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.options import oci
from boxship.runtime.toolbox import PLACE
from boxship.spec.docker.container import (
    ContainerConfig,
    CreateRequest,
    HealthConfig,
    HostConfig,
    LogConfig,
    Mount,
    RestartPolicy,
)

TOOLS = f"{PLACE}/bin"

_FOREVER = "2147483647"  # seconds
_NETWORKS = ("bridge", "none", "host")


def of_image(image: str, toolbox: str) -> CreateRequest:
    """Return the request for a container that shows an image."""
    return _request(ContainerConfig(image=image), HostConfig(), toolbox, [])


def of_stopped(spec: ContainerSpec, toolbox: str) -> CreateRequest:
    """Return the request for a container that shows a stopped one: same settings, its volumes and binds read-only."""
    mounts = [_read_only(mount) for mount in spec.mounts if mount.type != "tmpfs"]
    mode = spec.host_config.network_mode
    host = msgspec.structs.replace(
        spec.host_config,
        binds=None,
        ipc_mode="",
        links=None,
        memory=0,
        memory_reservation=0,
        memory_swap=0,
        network_mode=mode if mode in _NETWORKS else "none",
        pid_mode="",
        port_bindings=None,
        publish_all_ports=False,
        readonly_rootfs=False,
        runtime="",
        volumes_from=None,
    )
    config = msgspec.structs.replace(spec.config, image=spec.image_id, hostname="", exposed_ports=None)
    return _request(config, host, toolbox, mounts)


def beside(spec: ContainerSpec, image: str, toolbox: str) -> CreateRequest:
    """Return the request for a container of another image that shares the namespaces of a running one."""
    host = HostConfig(
        cap_add=spec.host_config.cap_add,
        cap_drop=spec.host_config.cap_drop,
        network_mode="host" if spec.host_config.network_mode == "host" else f"container:{spec.id}",
        pid_mode=f"container:{spec.id}",
        privileged=spec.host_config.privileged,
        security_opt=spec.host_config.security_opt,
    )
    return _request(ContainerConfig(image=image), host, toolbox, [])


def _request(config: ContainerConfig, host: HostConfig, toolbox: str, mounts: Sequence[Mount]) -> CreateRequest:
    config = msgspec.structs.replace(
        config,
        cmd=[_FOREVER],
        entrypoint=[f"{TOOLS}/sleep"],  # the shell is an exec; this only keeps the namespaces
        healthcheck=HealthConfig(test=["NONE"]),
        labels=None,
        open_stdin=False,
        stop_signal="SIGKILL",
        tty=False,
        user="0",
    )
    host = msgspec.structs.replace(
        host,
        auto_remove=True,
        binds=[f"{toolbox}:{PLACE}:ro"],
        cap_add=[*(host.cap_add or []), "SYS_PTRACE"],
        cap_drop=[name for name in host.cap_drop or [] if name.upper().removeprefix("CAP_") != "SYS_PTRACE"],
        init=False,
        log_config=LogConfig(type="none"),
        masked_paths=[path for path in oci.MASKED_PATHS if path != PLACE],
        mounts=list(mounts),
        restart_policy=RestartPolicy(name="no"),
    )
    fields = {name: getattr(config, name) for name in ContainerConfig.__struct_fields__}
    return CreateRequest(**fields, host_config=host)


def _read_only(mount: ResolvedMount) -> Mount:
    if mount.type == "volume":
        options = {"NoCopy": True, **({"Subpath": mount.subpath} if mount.subpath else {})}
        return Mount(type="volume", source=mount.name, target=mount.target, read_only=True, volume_options=options)
    bind = {"NonRecursive": not mount.recursive, "CreateMountpoint": True}
    return Mount(type="bind", source=mount.source, target=mount.target, read_only=True, bind_options=bind)
