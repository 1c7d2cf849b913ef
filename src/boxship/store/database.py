"""The SQLite store: one writer thread that groups commits, and readers that never wait for it.

Changes queue for the writer thread. It takes all that wait, runs each in a savepoint of its own inside one SQLite
transaction, commits once (one fsync) and then tells everybody. WAL mode lets readers go on at the last commit meanwhile.
"""

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from boxship.base.errors import SystemFailure
from boxship.store import schema
from boxship.store.reserve import Reserve
from boxship.store.transaction import Change, ReadTransaction, Transaction

T = TypeVar("T")

GROUP = 64  # changes per commit: bounds how long the first one of a group waits
IDLE_READERS = 8
FREE_PAGES = 128  # of the database, for the rows that emptying a full disk writes


class _Job(Generic[T]):
    """One change on its way through the writer thread."""

    def __init__(self, change: Callable[[Transaction], T], durable: bool) -> None:
        self.change = change
        self.durable = durable
        self.future: Future[T] = Future()
        self._settle: Callable[[], None]

    def run(self, connection: sqlite3.Connection) -> None:
        """Run the change in a savepoint and keep its outcome until the commit is known.

        What the change raises is its outcome. Raises only what concerns the whole group: disk full, damage.
        """
        connection.execute("SAVEPOINT change")
        try:
            result = self.change(Transaction(connection))
        except BaseException as exc:
            if not connection.in_transaction or type(exc) in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise
            connection.execute("ROLLBACK TO change")
            connection.execute("RELEASE change")
            outcome = exc
            self._settle = lambda: self.future.set_exception(outcome)
        else:
            connection.execute("RELEASE change")
            self._settle = lambda: self.future.set_result(result)

    def settle(self) -> None:
        """Give the caller its result."""
        self._settle()


