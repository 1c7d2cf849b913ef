"""The build graph: operations on filesystems, each named by a digest of all that it is told and of its inputs.

A graph says nothing of images' configurations, Dockerfiles or output: it is what any frontend may produce and any client
send. Vertices form a directed acyclic graph; each gives one filesystem. The digest of a vertex names what was asked for; what
it depends on in fact (the bytes of files, the layers of a base image) the cache finds out, see ``cache``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from boxship.base.errors import InvalidInput


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op", tag=str.lower):
    """What all operations have in common: nothing but that they are data."""


class Image(Operation, frozen=True, kw_only=True):
    """The layers of an image. ``digest`` is that of its configuration, which was resolved before."""

    reference: str  # as the user wrote it, for messages
    id: str  # the image's id, sha256:...
    layers: tuple[str, ...]  # chain IDs, bottom first


class Scratch(Operation, frozen=True, kw_only=True):
    """No files at all."""


class Context(Operation, frozen=True, kw_only=True):
    """The files of a build context: the main one has the name ``""``, others those of ``--build-context``."""

    name: str = ""


class Download(Operation, frozen=True, kw_only=True):
    """One file from a URL (``ADD https://...``), at ``/<name>``."""

    url: str
    name: str
    checksum: str = ""  # sha256:..., checked if given


class Git(Operation, frozen=True, kw_only=True):
    """A checkout of a repository (``ADD git@...``); ``directory`` below its root."""

    url: str
    ref: str = ""  # branch, tag or commit; default: the repository's HEAD
    directory: str = ""
    keep_git_dir: bool = False
    checksum: str = ""  # a commit's, checked if given


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a program sees while it runs (``RUN --mount``); nothing of it becomes part of the result.

    ``input`` is the index of the vertex's input that a bind mount shows or that a cache begins with; -1: none.
    """

    type: Literal["bind", "cache", "tmpfs", "secret", "ssh"]
    target: str
    input: int = -1
    source: str = ""  # path inside the input or the cache
    read_only: bool = False
    id: str = ""  # of the cache, secret or ssh agent
    sharing: Literal["shared", "private", "locked"] = "shared"
    required: bool = False  # of secret and ssh: fail without it
    env: str = ""  # of a secret: variable instead of, or beside, a file
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes, of tmpfs; 0: no limit


class Run(Operation, frozen=True, kw_only=True):
    """Run a program on input 0 and keep what it changes there."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # KEY=value
    cwd: str = "/"
    user: str = ""  # as USER names it, resolved on the filesystem itself
    mounts: tuple[Mount, ...] = ()
    network: Literal["default", "none", "host"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    devices: tuple[str, ...] = ()  # vendor/class, =name, =*
    needed_devices: tuple[str, ...] = ()  # those of them without which the program must not run
    # Variables that do not count for the cache, such as the predefined proxies.
    uncounted_env: tuple[str, ...] = ()


class Copy(Operation, frozen=True, kw_only=True):
    """Copy ``sources`` of input 1 to ``target`` on input 0 (COPY, ADD, WORKDIR's parents). Paths are absolute, cleaned.

    A source may have wildcards; without a match the copy fails unless ``may_be_empty``. ``target`` ending in "/" is a directory.
    """

    sources: tuple[str, ...]
    target: str
    chown: str = ""  # user[:group], resolved on input 0
    chmod: str = ""  # octal or symbolic
    unpack: bool = False  # local archives (ADD)
    link: bool = False  # independent of what lies below: symbolic links of the target are not followed
    parents: bool = False
    exclude: tuple[str, ...] = ()
    may_be_empty: bool = False


class WriteFile(Operation, frozen=True, kw_only=True):
    """Write one file on input 0 (a heredoc of COPY)."""

    path: str
    data: bytes
    chown: str = ""
    chmod: str = ""


class MakeDirectory(Operation, frozen=True, kw_only=True):
    """Make a directory and its parents on input 0 (WORKDIR). One that exists is left as it is."""

    path: str
    owner: str = ""


AnyOperation = Image | Scratch | Context | Download | Git | Run | Copy | WriteFile | MakeDirectory


class Vertex(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation with the digests of its inputs. ``id`` is computed by :func:`vertex`."""

    id: str
    operation: AnyOperation
    inputs: tuple[str, ...] = ()
    name: str = ""  # for people: "[build 2/5] RUN make"
    platform: str = ""  # os/architecture[/variant]
    uncached: bool = False  # --no-cache, --no-cache-filter: carried out whatever the cache says


class Graph:
    """Vertices by id, inputs before those that use them."""

    def __init__(self, vertices: Iterable[Vertex] = ()) -> None:
        self._vertices: dict[str, Vertex] = {}
        for each in vertices:
            self.add(each)

    def add(self, added: Vertex) -> Vertex:
        """Add a vertex, or return the equal one that is there. Raises InvalidInput when an input is missing."""
        for id in added.inputs:
            if id not in self._vertices:
                raise InvalidInput(f"vertex {added.name or added.id} has an input that is not in the graph: {id}")
        return self._vertices.setdefault(added.id, added)

    def __contains__(self, id: str) -> bool:
        return id in self._vertices

    def __getitem__(self, id: str) -> Vertex:
        return self._vertices[id]

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self._vertices.values())

    def __len__(self) -> int:
        return len(self._vertices)

    def needed(self, targets: Iterable[str]) -> list[Vertex]:
        """Return the vertices that ``targets`` depend on, themselves included, inputs first."""
        wanted = set(targets)
        for each in reversed(self._vertices.values()):
            if each.id in wanted:
                wanted.update(each.inputs)
        return [each for each in self._vertices.values() if each.id in wanted]


def vertex(
    operation: AnyOperation,
    inputs: Sequence[Vertex] = (),
    *,
    name: str = "",
    platform: str = "",
    uncached: bool = False,
) -> Vertex:
    """Make a vertex; its name is not part of its id."""
    ids = tuple(each.id for each in inputs)
    hashed = msgspec.json.encode([operation, ids, platform], order="deterministic")
    id = f"sha256:{hashlib.sha256(hashed).hexdigest()}"
    return Vertex(id=id, operation=operation, inputs=ids, name=name, platform=platform, uncached=uncached)


def encode(graph: Graph) -> bytes:
    """Return the graph as a JSON document: a list of vertices, inputs first."""
    return msgspec.json.encode(list(graph))


def decode(document: bytes) -> Graph:
    """Read what :func:`encode` wrote; ids are computed anew. Raises InvalidInput."""
    try:
        rows = msgspec.json.decode(document, type=list[Vertex])
    except msgspec.MsgspecError as exc:
        raise InvalidInput(f"invalid build graph: {exc}") from exc
    graph = Graph()
    for row in rows:
        late = [id for id in row.inputs if id not in graph]
        if late:
            raise InvalidInput(f"invalid build graph: vertex {row.id} comes before its input {late[0]}")
        inputs = [graph[id] for id in row.inputs]
        made = vertex(row.operation, inputs, name=row.name, platform=row.platform, uncached=row.uncached)
        if made.id != row.id:
            raise InvalidInput(f"invalid build graph: vertex {row.id} is {made.id}")
        graph.add(made)
    return graph
