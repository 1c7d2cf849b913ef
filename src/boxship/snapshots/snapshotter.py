"""What every snapshotter does. This text is the specification for new ones.

Words
    snapshot
        A file tree made of a parent snapshot and a difference to it. It is *active* (writable, has a key) or *committed*
        (read-only, has a name, may be a parent). Keys and names live in one space; image layers are committed under their
        chain ID (``sha256:...``), writable layers of containers have the container's ID as key.
    layer tar
        The difference as image-spec writes it (layer.md): changed files whole, deletions as ``.wh.`` names.
    diff ID
        ``sha256:`` digest of a layer tar, uncompressed.
    init snapshot
        What ``prepare_init`` makes; its name is ``init:`` and its parent's name.
    extraction
        An active snapshot whose key starts with ``extract-``: it belongs to one running operation, and the next start of
        the engine removes it.

A snapshot that a method's text does not mention stays as it is, whatever fails and wherever the process is killed. What a
kill leaves behind, ``cleanup`` removes. Methods block; they may be called from any thread. Two calls for one key at once
are the caller's to avoid, calls for different keys are not.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from boxship.base.errors import Conflict, NotFound
from boxship.base.identity import IdentityMapping
from boxship.snapshots.tar_reader import Limits, Readable
from boxship.snapshots.tar_writer import Writable

EXTRACTION = "extract-"
INIT = "init:"


class NoSuchSnapshot(NotFound):
    """There is no snapshot of that key or name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key} does not exist: not found")


class SnapshotExists(Conflict):
    """The key or name is taken."""

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key} already exists")


class WrongState(Conflict):
    """The snapshot is committed where an active one is needed, or the reverse."""


class HasChildren(Conflict):
    """Other snapshots have this one as their parent."""


class ChangeKind(StrEnum):
    """How a path differs from the parent, with Docker's letters."""

    MODIFIED = "C"
    ADDED = "A"
    DELETED = "D"


class Change(NamedTuple):
    """One path of a difference; absolute as seen inside."""

    path: str
    kind: ChangeKind


class Applied(NamedTuple):
    """What was unpacked."""

    diff_id: str
    size: int  # bytes of the files, as `usage`
    # Directories that the layer uses and does not hold, made as if no parent had them: it would be the same on every
    # parent that has none of them. None: its parent matters in another way.
    assumed: Sequence[str] | None = None


class SnapshotInfo(NamedTuple):
    """One snapshot."""

    key: str
    parent: str | None
    committed: bool
    diff_id: str  # "" if it is not known
    size: int  # bytes, as told to `commit`; of active ones 0
    path: str  # of its directory


class Cleaned(NamedTuple):
    """What ``cleanup`` found."""

    unmounted: Sequence[str]  # mount points
    removed: Sequence[str]  # directories
    unknown: Sequence[str]  # directories that no row explains: left as they are
    lost: Sequence[str]  # keys whose directory is missing or damaged: not repaired, only told
    remade: Sequence[str] = ()  # keys of active ones whose directory was missing, as new now


class Snapshotter(Protocol):
    """Root filesystems from layers; the module's docstring has the words."""

    name: str  # as in --storage-driver and inspect
    identity: IdentityMapping | None  # which host ids stand for the containers' on disk; archives have the containers'
    adopts: bool  # a layer can be applied before its parent is there: see `adopt`

    def prepare(self, key: str, parent: str | None, *, size: int = 0) -> None:
        """Make an active snapshot that looks like the committed snapshot ``parent``, or empty.

        What is in its directory may take ``size`` bytes; 0: what there is. Raises SnapshotExists, NoSuchSnapshot,
        WrongState (the parent is active), quota.QuotaUnsupported.
        """

    def commit(self, name: str, key: str, *, diff_id: str = "", size: int = 0, durable: bool = True) -> None:
        """Make the active snapshot ``key`` the committed one ``name``; it is on disk when this returns.

        ``durable`` False leaves that to a later :meth:`sync`, before which nothing durable may say that it is whole.

        Raises SnapshotExists (``key`` is left active), NoSuchSnapshot, WrongState.
        """

    def adopt(self, key: str, parent: str, assumed: Sequence[str] = ()) -> bool:
        """Put the active snapshot ``key``, prepared without a parent, on the committed snapshot ``parent``.

        Only where ``adopts``. ``assumed`` is what :class:`Applied` said: when the parent has one of these directories,
        nothing is done and False returned. Raises NoSuchSnapshot, WrongState.
        """

    def replace(self, name: str, key: str) -> None:
        """Let the committed snapshot ``name`` have the files of the active one ``key``, which is no more then; durable.

        For files that were found damaged: both have the same parent. Raises NoSuchSnapshot; WrongState when ``key`` is
        committed or a running container stands on ``name``.
        """

    def sync(self) -> None:
        """Make durable what was committed with ``durable=False``. Raises SystemFailure."""

    def remove(self, key: str) -> None:
        """Remove a snapshot that is nobody's parent (but of an unused init snapshot, which goes too), and its mount.

        Raises HasChildren, NoSuchSnapshot; SystemFailure when the host can't delete the files: the snapshot is gone then,
        and what is left of its directory goes with the next ``cleanup``.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is a snapshot of that key or name."""

    def parent(self, key: str) -> str | None:
        """Return the parent's name. Raises NoSuchSnapshot."""

    def list(self) -> Sequence[SnapshotInfo]:
        """Return all snapshots, sorted by key."""

    def usage(self, key: str) -> int:
        """Return the bytes that the files of the difference hold, one with several names counted once."""

    def rootfs(self, key: str) -> dict[str, object]:
        """Return what the shim mounts for the active snapshot; see the start document in docs/architecture.md."""

    def graph_data(self, key: str) -> dict[str, str]:
        """Return ``GraphDriver.Data`` of inspect."""

    def view(self, key: str, *, writable: bool = False) -> AbstractContextManager[int]:
        """Give a descriptor of the merged tree's root directory, without a mount that others see.

        Of a snapshot that a container runs on it is the container's own tree. ``writable`` is for active ones.
        """

    def apply(self, key: str, tar: Readable, *, limits: Limits | None = None) -> Applied:
        """Unpack a layer tar (uncompressed) into the active snapshot; read ``tar`` to its end.

        On failure the snapshot is as empty as after ``prepare``. Raises InvalidTar, SystemFailure (disk full) and what
        ``tar`` raises.
        """

    def write_diff(self, key: str, out: Writable) -> Applied:
        """Write the layer tar of the snapshot; equal trees give equal bytes. Files that change meanwhile may be torn."""

    def changes(self, key: str) -> Sequence[Change]:
        """Return the difference to the parent, sorted by path."""

    def prepare_init(self, parent: str | None) -> str:
        """Return the name of a committed snapshot: ``parent`` plus the empty files that a container's mounts cover.

        It is made once per parent and goes with it. Put between image and writable layer it keeps those files out of the
        container's difference.
        """

    def cleanup(self, mounted: Collection[str] = ()) -> Cleaned:
        """Repair what a killed process left; call it once at the start.

        ``mounted`` are the keys whose mounts are in use. Removes extractions, half-made and half-removed directories,
        unmounts the rest, and makes the directories of active snapshots anew that a power cut took.
        """