class Store:
    """Metadata in the SQLite database at ``path``; the package's docstring has the words.

    Opening creates or migrates it and raises SystemFailure when the file is damaged, another program's or of a newer
    format. All methods may be called from any thread. Close it to free its thread and files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the four below
        self._closed = False
        self._idle: list[sqlite3.Connection] = []
        self._watchers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._reserve = Reserve(f"{path}-reserve")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = self._connect()
        try:
            with _failures(path):
                schema.migrate(connection, path)
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise SystemFailure(f"the database {path} is damaged: {verdict}")
                _keep_room(connection)
        except BaseException:
            connection.close()
            raise
        self._thread = threading.Thread(target=self._write_loop, args=(connection,), name="store-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the changes that wait, end all watches and close the files."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
            idle, self._idle = self._idle, []
        self._thread.join()
        for connection in idle:
            connection.close()
        self._wake_watchers()

    @contextmanager
    def read(self) -> Iterator[ReadTransaction]:
        """Give a consistent snapshot. Keep it short: the log can't shrink below the oldest open one."""
        connection = self._borrow()
        try:
            with _failures(self.path):
                connection.execute("BEGIN")
                try:
                    yield ReadTransaction(connection)
                finally:
                    connection.execute("ROLLBACK")
        finally:
            self._give_back(connection)

    async def write(self, change: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Run ``change`` in the writer thread as one change set, commit, return what it returned.

        An exception in ``change`` undoes its part alone and is raised here. ``change`` touches nothing but the
        transaction and does not block: it holds up all other writers, and it may run a second time from the start
        (after the disk was full). A cancelled caller's change is either not run at all or committed. Raises
        SystemFailure when the commit fails.
        """
        return await asyncio.wrap_future(self._submit(change, durable))

    def write_now(self, change: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Do as :meth:`write` does, blocking the calling thread."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("write_now inside a change would wait for itself")
        return self._submit(change, durable).result()

    def problems(self) -> Sequence[str]:
        """Return what SQLite finds wrong with the file, at most a hundred lines; blocking, reads all of it."""
        connection = self._borrow()
        try:
            with _failures(self.path):
                found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
        finally:
            self._give_back(connection)
        return [] if found == ["ok"] else found

    async def watch(self, since_revision: int) -> AsyncIterator[Change]:
        """Yield each object's newest change after ``since_revision``, then go on as changes are committed.

        Changes of one object between two looks melt into the last. Ends when the store is closed. Raises Conflict when
        ``since_revision`` is too old: list, then watch from that snapshot's revision.
        """
        changed = asyncio.Event()
        with self._lock:
            self._watchers[changed] = asyncio.get_running_loop()
        try:
            while True:
                changed.clear()
                found = await asyncio.to_thread(self._changes, since_revision)
                if found is None:
                    return
                for change in found:
                    yield change
                    since_revision = change.revision
                if not found:
                    await changed.wait()
        finally:
            with self._lock:
                self._watchers.pop(changed, None)

    def _changes(self, since_revision: int) -> Sequence[Change] | None:
        """Return the changes after a revision, None once the store is closed."""
        try:
            with self.read() as transaction:
                return transaction.changes(since_revision)
        except SystemFailure:
            if self._closed:
                return None
            raise

    def _submit(self, change: Callable[[Transaction], T], durable: bool) -> Future[T]:
        job = _Job(change, durable)
        with self._lock:
            if self._closed:
                raise SystemFailure(f"the database {self.path} is closed")
            self._jobs.put(job)  # type: ignore[arg-type]  # the queue does not look at T
        return job.future

    # readers

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise SystemFailure(f"the database {self.path} is closed")
            if self._idle:
                return self._idle.pop()
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        with _failures(self.path):
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA synchronous = FULL")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

    # the writer thread

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        running = True
        while running:
            group: list[_Job[object]] = []
            job = self._jobs.get()
            while job is not None:
                if job.future.set_running_or_notify_cancel():
                    group.append(job)
                if len(group) == GROUP or self._jobs.empty():
                    break
                job = self._jobs.get()
            running = job is not None
            if group:
                self._commit(connection, group)
                self._wake_watchers()
        connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[_Job[object]], *, rewound: bool = False) -> None:
        try:
            _run_group(connection, group)
        except sqlite3.Error as exc:
            # Deleting needs room for the log too: give it what was put aside, so that a full disk can be emptied.
            released = self._reserve.release()
            if released or len(group) > 1:
                for job in group:  # each alone, so that one does not fail for another's size
                    self._commit(connection, [job], rewound=rewound)
            elif not rewound and _rewind_log(connection):
                self._commit(connection, group, rewound=True)
            else:
                group[0].future.set_exception(_failure(self.path, exc))
        except BaseException as exc:
            for job in group:
                job.future.set_exception(exc)
        else:
            for job in group:
                job.settle()
            self._reserve.fill()

    def _wake_watchers(self) -> None:
        with self._lock:
            watchers = list(self._watchers.items())
        for changed, loop in watchers:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:  # its loop was closed without closing the generator
                with self._lock:
                    self._watchers.pop(changed, None)


def _run_group(connection: sqlite3.Connection, group: list[_Job[object]]) -> None:
    """Run the jobs in one SQLite transaction and commit it; an error leaves none of them."""
    durable = any(job.durable for job in group)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in group:
            job.run(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _keep_room(connection: sqlite3.Connection) -> None:
    """Leave free pages in the database, and a log as long: on a full disk others may be quicker to take a reserve's space.

    That there is no room for them is no error.
    """
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free >= FREE_PAGES:
        return
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE room (content BLOB)")
        connection.execute("INSERT INTO room VALUES (zeroblob(?))", (FREE_PAGES * size,))
        connection.execute("DROP TABLE room")
        connection.execute("COMMIT")
    except sqlite3.OperationalError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _rewind_log(connection)


def _rewind_log(connection: sqlite3.Connection) -> bool:
    """Move what the log holds into the database, so that the log is written from its beginning; return whether it will be."""
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    except sqlite3.Error:
        return False
    return not busy


def _failure(path: str, exc: sqlite3.Error) -> SystemFailure:
    if isinstance(exc, sqlite3.OperationalError):
        return SystemFailure(f"database {path}: {exc}")
    return SystemFailure(f"the database {path} is damaged: {exc}")


@contextmanager
def _failures(path: str) -> Iterator[None]:
    """Turn SQLite's errors into SystemFailure."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _failure(path, exc) from exc
