"""The directories of ``RUN --mount=type=cache``: they outlive builds and are shared, taken in turns, or one for each step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec

from boxship.base import clock
from boxship.base.ids import new_id
from boxship.base.whole import in_thread
from boxship.snapshots import tree
from boxship.store import Store, Transaction

MOUNT = "build-cache-mount"  # kind of the rows, by directory name


class CacheMount(msgspec.Struct, frozen=True, kw_only=True):
    """One directory; ``name`` is the id of the mount, ``number`` counts the private copies of it."""

    version: int = 1
    name: str
    number: int = 0
    created_ns: int
    used_ns: int
    uses: int = 0


decode_mount = msgspec.json.Decoder(CacheMount).decode


class CacheMounts:
    """All cache directories of one engine, below ``root``."""

    def __init__(self, root: str, store: Store) -> None:
        self._root = os.path.join(root, "caches")
        self._store = store
        os.makedirs(self._root, 0o700, exist_ok=True)
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}  # directories in use
        self._guard = threading.Lock()  # of the users, and of directories that go

    @contextlib.asynccontextmanager
    async def use(
        self, name: str, sharing: str, *, mode: int, owner: tuple[int, int], seed: Callable[[str], object]
    ) -> AsyncIterator[str]:
        """Give the directory for the time of the ``with``; ``seed`` fills a new one, ``owner`` is the host's uid and gid."""
        async with self._turn(name) if sharing == "locked" else contextlib.nullcontext():
            number = 0
            with self._guard:
                while sharing == "private" and self._users.get(_id(name, number)):
                    number += 1
                id = _id(name, number)
                self._users[id] = self._users.get(id, 0) + 1
            try:
                async with self._turn(f"make {id}"):
                    path = await in_thread(partial(self._ensure, name, number, mode, owner, seed))
                yield path
            finally:
                with self._guard:
                    self._users[id] -= 1
                    if not self._users[id]:
                        del self._users[id]

    def all(self) -> list[tuple[str, CacheMount, int, bool]]:
        """Return id, row, bytes and whether it is in use of all directories; blocks."""
        with self._store.read() as transaction:
            rows = [(id, decode_mount(document)) for id, document in transaction.list(MOUNT)]
        return [(id, row, self._usage(id), id in self._users) for id, row in rows]

    def has(self, name: str) -> bool:
        """Return whether there is a directory for steps that share it; blocks."""
        return os.path.isdir(os.path.join(self._root, _id(name, 0)))

    @contextlib.asynccontextmanager
    async def still(self, name: str) -> AsyncIterator[str | None]:
        """Give the directory that steps share for the time of the ``async with``, None when a step uses it or there is none.

        Steps that take turns wait meanwhile; for others see :meth:`uses`.
        """
        async with self._turn(name):
            here = not self._users.get(_id(name, 0)) and await in_thread(partial(self.has, name))
            yield os.path.join(self._root, _id(name, 0)) if here else None

    def uses(self, name: str) -> int:
        """Return how many steps have used the directory; blocks."""
        with self._store.read() as transaction:
            document = transaction.get(MOUNT, _id(name, 0))
        return 0 if document is None else decode_mount(document).uses

    def remove(self, id: str) -> bool:
        """Remove a directory unless a step uses it; return whether it went. Blocks."""
        gone = f"{new_id()}.gone"
        with tree.opened(tree.open_root(self._root)) as fd:
            with self._guard:  # a step that comes now makes a new one
                if self._users.get(id):
                    return False
                with contextlib.suppress(FileNotFoundError):
                    os.rename(id, gone, src_dir_fd=fd, dst_dir_fd=fd)
                self._store.write_now(lambda t: t.delete(MOUNT, id))
            tree.remove(fd, gone)
        return True

    def clear_leftovers(self) -> None:
        """Remove directories without a row; once, at the start."""
        with self._store.read() as transaction:
            known = {id for id, _ in transaction.list(MOUNT)}
        with tree.opened(tree.open_root(self._root)) as fd:
            for name in tree.names(fd):
                if name not in known:
                    tree.remove(fd, name)

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._locks.pop(name, None)

    def _ensure(self, name: str, number: int, mode: int, owner: tuple[int, int], seed: Callable[[str], object]) -> str:
        id = _id(name, number)
        path = os.path.join(self._root, id)
        now_ns = clock.now_ns()

        def note(transaction: Transaction) -> None:
            document = transaction.get(MOUNT, id)
            row = (
                CacheMount(name=name, number=number, created_ns=now_ns, used_ns=now_ns)
                if document is None
                else decode_mount(document)
            )
            row = msgspec.structs.replace(row, used_ns=now_ns, uses=row.uses + 1)
            transaction.put(MOUNT, id, msgspec.json.encode(row))

        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            try:
                seed(path)
                os.chown(path, *owner)
                os.chmod(path, mode)
            except BaseException:
                with tree.opened(tree.open_root(self._root)) as fd:
                    tree.remove(fd, id)
                raise
        self._store.write_now(note, durable=False)
        return path

    def _usage(self, id: str) -> int:
        try:
            with tree.opened(tree.open_root(os.path.join(self._root, id))) as fd:
                return tree.usage(fd)
        except FileNotFoundError:
            return 0


def _id(name: str, number: int) -> str:
    return hashlib.sha256(f"{name}\0{number}".encode()).hexdigest()
