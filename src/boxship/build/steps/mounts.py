"""``RUN --mount``: what programs see beside their filesystem, made before they start and taken away after.

bind    a private copy of the part of a context or stage: nobody can change it meanwhile, and what a program writes is lost
cache   a directory of ours that outlives the build; the path inside it is looked up when it is mounted, inside it
secret  a file in memory that is never swapped (ramfs), in a directory that nobody but root can enter
tmpfs   memory
ssh     a socket that leads to an agent, see ``agents``
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, TypeVar

from boxship.base.errors import BoxshipError, InvalidInput
from boxship.base.whole import in_thread
from boxship.build.files import Directory, Kind, Tree
from boxship.build.files.node import clean
from boxship.build.graph import Copy, Mount, Run
from boxship.build.remote_cache import archives
from boxship.build.results import Result
from boxship.build.session import Session
from boxship.build.steps import agents
from boxship.build.steps.cache_mounts import CacheMounts
from boxship.build.steps.copying import CopyFailed, LayerWriter, Selection
from boxship.build.steps.runner import StepMount
from boxship.build.steps.secrets import SecretFiles
from boxship.build.steps.target import Target
from boxship.images.archives import piped
from boxship.snapshots import apply, owners, tree
from boxship.snapshots.tar_reader import Entry, TarReader
from boxship.snapshots.tar_writer import Writable

T = TypeVar("T")
Value = Result | Tree


class Mounted(NamedTuple):
    """A mount that is there, and variables that come with it."""

    place: StepMount | None
    env: tuple[str, ...] = ()


class Mounts:
    """Makes the mounts of one session's programs."""

    def __init__(self, session: Session, caches: CacheMounts, secrets: SecretFiles) -> None:
        self._session = session
        self._caches = caches
        self._secrets = secrets

    async def contents(self, run: Run, others: Sequence[Value]) -> dict[str, str]:
        """Return digests of what bind mounts show, by target."""
        found = {}
        for mount in run.mounts:
            if mount.type == "bind" and mount.input >= 0:
                with_tree = _Opened(self._session, mount, others)
                found[f"mount {mount.target}"] = await in_thread(with_tree.digest)
        return found

    @contextlib.asynccontextmanager
    async def mount(self, mount: Mount, others: Sequence[Value]) -> AsyncIterator[Mounted]:
        """Make one mount for the time of the ``with``. Raises CopyFailed, InvalidInput."""
        match mount.type:
            case "bind":
                async with self._bind(mount, others) as place:
                    yield Mounted(place)
            case "cache":
                async with self._cache(mount, others) as place:
                    yield Mounted(place)
            case "tmpfs":
                options = (f"size={mount.size}",) if mount.size else ()
                yield Mounted(StepMount(type="tmpfs", target=mount.target, options=("exec", *options)))
            case "secret":
                async with self._secret(mount) as mounted:
                    yield mounted
            case "ssh":
                async with self._ssh(mount) as mounted:
                    yield mounted

    @contextlib.asynccontextmanager
    async def _bind(self, mount: Mount, others: Sequence[Value]) -> AsyncIterator[StepMount]:
        scratch = self._session.scratch
        place = scratch.place()
        try:
            source = await in_thread(lambda: _copied(_Opened(self._session, mount, others), place))
            yield StepMount(type="bind", target=mount.target, source=source, read_only=mount.read_only)
        finally:
            await asyncio.shield(asyncio.to_thread(scratch.remove, place))

    @contextlib.asynccontextmanager
    async def _cache(self, mount: Mount, others: Sequence[Value]) -> AsyncIterator[StepMount]:
        identity, imports = self._session.identity, self._session.imports
        name = mount.id or mount.target

        def seed(path: str) -> None:
            if imported is not None and imports is not None:
                try:
                    with tree.opened(tree.open_root(path)) as fd:
                        archives.unpack(imported, fd, identity)
                    return
                except (BoxshipError, OSError) as exc:
                    imports.warn(f"cache mount {name}: {exc}")
                    with tree.opened(tree.open_root(path)) as fd:
                        tree.clear(fd)
            if mount.input >= 0:
                _Opened(self._session, mount, others).copy(path)

        mode, owner = 0o755 if mount.mode is None else mount.mode, self._owner(mount)
        async with contextlib.AsyncExitStack() as stack:
            imported = None
            if imports is not None and not await in_thread(lambda: self._caches.has(name)):
                imported = await stack.enter_async_context(imports.archive(name))
            using = self._caches.use(name, mount.sharing, mode=mode, owner=owner, seed=seed)
            path = await stack.enter_async_context(using)
            subpath = clean(mount.source) if mount.input < 0 else ""
            yield StepMount(type="bind", target=mount.target, source=path, subpath=subpath, read_only=mount.read_only)

    @contextlib.asynccontextmanager
    async def _secret(self, mount: Mount) -> AsyncIterator[Mounted]:
        value = self._session.options.secrets.get(mount.id)
        if value is None:
            if mount.required:
                raise InvalidInput(f"secret {mount.id}: not found")
            yield Mounted(None)
            return
        env: tuple[str, ...] = ()
        if mount.env:
            try:
                env = (f"{mount.env}={value.decode()}",)
            except UnicodeDecodeError as exc:
                raise InvalidInput(f"secret {mount.id}: the value is no text and can't be a variable") from exc
        if not mount.target:
            yield Mounted(None, env)
            return
        mode = 0o400 if mount.mode is None else mount.mode
        async with self._secrets.file(value, mode=mode, owner=self._owner(mount)) as path:
            yield Mounted(StepMount(type="bind", target=mount.target, source=path, read_only=True), env)

    @contextlib.asynccontextmanager
    async def _ssh(self, mount: Mount) -> AsyncIterator[Mounted]:
        path = self._session.options.ssh.get(mount.id or "default")
        if path is None:
            if mount.required:
                raise InvalidInput(f"unset ssh forward key {mount.id or 'default'}")
            yield Mounted(None)
            return
        if not await in_thread(lambda: _is_socket(path)):
            raise InvalidInput(f"ssh {mount.id or 'default'}: {path} is no socket of an agent on the engine's host")
        target = mount.target or "/run/buildkit/ssh_agent.0"
        mode = 0o600 if mount.mode is None else mount.mode
        async with agents.forwarded(path, self._session.scratch, mode=mode, owner=self._owner(mount)) as source:
            yield Mounted(StepMount(type="bind", target=target, source=source), (f"SSH_AUTH_SOCK={target}",))

    def _owner(self, mount: Mount) -> tuple[int, int]:
        """Return uid and gid on the host of what a mount shows."""
        identity = self._session.identity
        return (mount.uid, mount.gid) if identity is None else identity.to_host(mount.uid, mount.gid)


