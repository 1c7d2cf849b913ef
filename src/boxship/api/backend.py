"""What the API needs from an engine: one Protocol per tag of the Docker API.

Words: ``ref`` is what a client typed for a container (id, unique id prefix, name with or without a leading slash) or for an
image (reference, id, unique id prefix). Methods raise the classes of ``base.errors``; any other exception is a bug (500).
Methods that list or inspect answer from snapshots and never wait for a container's lock.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from boxship.spec.boxship.build_cache import CacheWanted
from boxship.spec.boxship.changes import ChangesMade, ContainerChanges
from boxship.spec.boxship.debugging import DebugCreated, DebugRequest
from boxship.spec.boxship.explanation import NetworkExplanation
from boxship.spec.boxship.referrers import Referrers
from boxship.spec.boxship.verification import Comparison
from boxship.spec.boxship.volume_history import VolumeChange, VolumeSnapshot, VolumeUpdate
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import (
    ContainerConfig,
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    ExecConfig,
    ExecInspect,
    ExecStart,
    PathStat,
    TopResult,
    WaitResult,
)
from boxship.spec.docker.image import AttestationStatement, DeleteItem, HistoryItem, ImageInspect, ImageSummary
from boxship.spec.docker.network import (
    NetworkConnect,
    NetworkCreate,
    NetworkCreated,
    NetworkDisconnect,
    NetworkInspect,
)
from boxship.spec.docker.registry import AuthConfig
from boxship.spec.docker.system import EventMessage, Info, Version
from boxship.spec.docker.volume import Volume, VolumeCreate, VolumeList

Filters = Mapping[str, Sequence[str]]
"""Parsed ``filters`` query: key to values. Backends raise InvalidInput for unknown keys ("invalid filter 'x'")."""


class HijackedStream(Protocol):
    """A client connection taken out of the HTTP server, after the response head was written."""

    @property
    def leftover(self) -> bytes:
        """Bytes of the client that the HTTP parser had read already; they come first."""

    def detach(self) -> int:
        """Give up the connection and return its blocking-neutral socket descriptor; the caller owns and closes it.

        For a connection that is not a plain socket (TLS, websocket) this is one end of a socket pair that the server
        keeps relaying.
        """


class AttachOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Query of attach: which streams, whether to replay the log first, the detach keys as typed ("ctrl-p,ctrl-q")."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
    detach_keys: str | None = None


class StreamSession(Protocol):
    """An attach or exec start that was accepted and waits for its connection."""

    @property
    def multiplexed(self) -> bool:
        """Whether output is framed (no terminal) or raw (terminal)."""

    async def serve(self, stream: HijackedStream) -> None:
        """Hand the connection over and return when the session has ended or no longer needs this process."""

    async def abandon(self) -> None:
        """Release the session when the client left before its connection could be handed over."""


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Query of logs; times are nanoseconds since 1970, 0 "no bound"; ``tail`` -1 "all"."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since: int = 0
    until: int = 0
    timestamps: bool = False
    details: bool = False
    tail: int = -1


class LogStream(Protocol):
    """An accepted log request; iterating yields bytes ready for the wire, framed when ``multiplexed``."""

    @property
    def multiplexed(self) -> bool: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class ContainerQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Query of GET /containers/json; ``limit`` 0 "no limit"."""

    all: bool = False
    limit: int = 0
    size: bool = False
    filters: dict[str, list[str]] = {}


class Checkpoints(Protocol):
    """Saved processes of containers; ``directory`` is one of the host, "" for the container's own."""

    async def list(self, ref: str, *, directory: str) -> builtins.list[str]: ...

    async def create(self, ref: str, name: str, *, directory: str, exit: bool) -> None:
        """Save a running container, and end it with ``exit``."""

    async def remove(self, ref: str, name: str, *, directory: str) -> None: ...

    async def restore(self, ref: str, name: str, *, directory: str) -> bool:
        """Start the container from a checkpoint; return False when it runs already (304)."""


