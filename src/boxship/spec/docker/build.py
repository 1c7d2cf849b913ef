"""What a client asks of a build: the query of POST /build (Docker API, "Build an image"), with Boxship's own additions."""

from __future__ import annotations

from typing import Literal

import msgspec

from boxship.spec.boxship.build_cache import CacheExport, CacheImport
from boxship.spec.docker.container import Ulimit


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One build. Sizes are bytes, CPU times microseconds; 0 and "" mean what the daemon does without."""

    dockerfile: str = "Dockerfile"  # path in the context
    tags: tuple[str, ...] = ()
    remote: str = ""  # a git repository, tarball or Dockerfile by URL, in place of a context
    quiet: bool = False
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()  # names of stages
    cache_from: tuple[str, ...] = ()  # images whose layers may serve
    cache_imports: tuple[CacheImport, ...] = ()
    cache_exports: tuple[CacheExport, ...] = ()
    pull: bool = False
    rm: bool = True
    force_rm: bool = False
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_period: int = 0
    cpu_quota: int = 0
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    build_args: dict[str, str | None] = {}  # None: the daemon's own variable, as Docker has it
    squash: bool = False
    labels: dict[str, str] = {}
    network_mode: str = ""
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    target: str = ""
    build_contexts: dict[
        str, str
    ] = {}  # name: docker-image://..., or a directory of the context that is not part of it
    secrets: dict[str, bytes] = {}  # id: value; never stored
    ssh: dict[str, str] = {}  # id: path of an agent's socket on this host
    call: Literal["", "check", "outline", "targets"] = ""  # only say what the linter finds, or what can be given
    attestations: dict[str, dict[str, str]] = {}  # type (sbom, provenance): attributes
    allow: tuple[str, ...] = ()  # entitlements, see build.entitlements
    debug: bool = False  # a step that fails waits for its user


class BuildCacheItem(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of ``BuildCache`` in GET /system/df."""

    id: str = msgspec.field(name="ID")
    type: str = "regular"
    description: str = ""
    in_use: bool = False
    shared: bool = False
    size: int = 0  # bytes
    created_at: str = ""
    last_used_at: str | None = None
    usage_count: int = 0
    parents: list[str] | None = None