class _Opened:
    """The part of a context or result that a mount shows; blocks."""

    def __init__(self, session: Session, mount: Mount, others: Sequence[Value]) -> None:
        self._session = session
        self._path = clean(mount.source)
        self._value = others[mount.input - 1]

    def digest(self) -> str:
        """Return the digest of what is shown."""
        return self._with(lambda files: self._selection(files).digest()[0])

    def copy(self, place: str) -> str:
        """Copy it into the directory ``place``; return the path of the copy."""
        return self._with(lambda files: self._copy(files, place))

    def _selection(self, files: Tree) -> Selection:
        source = f"/{self._path}"
        return Selection(files, Copy(sources=(_literal(source),), target="/"), verb="RUN", local=False)

    def _copy(self, files: Tree, place: str) -> str:
        selection = self._selection(files)
        identity = self._session.identity

        def own(entry: Entry) -> None:
            if identity is not None:
                owners.to_host(entry, identity)

        (source,) = selection.sources
        with tree.opened(tree.open_root(place)) as fd:
            piped.through(lambda out: _write(selection, out), lambda tar: apply.unpack(TarReader(tar), fd, prepare=own))
        if source.node.kind is Kind.DIRECTORY:
            os.chmod(place, source.node.mode)
            return place
        return os.path.join(place, os.path.basename(source.shown))

    def _with(self, work: Callable[[Tree], T]) -> T:
        if not isinstance(self._value, Result):
            return work(self._value)
        if not self._value.top:
            raise CopyFailed(f"RUN failed: stat {self._path}: file does not exist")
        with self._session.layers.snapshotter.view(self._value.top) as root_fd:
            return work(Directory(root_fd, self._session.identity))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _copied(opened: _Opened, place: str) -> str:
    os.mkdir(place, 0o700)
    return opened.copy(place)


def _write(selection: Selection, out: Writable) -> None:
    writer = LayerWriter(out, Target(None))
    writer.copy(selection, 0)
    writer.finish()


def _literal(path: str) -> str:
    """Return a pattern that fits nothing but the path."""
    return "".join(f"\\{character}" if character in "*?[\\" else character for character in path)