class Containers(Protocol):
    async def list(self, query: ContainerQuery) -> list[ContainerSummary]: ...

    async def create(self, name: str | None, request: CreateRequest, platform: str | None) -> CreateResponse: ...

    async def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect: ...

    async def why(self, ref: str) -> dict[str, Any]:
        """Explain a container's state: ``Text`` is a paragraph, the rest its facts (docs/engine.md)."""

    async def start(self, ref: str) -> bool:
        """Start it; return False when it runs already (304)."""

    async def stop(self, ref: str, *, timeout: int | None, signal: str | None) -> bool:
        """Stop it within ``timeout`` seconds (None: its own, -1: no limit); return False when it was stopped (304)."""

    async def restart(self, ref: str, *, timeout: int | None, signal: str | None) -> None: ...

    async def kill(self, ref: str, signal: str | None) -> None: ...

    async def pause(self, ref: str) -> None: ...

    async def unpause(self, ref: str) -> None: ...

    async def rename(self, ref: str, name: str) -> None: ...

    async def remove(self, ref: str, *, volumes: bool, force: bool, link: bool) -> None: ...

    async def wait(self, ref: str, condition: str) -> Awaitable[WaitResult]:
        """Register a wait ("not-running", "next-exit", "removed"); awaiting the result is a second step.

        The first await fails for an unknown container; the server then sends its head and awaits the result.
        """

    async def attach(self, ref: str, options: AttachOptions) -> StreamSession: ...

    async def logs(self, ref: str, query: LogQuery) -> LogStream: ...

    async def resize(self, ref: str, height: int, width: int) -> None: ...

    async def top(self, ref: str, ps_args: str) -> TopResult: ...

    def stats(self, ref: str, *, stream: bool, one_shot: bool) -> AsyncIterator[bytes]:
        """Return samples in Docker's shape, a JSON document each, one a second when ``stream``. Raises NotFound."""

    def stats_of_all(self, *, stopped_too: bool, stream: bool) -> AsyncIterator[bytes]:
        """Return JSON arrays of such samples, of all containers that run or, ``stopped_too``, of all there are."""

    async def update(self, ref: str, changes: dict[str, Any]) -> builtins.list[str]:
        """Change limits and restart policy; ``changes`` holds the given fields by their API names; return the warnings."""

    async def change(self, ref: str, changes: ContainerChanges) -> ChangesMade:
        """Change ports, mounts, environment, labels and limits: all of it, or nothing."""

    async def prune(self, filters: Filters) -> dict[str, Any]: ...

    async def changes(self, ref: str) -> builtins.list[dict[str, Any]]: ...

    async def export(self, ref: str) -> AsyncIterator[bytes]: ...


class Download(Protocol):
    """An archive that waits to be read: iterating yields its bytes; ``aclose`` when it is not read."""

    @property
    def stat(self) -> PathStat: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class Archives(Protocol):
    """Files of containers, running or not; paths are the container's."""

    async def stat(self, ref: str, path: str) -> PathStat: ...

    async def read(self, ref: str, path: str) -> Download:
        """Open what is at ``path`` as a tar archive; NotFound before its first byte."""

    async def write(self, ref: str, path: str, source: AsyncIterator[bytes], *, keep_kinds: bool, own: bool) -> None:
        """Unpack a tar archive, compressed or not, into the directory ``path``.

        ``keep_kinds``: no directory replaces something else, nor the reverse. ``own``: all is the container's user's.
        """


class CommitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Query and body of POST /commit; ``config`` None "the container's"."""

    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: list[str] = []
    config: ContainerConfig | None = None


class Commits(Protocol):
    async def commit(self, ref: str, options: CommitOptions) -> str:
        """Make an image of the container's files and return its id."""


class Execs(Protocol):
    async def create(self, container: str, config: ExecConfig) -> str:
        """Return the new exec's id."""

    async def inspect(self, id: str) -> ExecInspect: ...

    async def start(self, id: str, options: ExecStart) -> StreamSession | None:
        """Start it; return None when detached (it runs already), else a session that starts it when served."""

    async def resize(self, id: str, height: int, width: int) -> None: ...


