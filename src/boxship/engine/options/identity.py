"""User namespaces of containers (``--userns-remap`` of the daemon, ``--userns`` of a container).

A container in a user namespace is root of its own namespaces only: it may neither be privileged nor join the host's.
"""

from __future__ import annotations

from boxship.base.errors import Conflict, InvalidInput
from boxship.base.identity import IdentityMapping
from boxship.engine.container import Container, ContainerIndex
from boxship.networks import USER_SUFFIX, UserNamespace
from boxship.spec.docker.container import HostConfig


def check(host: HostConfig) -> None:
    """Raise InvalidInput in Docker's words for what a container in a user namespace cannot have."""
    if host.privileged:
        raise InvalidInput(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidInput("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidInput("cannot share the host PID namespace when user namespaces are enabled")


def wanted_namespace(host: HostConfig, identity: IdentityMapping | None, index: ContainerIndex) -> UserNamespace | None:
    """Return the user namespace that is to own the container's network namespace; None is the host's.

    Who shares the namespaces of another container shares the user namespace that owns them. Raises NotFound, Conflict.
    """
    if identity is None:
        return None
    peer = _peer(host, index)
    return UserNamespace(identity=identity, path=_namespace_of(peer) if peer else "")


def namespace_path(container: Container, index: ContainerIndex) -> str:
    """Return the path of the user namespace that a container in one starts in. Raises NotFound, Conflict."""
    peer = _peer(container.spec.host_config, index)
    if peer is not None:
        return _namespace_of(peer)
    sandbox = container.status.sandbox
    assert sandbox is not None  # only the host's network has none, which `check` refuses
    return sandbox.key + USER_SUFFIX


def _peer(host: HostConfig, index: ContainerIndex) -> Container | None:
    """Return the container whose namespaces are shared."""
    for mode in (host.network_mode, host.pid_mode, host.ipc_mode):
        if mode.startswith("container:"):
            return index.find(mode.removeprefix("container:"))
    return None


def _namespace_of(peer: Container) -> str:
    if not peer.status.alive:
        raise Conflict(f"cannot join network of a non running container: {peer.id}")
    if peer.spec.host_config.userns_mode == "host":
        raise InvalidInput(
            f"cannot share namespaces of container {peer.id}, which is in the host's user namespace: use --userns=host"
        )
    return f"/proc/{peer.status.pid}/ns/user"
