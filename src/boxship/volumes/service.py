"""Named and anonymous volumes of the driver ``local``: rows in the store, directories beside them.

A volume exists when its row does. The row comes first and the directory after it; on the way out the row says so, the
directory is renamed away, the row goes, and only then are the files deleted. Each step is on the disk before the next, the
last two aside. So whatever was cut off, the row tells the next start what to finish, and directories that no row knows are
left to their owner.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import os
import re
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from boxship.base import atomicfile, clock, ids
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound, NotSupported, SystemFailure
from boxship.spec.docker.volume import Volume, VolumeCreate, VolumeList
from boxship.store import Store, Transaction
from boxship.volumes import copyup, matching, rows, tree
from boxship.volumes.drivers import VolumeDrivers
from boxship.volumes.local import bounds, mounting
from boxship.volumes.local import options as driver_options
from boxship.volumes.matching import Filters
from boxship.volumes.plugged import PluggedVolumes
from boxship.volumes.rows import ANONYMOUS_LABEL, KIND, LOCAL, Row
from boxship.volumes.timeline import inplace, snapshots

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publish an event: object type, action, id, attributes."""


def _tell_nobody(type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
    """The events of a service whose user listens to none."""


class VolumeService:
    """All volumes below one directory."""

    def __init__(
        self,
        store: Store,
        root: str,
        *,
        emit: Emit = _tell_nobody,
        owner: tuple[int, int] = (0, 0),
        now_ns: Callable[[], int] = clock.now_ns,
        drivers: VolumeDrivers | None = None,
    ) -> None:
        """``root`` is the directory of all volumes, made with the first one; ``owner`` is uid and gid of empty volumes.

        ``drivers`` are those of plugins.
        """
        self._plugged = PluggedVolumes(store, drivers, emit=emit, now_ns=now_ns) if drivers is not None else None
        self._owner = owner
        self._store = store
        self._root = root
        self._now_ns = now_ns
        self._emit = emit
        self._changing = asyncio.Lock()  # directories follow their rows one change at a time
        self._holders: dict[str, set[str]] = defaultdict(set)  # containers that run with the volume
        self._reached: dict[str, str] = {}  # where volumes of plugins are mounted for a moment
        self._resting: set[str] = set()  # volumes that no container may start with
        self._visits: dict[str, int] = defaultdict(int)  # how often the engine itself has it mounted
        self._mounting: dict[str, threading.Lock] = defaultdict(threading.Lock)  # a server may not answer: one a volume

    # -- what the API asks -------------------------------------------------------------------------------------------

    async def list(self, filters: Filters) -> list[Volume]:
        """Return the volumes of the driver ``local`` that pass the filters, sorted by name; raises InvalidInput."""
        matching.check(filters, matching.LIST)
        return self._chosen(map(self._volume, self._rows()), filters)

    async def list_all(self, filters: Filters) -> VolumeList:
        """Return those of all drivers, with what is wrong with drivers that don't answer as warnings."""
        matching.check(filters, matching.LIST)
        found: Sequence[Volume] = [self._volume(row) for row in self._rows()]
        warnings: Sequence[str] = ()
        if self._plugged is not None:
            others, warnings = await self._plugged.list([row for row in self._all_rows() if row.driver != LOCAL])
            taken = {volume.name for volume in found}
            found = [*found, *(volume for volume in others if volume.name not in taken)]
        chosen = self._chosen(found, filters)
        return VolumeList(volumes=chosen, warnings=[*warnings] or None)

    def names(self) -> set[str]:
        """Return the names of all volumes that are kept here, those of plugins too."""
        return {row.name for row in self._all_rows()}

    def drivers(self) -> builtins.list[str]:
        """Return the names of the drivers that are in use."""
        return self._plugged.drivers() if self._plugged is not None else [LOCAL]

    async def create(self, request: VolumeCreate) -> Volume:
        """Make a volume and return it; one of that name that exists already is returned as it is.

        Without a name it is anonymous: 64 hexadecimal digits and a label. Raises InvalidInput for a bad name or option,
        NotFound for an unknown driver, SystemFailure when the directory can't be made.
        """
        name, labels = request.name, request.labels
        if not name:
            name = ids.new_id()
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        _check(name, request)
        if (known := self._other(name)) is not None and self._plugged is not None:
            present = await self._plugged.present(known, request.driver)
            if present is not None:
                return present
        if (driver := await self._driver(name, request)) != LOCAL:
            if self._plugged is None:
                raise _no_driver(name, driver)
            return await self._plugged.create(msgspec.structs.replace(request, name=name, labels=labels), driver=driver)
        row = Row(name=name, created_ns=self._now_ns(), labels=labels, options=request.driver_opts)

        def insert(tx: Transaction) -> Row:
            present = rows.get(tx, name)
            if present is not None:
                return present
            tx.put(KIND, name, msgspec.json.encode(row))
            tx.own(self._directory(name), KIND, name)
            return row

        async with self._changing:
            found = await self._store.write(insert)
            if found is row:
                try:
                    await asyncio.to_thread(self._make_directory, row)
                except (OSError, BoxshipError) as exc:
                    await asyncio.to_thread(self._unmake_directory, name)
                    await self._store.write(functools.partial(self._delete_row, name))
                    if isinstance(exc, OSError):
                        raise SystemFailure(f"create {name}: {exc.strerror}") from exc
                    raise type(exc)(f"create {name}: {exc}") from exc
                self._emit(KIND, "create", name, {"driver": "local"})
        return self._volume(found)

    async def inspect(self, name: str) -> Volume:
        """Return a volume; raises NotFound, SystemFailure when its plugin can't be asked."""
        with self._store.read() as tx:
            row = rows.get(tx, name)
        if self._plugged is not None and row is None and (found := await self._plugged.search(name)) is not None:
            return found
        if self._plugged is not None and row is not None and row.driver != LOCAL:
            return await self._plugged.inspect(row)
        with self._store.read() as tx:
            return self._volume(rows.existing(tx, name))

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a volume and its data; ``force`` makes a missing one no error. Raises NotFound, Conflict when in use."""
        try:
            if (other := self._other(name)) is not None and self._plugged is not None:
                rows.check_unused(other, "remove")
                await self._plugged.remove(other, force=force)
            elif self._plugged is not None and (found := await self._found_elsewhere(name)) is not None:
                await self._plugged.remove(found, force=force)
            else:
                await self._remove(name)
        except NotFound:
            if not force:
                raise

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove the anonymous volumes that nothing uses, with ``all`` the named ones too; return Docker's report."""
        matching.check(filters, matching.PRUNE)
        everything = matching.truth(filters, "all")
        deleted: list[str] = []
        reclaimed = 0
        for row in self._rows():
            labels = row.labels or {}
            if row.users or not (everything or ANONYMOUS_LABEL in labels) or not matching.labels_match(labels, filters):
                continue
            size = await asyncio.to_thread(self._size, row)
            try:
                await self._remove(row.name)
            except (Conflict, NotFound):
                continue  # somebody was quicker
            deleted.append(row.name)
            reclaimed += size
        self._emit(KIND, "prune", "", {"reclaimed": str(reclaimed)})
        return {"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed}

    async def rename(self, name: str, new: str) -> Volume:
        """Give a volume that no container refers to another name.

        Raises NotFound, InvalidInput, Conflict when it is in use or there is one of that name.
        """
        _check(new, VolumeCreate(name=new))

        def move(tx: Transaction) -> Row:
            row = _local(rows.existing(tx, name), "can't be renamed")
            if row.users:
                raise Conflict(f"rename {name}: volume is in use - [{', '.join(row.users)}]")
            if rows.get(tx, new) is not None:
                raise Conflict(f"rename {name}: a volume named {new} exists")
            moved = msgspec.structs.replace(row, name=new, renamed_from=name)
            self._delete_row(name, tx)
            tx.put(KIND, new, msgspec.json.encode(moved))
            tx.own(self._directory(new), KIND, new)
            return moved

        def settle(tx: Transaction) -> None:
            row = rows.existing(tx, new)
            tx.put(KIND, new, msgspec.json.encode(msgspec.structs.replace(row, renamed_from="")))

        async with self._changing:
            if await asyncio.to_thread(os.path.lexists, self._directory(new)):
                raise Conflict(f"rename {name}: a volume named {new} exists")
            moved = await self._store.write(move)
            try:
                await asyncio.to_thread(self._rename_directory, name, new)
            except OSError as exc:
                raise SystemFailure(f"rename {name}: {exc.strerror}") from exc
            await self._store.write(settle)
        self._emit(KIND, "rename", new, {"driver": "local", "oldName": name})
        return self._volume(moved)

    async def change(
        self,
        name: str,
        options: dict[str, str] | None,
        *,
        add_labels: Mapping[str, str],
        remove_labels: Collection[str],
    ) -> Volume:
        """Write down other options, which the caller has seen to, and labels. Raises NotFound."""

        def write(tx: Transaction) -> Row:
            row = rows.existing(tx, name)
            labels = {**(row.labels or {}), **add_labels}
            labels = {key: text for key, text in labels.items() if key not in remove_labels}
            row = msgspec.structs.replace(row, options=options, labels=labels or None)
            rows.put(tx, row)
            return row

        return self._volume(await self._store.write(write))

    @contextlib.asynccontextmanager
    async def resting(self, name: str, *, running: bool = False) -> AsyncIterator[str]:
        """Give the directory of a volume that no container starts with meanwhile, or, but with ``running``, runs with.

        Raises NotFound; Conflict when one runs; NotSupported for a volume of a plugin.
        """
        with self._store.read() as tx:
            _local(rows.existing(tx, name), "is not kept here")
        if self._holders[name] and not running:
            holders = ", ".join(self.holders(name))
            raise Conflict(f"volume {name} is in use by running containers - [{holders}]: stop them first")
        if name in self._resting:
            raise Conflict(f"volume {name} is being snapshotted, restored or changed")
        self._resting.add(name)
        try:
            yield self._directory(name)
        finally:
            self._resting.discard(name)

    def has_quota(self, name: str) -> bool:
        """Tell whether a quota bounds a volume."""
        with self._store.read() as tx:
            row = rows.get(tx, name)
        return row is not None and row.driver == LOCAL and driver_options.has_quota(row.options or {})

    def holders(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that run with a volume, sorted."""
        return sorted(self._holders[name])

    async def usage(self) -> Sequence[Volume]:
        """Return all volumes with the size of their data and the number of their users; walks every file."""
        return await asyncio.to_thread(self._usage)

    # -- what the engine asks ----------------------------------------------------------------------------------------

    def mountpoint(self, name: str) -> str:
        """Return the host directory that holds a volume's data."""
        return f"{self._directory(name)}/{copyup.DATA}"

    async def use(self, name: str, container_id: str) -> None:
        """Note that a container refers to a volume, which keeps it from being removed; raises NotFound."""

        def add(tx: Transaction) -> None:
            row = rows.existing(tx, name)
            if container_id not in row.users:
                users = [*row.users, container_id]
                tx.put(KIND, name, msgspec.json.encode(msgspec.structs.replace(row, users=users)))

        await self._store.write(add)

    def mounted(self, name: str, container_id: str, *, destination: str, read_only: bool, propagation: str) -> None:
        """Note that a container that starts has a volume at ``destination``."""
        attributes = {
            "driver": self._driver_of(name),
            "container": container_id,
            "destination": destination,
            "read/write": "false" if read_only else "true",
            "propagation": propagation,
        }
        self._emit(KIND, "mount", name, attributes)

    async def mount(self, name: str, container_id: str) -> str:
        """Note a container that starts, and mount what a volume's options or plugin say; :meth:`unmounted` ends both.

        Returns the directory that holds the volume's data now.

        Raises NotFound, Conflict while the content is exchanged, SystemFailure in Docker's words when it can't be mounted.
        """
        with self._store.read() as tx:
            row = rows.existing(tx, name)
        if row.driver != LOCAL and self._plugged is not None:
            return await self._plugged.mount(row, container_id)
        wanted = driver_options.mount_options(row.options or {})
        if name in self._resting:
            raise Conflict(f"volume {name} is being snapshotted or restored")
        self._holders[name].add(container_id)
        path = self.mountpoint(name)
        bounded = driver_options.has_quota(row.options or {})
        if wanted is None and not bounded:
            return path

        def work() -> None:
            if wanted is None:
                bounds.set_quota(path, driver_options.size(row.options or {}))  # whatever became of the file system
                return
            with self._mounting[name]:
                mounting.attach(path, wanted)
                _finish_restore(path)

        try:
            await asyncio.to_thread(work)
        except OSError as exc:
            if wanted is None:
                raise SystemFailure(f"error while bounding volume '{path}': {exc.strerror}") from exc
            data = f", data: {wanted.data}" if wanted.data else ""
            call = f"mount {wanted.device}:{path}, flags: {wanted.flags:#x}{data}"
            reason = f"{call}: {os.strerror(exc.errno or 0).lower()}"
            text = f"error while mounting volume '{path}': failed to mount local volume: {reason}"
            raise SystemFailure(driver_options.without_secrets(text)) from exc
        return path

    def unmounted(self, name: str, container_id: str) -> None:
        """Note that a container has a volume no more, since it ended."""
        if self._plugged is not None:
            self._plugged.unmounted(name, container_id)
        self._holders[name].discard(container_id)
        if name in self._mounting:
            asyncio.get_running_loop().run_in_executor(None, self.unmount_unheld, name)
        self._emit(KIND, "unmount", name, {"driver": self._driver_of(name), "container": container_id})

    async def unuse(self, name: str, container_id: str) -> None:
        """Forget what :meth:`use` noted; what is not noted is no error."""

        def drop(tx: Transaction) -> None:
            row = rows.get(tx, name)
            if row is not None:
                rows.drop_users(tx, row, lambda user: user == container_id)

        await self._store.write(drop)

    async def release_unknown(self, used: Mapping[str, Collection[str]], running: Collection[str] = ()) -> None:
        """Bring rows, directories and mounts to one state, once at start.

        ``used`` has for each container the names of its volumes, ``running`` those containers that live. Forgets all other users, finishes removals and copy-ups
        that were cut off, makes the directories of rows that were cut off before. Raises SystemFailure.
        """

        def drop(tx: Transaction) -> Sequence[Row]:
            known = [msgspec.json.decode(document, type=Row) for _, document in tx.list(KIND)]
            for row in known:
                users_of = {user for user, names in used.items() if row.name in names}
                rows.drop_users(tx, row, functools.partial(_is_not_in, users_of))
            return [row for row in known if row.driver == LOCAL]

        if self._plugged is not None:
            self._plugged.adopt(
                [(name, container_id) for container_id in running for name in used.get(container_id, ())]
            )
        async with self._changing:
            known = await self._store.write(drop)
            for container_id in running:
                for name in used.get(container_id, ()):
                    self._holders[name].add(container_id)
            try:
                await asyncio.to_thread(self._recover, known)
            except OSError as exc:
                raise SystemFailure(f"failed to repair the volumes: {exc.strerror}: {exc.filename}") from exc
            for row in known:
                if row.removing:
                    await self._store.write(functools.partial(self._delete_row, row.name))

    def may_be_empty(self, name: str) -> bool:
        """Tell whether :meth:`copy_up` could have something to do; blocking. What is to be mounted may be anything."""
        with self._store.read() as tx:
            row = rows.get(tx, name)
        if row is None or row.driver != LOCAL or driver_options.mount_options(row.options or {}) is not None:
            return row is not None
        try:
            with os.scandir(self.mountpoint(name)) as entries:
                return next(entries, None) is None
        except OSError:
            return True  # copy_up says what is wrong

    def copy_up(self, name: str, root_fd: int, path: str) -> bool:
        """Fill an empty volume with the content, owner and mode of the image's directory ``path``; blocking.

        Returns False when the volume has content or the image no such directory. Raises SystemFailure.
        """
        try:
            with self._store.read() as tx:
                row = rows.existing(tx, name)
            wanted = driver_options.mount_options(row.options or {})
            if row.driver != LOCAL:
                return self._copy_up_reached(name, root_fd, path)
            if wanted is not None:
                return self._copy_up_mounted(name, root_fd, path)
            fd = tree.open_directory(self._directory(name))
            try:
                return copyup.copy_up(fd, root_fd, path)
            finally:
                os.close(fd)
        except OSError as exc:
            raise SystemFailure(f"failed to copy {path} of the image into volume {name}: {exc.strerror}") from exc

    @contextlib.asynccontextmanager
    async def reached(self, names: Collection[str]) -> AsyncIterator[None]:
        """Have those of the volumes mounted that plugins keep, so that :meth:`copy_up` gets at them in this block."""
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                row = self._other(name)
                if row is not None and self._plugged is not None and name not in self._reached:
                    self._reached[name] = await stack.enter_async_context(self._plugged.reached(row))
                    stack.callback(self._reached.pop, name)
            yield

    def _copy_up_reached(self, name: str, root_fd: int, path: str) -> bool:
        directory = self._reached.get(name)
        if directory is None:
            return False
        fd = tree.open_directory(directory)
        try:
            return copyup.copy_into(fd, root_fd, path)
        finally:
            os.close(fd)

    def _copy_up_mounted(self, name: str, root_fd: int, path: str) -> bool:
        with self.content(name) as data:
            fd = tree.open_directory(data)
            try:
                return copyup.copy_into(fd, root_fd, path)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def content(self, name: str) -> Iterator[str]:
        """Give the directory that holds a volume's data in this block, mounted if its options say so; blocking.

        Raises NotFound, OSError.
        """
        with self._store.read() as tx:
            wanted = driver_options.mount_options(rows.existing(tx, name).options or {})
        data = self.mountpoint(name)
        if wanted is None:
            yield data
            return
        with self._mounting[name]:
            mounting.attach(data, wanted)
            self._visits[name] += 1
            _finish_restore(data)
        try:
            yield data
        finally:
            with self._mounting[name]:
                self._visits[name] -= 1
            self.unmount_unheld(name)

    def unmount_unheld(self, name: str) -> None:
        """Unmount a volume that no running container has; what resists is left to the next start."""
        with self._mounting[name]:
            if not self._holders[name] and not self._visits[name]:
                with contextlib.suppress(OSError):
                    mounting.detach(self.mountpoint(name))

    # -- parts of the above ------------------------------------------------------------------------------------------

    async def _remove(self, name: str) -> None:
        def mark(tx: Transaction) -> None:
            row = rows.existing(tx, name)
            if name in self._resting:
                raise Conflict(f"remove {name}: volume is being snapshotted or restored")
            if row.users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(row.users)}]")
            tx.put(KIND, name, msgspec.json.encode(msgspec.structs.replace(row, removing=True)))

        async with self._changing:
            await self._store.write(mark)
            try:
                trash = await asyncio.to_thread(self._set_aside, name)
                # Not durable: should a power cut bring the row back, it says that the volume is to be removed.
                await self._store.write(functools.partial(self._delete_row, name), durable=False)
            except OSError as exc:
                raise SystemFailure(f"remove {name}: {exc.strerror}") from exc
        self._emit(KIND, "destroy", name, {"driver": "local"})
        if trash:
            try:
                await asyncio.to_thread(self._remove_tree, trash)
            except OSError as exc:
                raise SystemFailure(f"remove {name}: {exc.strerror}") from exc

    def _directory(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _rows(self) -> Sequence[Row]:
        return [row for row in self._all_rows() if row.driver == LOCAL]

    def _all_rows(self) -> Sequence[Row]:
        with self._store.read() as tx:
            known = [msgspec.json.decode(document, type=Row) for _, document in tx.list(KIND)]
        return [row for row in known if not row.removing]

    def _other(self, name: str) -> Row | None:
        """Return the row of a volume that a plugin keeps, None for others."""
        with self._store.read() as tx:
            row = rows.get(tx, name)
        return row if row is not None and row.driver != LOCAL else None

    def _driver_of(self, name: str) -> str:
        other = self._other(name)
        return other.driver if other is not None else LOCAL

    async def _driver(self, name: str, request: VolumeCreate) -> str:
        """Return the driver of a volume that is to be made; whoever names none gets what a plugin has of that name.

        Raises Conflict for a plugin's volume that is there already as one of ours.
        """
        with self._store.read() as tx:
            present = rows.get(tx, name)
        if present is not None and not present.removing:
            if request.driver not in ("", LOCAL):
                raise Conflict(
                    f"create {name}: driver '{LOCAL}' already has volume '{name}': volume name must be unique"
                )
            return LOCAL
        if request.driver or self._plugged is None:
            return request.driver or LOCAL
        found = await self._plugged.search(name) if request.name else None
        return found.driver if found is not None else LOCAL

    async def _found_elsewhere(self, name: str) -> Row | None:
        """Return a volume of which only its plugin knows as a row."""
        with self._store.read() as tx:
            if rows.get(tx, name) is not None or self._plugged is None:
                return None
        found = await self._plugged.search(name)
        return Row(name=name, created_ns=0, driver=found.driver) if found is not None else None

    def _chosen(self, volumes: Iterable[Volume], filters: Filters) -> builtins.list[Volume]:
        dangling = matching.truth(filters, "dangling")
        drivers = filters.get("driver")
        used = {row.name for row in self._all_rows() if row.users}
        found = [
            volume
            for volume in volumes
            if (dangling is None or dangling is not (volume.name in used))
            and (not drivers or volume.driver in drivers)
            and matching.name_matches(volume.name, filters.get("name"))
            and matching.labels_match(volume.labels or {}, filters)
        ]
        return sorted(found, key=lambda volume: volume.name)

    def _volume(self, row: Row) -> Volume:
        return Volume(
            created_at=_seconds(row.created_ns),
            labels=row.labels,
            mountpoint=self.mountpoint(row.name),
            name=row.name,
            options=row.options,
        )

    def _delete_row(self, name: str, tx: Transaction) -> None:
        tx.delete(KIND, name)
        tx.disown(self._directory(name))

    def _make_directory(self, row: Row) -> None:
        name, options = row.name, row.options or {}
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        directory = Path(self._directory(name))
        directory.mkdir(mode=0o711, exist_ok=True)
        data = directory / copyup.DATA
        if not data.is_dir():
            data.mkdir()
            data.chmod(0o755)  # whatever the umask is: users of any container enter here
            if self._owner != (0, 0):
                os.chown(data, *self._owner)
        if driver_options.has_quota(options):
            bounds.set_quota(str(data), driver_options.size(options))
        elif options.get("backing"):
            bounds.make_image(str(directory), driver_options.size(options), self._owner)
        for path in (str(directory), self._root):
            atomicfile.fsync_directory(path)

    def _unmake_directory(self, name: str) -> None:
        """Remove what a creation that failed has made; what has content was there before, and stays."""
        for path in (self.mountpoint(name), self._directory(name)):
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def _rename_directory(self, name: str, new: str) -> None:
        """Move a volume's directory; one that is not there is made when it is needed."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._directory(name), self._directory(new))
        atomicfile.fsync_directory(self._root)

    def _set_aside(self, name: str) -> str | None:
        """Rename a volume's directory, on the disk too, to a name that no volume can have; return that, None when it is gone."""
        trash = tree.trash_name()
        mounting.detach(self._directory(name))
        bounds.lift_quota(self.mountpoint(name))
        try:
            os.rename(self._directory(name), self._directory(trash))
        except FileNotFoundError:
            return None
        atomicfile.fsync_directory(self._root)
        return trash

    def _remove_tree(self, name: str) -> None:
        fd = tree.open_directory(self._root)
        try:
            tree.remove(name, fd)
        finally:
            os.close(fd)

    def _recover(self, known: Collection[Row]) -> None:
        for row in known:
            if row.removing:
                self._set_aside(row.name)
                continue
            if row.renamed_from and not Path(self._directory(row.name)).exists():
                self._rename_directory(row.renamed_from, row.name)
            if row.options:
                with self._mounting[row.name]:
                    if not self._holders[row.name]:
                        mounting.detach(self._directory(row.name))
            with contextlib.suppress(FileNotFoundError):
                bounds.recover(self._directory(row.name))
            with contextlib.suppress(InvalidInput, NotSupported):  # its containers do not start, and say why
                self._make_directory(row)
            fd = tree.open_directory(self._directory(row.name))
            try:
                copyup.recover(fd)
                snapshots.recover(fd)
            finally:
                os.close(fd)
        if Path(self._root).is_dir():
            for path in Path(self._root).glob(f"{tree.TRASH}*"):
                mounting.detach(str(path))
                self._remove_tree(path.name)

    def _size(self, row: Row) -> int:
        # What other options name is measured where a container has it mounted: a server may not answer.
        in_image = bool((row.options or {}).get("backing"))
        try:
            with self.content(row.name) if in_image else contextlib.nullcontext(self.mountpoint(row.name)) as data:
                fd = tree.open_directory(data)
                try:
                    return tree.size(fd)
                finally:
                    os.close(fd)
        except (OSError, NotFound):
            return 0  # it goes just now

    def _usage(self) -> Sequence[Volume]:
        return [
            msgspec.structs.replace(self._volume(row), usage_data={"Size": self._size(row), "RefCount": len(row.users)})
            for row in self._rows()
        ]


def _check(name: str, request: VolumeCreate) -> None:
    """Raise in Docker's words what is wrong with a create request."""
    if len(name) == 1:
        raise InvalidInput(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if request.driver in ("", LOCAL):
        driver_options.check(name, request.driver_opts or {})


def _finish_restore(data: str) -> None:
    """Finish or undo a restore that was cut off where nothing can be swapped."""
    fd = tree.open_directory(data)
    try:
        inplace.recover(fd)
    finally:
        os.close(fd)


def _no_driver(name: str, driver: str) -> NotFound:
    return NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _local(row: Row, refusal: str) -> Row:
    if row.driver != LOCAL:
        raise NotSupported(f"volume {row.name} {refusal}: it belongs to the driver {row.driver}")
    return row


def _is_not_in(users: Collection[str], user: str) -> bool:
    return user not in users


def _seconds(time_ns: int) -> str:
    """Return a time as volumes show it: RFC 3339 without fraction."""
    return clock.rfc3339(time_ns // 1_000_000_000 * 1_000_000_000)