class Debugging(Protocol):
    async def create(self, request: DebugRequest) -> DebugCreated:
        """Make ready a shell or command with tools beside a container or on an image; it is started as an exec."""


class Progress(Protocol):
    """A stream of Docker's progress messages, one JSON object a line."""

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]: ...


class Images(Protocol):
    """Images; ``platform`` is ``os[/arch[/variant]]``, and for what brings images also ``all``."""

    async def list(
        self, *, all: bool, filters: Filters, shared_size: bool, digests: bool, manifests: bool = False
    ) -> list[ImageSummary]: ...

    async def inspect(self, ref: str, *, platform: str | None = None, manifests: bool = False) -> ImageInspect: ...

    async def history(self, ref: str, *, platform: str | None = None) -> builtins.list[HistoryItem]: ...

    async def attestations(
        self, ref: str, *, platform: str | None, types: Sequence[str], verbatim: bool
    ) -> builtins.list[AttestationStatement]:
        """Return what is attested about the image, of these predicate types (none: all); ``verbatim``: with the documents."""

    async def tag(self, ref: str, repository: str, tag: str) -> None: ...

    async def remove(
        self, ref: str, *, force: bool, prune: bool, wanted: Sequence[str] = ()
    ) -> builtins.list[DeleteItem]:
        """Remove a name, or with ``wanted`` only the images for those platforms that it means."""

    async def prune(self, filters: Filters) -> dict[str, Any]: ...

    def pull(
        self, reference: str, tag: str, *, platform: str | None, auth: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield progress messages; errors before the first message are raised, later ones are messages."""

    def push(
        self, ref: str, tag: str, *, auth: str | None, platform: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield progress messages of pushing one tag, or all tags of a name without one; ``auth`` as it came."""

    def import_(
        self,
        source: AsyncIterator[bytes] | str,
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str | None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Import a tar stream, or the tar at a URL, as an image of one layer."""

    def load(
        self, source: AsyncIterator[bytes], *, quiet: bool, platform: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Load a docker-archive or OCI layout tar, compressed or not."""

    async def save(self, refs: Sequence[str], *, platform: str | None = None) -> AsyncIterator[bytes]:
        """Return the tar of these images in chunks; unknown references fail before the first chunk."""


class Remotes(Protocol):
    """What is asked of registries; ``auth`` is an X-Registry-Auth header as it came."""

    async def login(self, config: AuthConfig) -> dict[str, str]:
        """Check the credentials and return the answer of POST /auth."""

    async def distribution(self, ref: str, auth: str | None) -> dict[str, Any]: ...

    async def referrers(self, ref: str, auth: str | None) -> Referrers:
        """Return the signatures and other artifacts that refer to an image in its registry."""

    async def search(
        self, term: str, *, limit: int | None, filters: Filters, auth: str | None
    ) -> list[dict[str, Any]]: ...


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Query of GET /events: nanoseconds since 1970, 0 "no bound"."""

    since: int = 0
    until: int = 0
    filters: dict[str, list[str]] = {}


class System(Protocol):
    async def version(self) -> Version: ...

    async def info(self) -> Info: ...

    def events(self, query: EventQuery) -> AsyncIterator[EventMessage]: ...

    async def disk_usage(self, types: Sequence[str]) -> dict[str, Any]:
        """Return usage in the shape of API 1.51 (LayersSize, Images, Containers, Volumes, BuildCache).

        ``types`` of "container", "image", "volume", "build-cache" limits what is looked at; empty is all.
        """


class Builds(Protocol):
    """Images from Dockerfiles."""

    def build(
        self, options: BuildOptions, context: AsyncIterator[bytes], auths: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Build and yield the classic builder's messages; closing the iterator cancels the build.

        ``context`` is a tar archive, compressed or not; ``auths`` an X-Registry-Config header. Errors before the first message
        are raised, later ones are messages.
        """

    def events(
        self, options: BuildOptions, context: AsyncIterator[bytes], auths: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Build as :meth:`build` does and yield the documents of ``build.progress``."""

    async def files(self, ref: str) -> AsyncIterator[bytes]:
        """Return the files of an image as a tar. Raises NotFound."""

    async def cache_layout(self, wanted: CacheWanted) -> AsyncIterator[bytes]:
        """Return what a build learnt as an OCI layout in a tar. Raises NotFound for what is gone."""

    async def sbom(self, ref: str, *, scan: bool) -> bytes:
        """Return an image's SPDX document: what is attached to it, else, or to ``scan``, what its files say."""

    async def compare(self, first: str, second: str) -> Comparison:
        """Return where two images first differ."""

    async def shell(self, step: str, height: int, width: int) -> str:
        """Make a shell in what a stopped step left; return its container's id. Raises NotFound, Conflict."""

    async def retry(self, step: str) -> None:
        """Run a stopped step again. Raises NotFound, Conflict."""

    async def abandon(self, step: str, *, keep: bool) -> None:
        """Let the build of a stopped step fail, ``keep`` its container. Raises NotFound, Conflict."""

    async def prune(
        self, *, all: bool, reserved: int, max_used: int, min_free: int, filters: Filters
    ) -> dict[str, Any]:
        """Delete what the build cache holds, as far as the bounds (bytes, 0: none) ask for; return POST /build/prune's answer."""


class Disk(Protocol):
    async def usage(self) -> dict[str, Any]:
        """Return ``Root``, ``Total`` and ``Parts`` (``Kind``, ``ID``, ``Path``, ``Size`` in bytes): all of the data root."""

    def check(self, *, repair: bool, quick: bool) -> AsyncIterator[dict[str, Any]]:
        """Yield findings (``Object``, ``Problem``, ``Outcome``); raises Conflict during another check."""


class Networks(Protocol):
    async def list(self, filters: Filters) -> list[NetworkInspect]: ...

    async def inspect(self, ref: str) -> NetworkInspect: ...

    async def create(self, request: NetworkCreate) -> NetworkCreated: ...

    async def remove(self, ref: str) -> None: ...

    async def prune(self, filters: Filters) -> dict[str, Any]: ...

    async def connect(self, ref: str, request: NetworkConnect) -> None:
        """Put a container into a network, now if it runs, and at its starts."""

    async def disconnect(self, ref: str, request: NetworkDisconnect) -> None:
        """Take a container out of a network, now and at its starts."""

    async def explain(self, target: str) -> NetworkExplanation:
        """Tell who reaches a port of the host or a container, and through what; raises NotFound."""


class VolumeHistory(Protocol):
    """Snapshots of volumes that no container runs with."""

    async def take(self, volume: str, name: str) -> VolumeSnapshot: ...

    async def list(self, volume: str) -> Sequence[VolumeSnapshot]: ...

    async def remove(self, volume: str, name: str) -> None: ...

    async def restore(self, volume: str, name: str) -> None: ...

    async def differences(self, volume: str, name: str) -> Sequence[VolumeChange]: ...

    async def backup(self, volume: str, name: str) -> AsyncIterator[bytes]: ...

    async def clone(self, volume: str, new: str) -> Volume: ...

    async def rename(self, volume: str, new: str) -> Volume: ...

    async def export(self, volume: str) -> AsyncIterator[bytes]: ...

    async def load(self, volume: str, source: AsyncIterator[bytes]) -> Volume:
        """Make a volume of a tar, or fill an empty one."""

    async def update(self, volume: str, change: VolumeUpdate) -> Volume:
        """Change labels and size."""


class Volumes(Protocol):
    async def list_all(self, filters: Filters) -> VolumeList: ...

    async def create(self, request: VolumeCreate) -> Volume: ...

    async def inspect(self, name: str) -> Volume: ...

    async def remove(self, name: str, *, force: bool) -> None: ...

    async def prune(self, filters: Filters) -> dict[str, Any]: ...
