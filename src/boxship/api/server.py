"""The whole API: all routes over one set of backends."""

from __future__ import annotations

from typing import Protocol

from boxship.api import swarm
from boxship.api.archives import ArchiveRoutes
from boxship.api.authorization import Authorizer
from boxship.api.backend import (
    Archives,
    Builds,
    Checkpoints,
    Commits,
    Containers,
    Debugging,
    Disk,
    Execs,
    Images,
    Networks,
    Remotes,
    System,
    VolumeHistory,
    Volumes,
)
from boxship.api.builds import BuildRoutes
from boxship.api.checkpoints import CheckpointRoutes
from boxship.api.containers import ContainerRoutes
from boxship.api.disk import DiskRoutes
from boxship.api.execs import ExecRoutes
from boxship.api.images import ImageRoutes
from boxship.api.networks import NetworkRoutes
from boxship.api.output import OutputRoutes
from boxship.api.registries import RegistryRoutes
from boxship.api.router import Router
from boxship.api.shipping import Shipping, ShippingRoutes
from boxship.api.system import SystemRoutes
from boxship.api.volume_history import VolumeHistoryRoutes
from boxship.api.volumes import VolumeRoutes


class Backends(Protocol):
    """What ``daemon`` passes: one backend per tag."""

    @property
    def containers(self) -> Containers: ...

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def archives(self) -> Archives: ...

    @property
    def commits(self) -> Commits: ...

    @property
    def execs(self) -> Execs: ...

    @property
    def debugging(self) -> Debugging: ...

    @property
    def images(self) -> Images: ...

    @property
    def remotes(self) -> Remotes: ...

    @property
    def shipping(self) -> Shipping: ...

    @property
    def system(self) -> System: ...

    @property
    def networks(self) -> Networks: ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def volume_history(self) -> VolumeHistory: ...

    @property
    def builds(self) -> Builds: ...

    @property
    def disk(self) -> Disk: ...


def make_router(backends: Backends, *, experimental: bool = False, authorizer: Authorizer | None = None) -> Router:
    """Return the router of the whole API; it is the handler of ``http.server.Server``."""
    return Router(
        [
            *ContainerRoutes(backends.containers, backends.checkpoints, experimental=experimental).routes(),
            *CheckpointRoutes(backends.checkpoints, experimental=experimental).routes(),
            *OutputRoutes(backends.containers).routes(),
            *ArchiveRoutes(backends.archives, backends.commits).routes(),
            *ExecRoutes(backends.execs, backends.debugging).routes(),
            *RegistryRoutes(backends.remotes).routes(),
            *ImageRoutes(backends.images).routes(),
            *ShippingRoutes(backends.shipping).routes(),
            *NetworkRoutes(backends.networks).routes(),
            *VolumeRoutes(backends.volumes).routes(),
            *VolumeHistoryRoutes(backends.volume_history).routes(),
            *SystemRoutes(backends.system).routes(),
            *DiskRoutes(backends.disk).routes(),
            *BuildRoutes(backends.builds).routes(),
            *swarm.routes(),
        ],
        experimental=experimental,
        authorizer=authorizer,
    )
