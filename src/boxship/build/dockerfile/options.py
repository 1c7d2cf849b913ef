"""What a build is told beside its Dockerfile, and what it asks of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from boxship.spec.docker.container import ContainerConfig
from boxship.spec.docker.ignorefile import Patterns


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a build. Platforms are ``os/architecture[/variant]``."""

    build_args: Mapping[str, str | None] = {}  # None: named without a value, and the caller has none
    target: str = ""  # name or number of a stage; default: the last
    platform: str = "linux/amd64"  # of what is built
    build_platform: str = "linux/amd64"  # of this machine
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()  # names of stages
    labels: Mapping[str, str] = {}
    network: str = ""  # "none" and "host" hold for every RUN that says nothing else
    ignored: Patterns | None = None  # .dockerignore of the context, for the linter
    check_only: bool = False  # findings never fail: they are what is wanted
    contexts: Mapping[str, str] = {}  # --build-context: name to docker-image://... or anything else, which is a context


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a stage begins with or copies from."""

    id: str
    layers: tuple[str, ...]  # chain IDs, bottom first
    config: ContainerConfig
    platform: str
    created: str = ""
    is_known: bool = True  # False: nothing is known of it, and nobody needs to


class Resolve(Protocol):
    """Finds an image, and pulls it if it is not here.

    ``name`` is that of the stage it is for, for people. Raises NotFound and what else a pull can raise.
    """

    async def __call__(self, reference: str, platform: str, name: str) -> Base: ...
