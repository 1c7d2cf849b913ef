"""The volumes that plugins keep: their rows here, and what of them is asked of the plugin.

The plugin knows which volumes there are. A row is made first and the volume after it, and stays as long as containers refer
to the volume; a row whose volume the plugin has lost is forgotten when somebody asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec

from boxship.base import clock, ids
from boxship.base.errors import BoxshipError, Conflict, NotFound, SystemFailure
from boxship.plugins import PluginNotFound, PluginUnreachable
from boxship.spec.docker.volume import Volume, VolumeCreate
from boxship.store import Store, Transaction
from boxship.volumes import rows
from boxship.volumes.drivers import PluginVolume, VolumeDrivers
from boxship.volumes.rows import Row

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publish an event: object type, action, id, attributes."""

_log = logging.getLogger(__name__)


class PluggedVolumes:
    """Volumes of other drivers than ``local``."""

    def __init__(self, store: Store, drivers: VolumeDrivers, *, emit: Emit, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._drivers = drivers
        self._emit = emit
        self._now_ns = now_ns
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._mounting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._mounted: dict[str, dict[str, str]] = defaultdict(dict)  # name: where it is mounted, by user

    def drivers(self) -> list[str]:
        """Return the names of the drivers that are in use, the built-in one included."""
        return self._drivers.names()

    # -- what the API asks -------------------------------------------------------------------------------------------

    async def create(self, request: VolumeCreate, *, driver: str) -> Volume:
        """Make a volume, or take in the one that the plugin has; raises NotFound, Conflict, SystemFailure."""
        name = request.name
        async with self._alone(self._changing, name):
            row = Row(
                name=name,
                created_ns=self._now_ns(),
                driver=driver,
                labels=request.labels,
                options=request.driver_opts,
            )

            def insert(tx: Transaction) -> Row:
                present = rows.get(tx, name)
                if present is None:
                    rows.put(tx, row)
                return present or row

            present = await self._store.write(insert)
            if present is not row:
                return await self._shown(present)
            try:
                await self._drivers.check(driver)
                await self._drivers.create(driver, name, request.driver_opts or {})
            except BaseException as exc:
                await self._store.write(lambda tx: tx.delete(rows.KIND, name))
                if isinstance(exc, NotFound):
                    raise NotFound(f"create {name}: {exc}") from exc
                if isinstance(exc, BoxshipError):
                    raise SystemFailure(f"create {name}: {exc}") from exc
                raise
        self._emit(rows.KIND, "create", name, {"driver": driver})
        return await self._shown(row)

    async def present(self, row: Row, driver: str) -> Volume | None:
        """Return a volume that somebody wants to create, None when the plugin has lost it and it may be made anew.

        Raises Conflict when another driver is wanted than it has, or containers refer to what is lost.
        """
        try:
            found = await self._drivers.get(row.driver, row.name)
        except BoxshipError as exc:
            raise _not_unique(
                f"found reference to volume '{row.name}' in driver '{row.driver}', "
                f"but got an error while checking the driver: {exc}"
            ) from exc
        if found is not None:
            if driver not in ("", row.driver):
                raise _not_unique(f"driver '{row.driver}' already has volume '{row.name}'")
            return await self._shown(row, found)
        if row.users:
            raise _not_unique(
                f"found references to volume '{row.name}' in driver '{row.driver}' but the volume was not found in the "
                "driver -- you may need to remove containers referencing this volume or force remove the volume to "
                "re-create it"
            )
        await self._forget(row)
        return None

    async def inspect(self, row: Row) -> Volume:
        """Return a volume with what the plugin tells of it; raises NotFound, SystemFailure."""
        found = await self._drivers.get(row.driver, row.name)
        if found is None:
            if not row.users:
                await self._forget(row)
            raise NotFound(f"get {row.name}: no such volume")
        return await self._shown(row, found)

    async def search(self, name: str) -> Volume | None:
        """Return a volume of which only its plugin knows, None when no plugin does."""
        found = await self._drivers.search(name)
        if found is None:
            return None
        driver, volume = found
        return await self._document(name, driver, volume)

    async def list(self, known: Sequence[Row]) -> tuple[Sequence[Volume], Sequence[str]]:
        """Return the volumes of all plugins, those of plugins that don't answer as ``known``, and warnings."""
        listing = await self._drivers.list()
        by_name = {row.name: row for row in known}
        found: dict[str, Volume] = {}
        for driver, volume in listing.volumes:
            row = by_name.get(volume.name)
            if row is None or row.driver == driver:
                found.setdefault(volume.name, await self._document(volume.name, driver, volume, row))
        answering = {driver for driver in self.drivers() if driver not in listing.failed}
        for row in known:
            if row.driver not in answering and row.name not in found:
                found[row.name] = await self._document(row.name, row.driver, None, row)
        return list(found.values()), sorted(listing.failed.values())

    async def remove(self, row: Row, *, force: bool) -> None:
        """Remove a volume; with ``force`` it is forgotten when the plugin can't be asked. Raises SystemFailure, Conflict."""
        async with self._alone(self._changing, row.name):
            try:
                await self._drivers.remove(row.driver, row.name)
            except (PluginNotFound, PluginUnreachable) as exc:
                if not force:
                    raise SystemFailure(f"remove {row.name}: {_looked_up(row.driver, exc)}") from exc
                _log.warning("volume %s is forgotten, its driver %s can't be asked: %s", row.name, row.driver, exc)
            except BoxshipError as exc:
                raise SystemFailure(f"remove {row.name}: {exc}") from exc
            await self._forget(row)
        self._emit(rows.KIND, "destroy", row.name, {"driver": row.driver})

    # -- what the engine asks ----------------------------------------------------------------------------------------

    async def mount(self, row: Row, user: str) -> str:
        """Return the directory where a volume is mounted for a user; raises SystemFailure."""
        async with self._alone(self._mounting, f"{row.name}/{user}"):
            mounted = self._mounted[row.name]
            if user not in mounted:
                try:
                    mounted[user] = await self._drivers.mount(row.driver, row.name, user)
                except BaseException:
                    self._drivers.unmount(row.name, user)
                    raise
        return mounted[user]

    def unmounted(self, name: str, user: str) -> None:
        """End the mount of a user; what is not mounted is no error."""
        self._mounted[name].pop(user, None)
        self._drivers.unmount(name, user)

    @contextlib.asynccontextmanager
    async def reached(self, row: Row) -> AsyncIterator[str]:
        """Give the directory of a volume for the time of a block."""
        user = ids.new_id()
        try:
            yield await self.mount(row, user)
        finally:
            self.unmounted(row.name, user)

    def adopt(self, mounted: Sequence[tuple[str, str]]) -> None:
        """Take over the mounts of these names and users, and end all others; once, at a start."""
        self._drivers.unmount_others(mounted)

    # -- parts of the above ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _alone(self, locks: WeakValueDictionary[str, asyncio.Lock], key: str) -> AsyncIterator[None]:
        lock = locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    async def _forget(self, row: Row) -> None:
        def forget(tx: Transaction) -> None:
            now = rows.get(tx, row.name)
            if now is not None and now.driver == row.driver:
                rows.check_unused(now, "remove")
                tx.delete(rows.KIND, row.name)

        await self._store.write(forget)

    async def _shown(self, row: Row, found: PluginVolume | None = None) -> Volume:
        if found is None:
            with contextlib.suppress(BoxshipError):
                found = await self._drivers.get(row.driver, row.name)
        return await self._document(row.name, row.driver, found, row)

    async def _document(self, name: str, driver: str, found: PluginVolume | None, row: Row | None = None) -> Volume:
        mounted = next(iter(self._mounted.get(name, {}).values()), "")
        created = found.created_at if found else ""
        if not created and row is not None:
            created = clock.rfc3339(row.created_ns // 1_000_000_000 * 1_000_000_000)
        return Volume(
            created_at=created,
            driver=driver,
            labels=row.labels if row else None,
            mountpoint=mounted or (found.mountpoint if found else ""),
            name=name,
            options=row.options if row else None,
            scope=await self._drivers.scope(driver),
            status=found.status if found and found.status else msgspec.UNSET,
        )


def _looked_up(driver: str, error: BoxshipError) -> str:
    return f"error looking up volume plugin {driver}: {error}" if isinstance(error, PluginNotFound) else str(error)


def _not_unique(text: str) -> Conflict:
    return Conflict(f"{text}: volume name must be unique")
