"""Volumes of plugins: the calls of Docker's ``VolumeDriver`` interface, and what their answers may say.

A plugin names the directory on the host that a container gets. What it names is believed only as far as it can be a volume:
no part of the engine's own directories, of the kernel's file systems, and never the whole host.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from boxship.base.errors import BoxshipError, SystemFailure
from boxship.plugins import Call, Ledger, PluginNotFound, PluginRefused, Plugins
from boxship.plugins.service import GLANCE

INTERFACE = "VolumeDriver"
DEBT = "volume"
LOCAL = "local"
_LONG = 120.0  # seconds for Create and Mount, as in Docker
_LOOK = 10.0  # seconds for a look at the directory that a plugin names
_KERNEL = ("/proc", "/sys", "/dev")
_MAX_PATH = 4096  # linux/limits.h: PATH_MAX

Look = Callable[[Callable[[], str], float, str], Awaitable[str]]
"""Run a function on files that may never answer: it, seconds, complaint."""


class PluginVolume(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A volume as its plugin tells of it."""

    name: str = ""
    mountpoint: str = ""
    created_at: str = ""
    status: dict[str, Any] | None = None


class _Got(msgspec.Struct, rename="pascal"):
    volume: PluginVolume | None = None


class _Listed(msgspec.Struct, rename="pascal"):
    volumes: list[PluginVolume] = []


class _Mounted(msgspec.Struct, rename="pascal"):
    mountpoint: str = ""


class _Capability(msgspec.Struct, frozen=True, rename="pascal"):
    scope: str = ""


class _Capabilities(msgspec.Struct, rename="pascal"):
    capabilities: _Capability = _Capability()


class Listing(NamedTuple):
    """What all plugins have: pairs of driver and volume, and what those that did not answer said, by driver."""

    volumes: list[tuple[str, PluginVolume]]
    failed: dict[str, str]


class VolumeDrivers:
    """The plugins that implement VolumeDriver."""

    def __init__(self, plugins: Plugins, ledger: Ledger, *, private: Sequence[str], look: Look) -> None:
        """``private`` are the engine's own directories, which no volume may show."""
        self._plugins = plugins
        self._ledger = ledger
        self._private = [os.path.realpath(path) for path in private]
        self._look = look
        self._scopes: dict[str, str] = {}

    def names(self) -> list[str]:
        """Return the drivers that are in use, with the built-in one."""
        return [LOCAL, *self._plugins.active(INTERFACE)]

    async def check(self, driver: str) -> None:
        """Raise NotFound or SystemFailure in Docker's words when there is no such driver."""
        try:
            await self._plugins.find(driver, INTERFACE)
        except PluginNotFound as exc:
            raise PluginNotFound(driver, f"error looking up volume plugin {driver}: ") from exc
        except BoxshipError as exc:
            raise SystemFailure(f"error looking up volume plugin {driver}: {exc}") from exc

    async def scope(self, driver: str) -> str:
        """Return "local" or "global"; a plugin that does not say is local."""
        if driver not in self._scopes:
            try:
                answer = await self._plugins.ask(
                    driver, "VolumeDriver.Capabilities", {}, _Capabilities, seconds=GLANCE, patient=False
                )
            except PluginRefused:
                answer = _Capabilities()
            except BoxshipError:
                return LOCAL
            self._scopes[driver] = "global" if answer.capabilities.scope.lower() == "global" else LOCAL
        return self._scopes[driver]

    async def get(self, driver: str, name: str, *, seconds: float = 60.0) -> PluginVolume | None:
        """Return a volume, None when the plugin has none of that name. Raises SystemFailure when it can't be asked."""
        try:
            answer = await self._plugins.ask(
                driver, "VolumeDriver.Get", {"Name": name}, _Got, seconds=seconds, patient=False
            )
        except PluginRefused:
            return None
        except PluginNotFound as exc:
            text = f'error while checking if volume "{name}" exists in driver "{driver}"'
            raise SystemFailure(f"{text}: error looking up volume plugin {driver}: {exc}") from exc
        except BoxshipError as exc:
            raise SystemFailure(f'error while checking if volume "{name}" exists in driver "{driver}": {exc}') from exc
        return answer.volume

    async def search(self, name: str) -> tuple[str, PluginVolume] | None:
        """Return the driver that has a volume of this name, and the volume; drivers that don't answer have none."""

        async def look(driver: str) -> PluginVolume | None:
            try:
                return await self.get(driver, name, seconds=GLANCE)
            except BoxshipError:
                return None

        drivers = await self._plugins.names(INTERFACE)
        found = await asyncio.gather(*map(look, drivers))
        return next(((driver, one) for driver, one in zip(drivers, found, strict=True) if one is not None), None)

    async def list(self) -> Listing:
        """Return the volumes of all plugins."""
        drivers = await self._plugins.names(INTERFACE)
        listing = Listing([], {})

        async def ask(driver: str) -> None:
            try:
                answer = await self._plugins.ask(
                    driver, "VolumeDriver.List", {}, _Listed, seconds=GLANCE, patient=False
                )
            except BoxshipError as exc:
                listing.failed[driver] = f"list {driver}: {exc}"
            else:
                listing.volumes.extend((driver, volume) for volume in answer.volumes if volume.name)

        await asyncio.gather(*map(ask, drivers))
        return listing

    async def create(self, driver: str, name: str, options: dict[str, str]) -> None:
        """Make a volume, unless the plugin has it; raises what :meth:`Plugins.ask` raises."""
        try:
            if await self.get(driver, name) is not None:
                return
        except BoxshipError:
            pass  # Create says what is wrong, if it is
        body = {"Name": name, "Opts": options}
        await self._plugins.ask(driver, "VolumeDriver.Create", body, dict[str, Any], seconds=_LONG)

    async def remove(self, driver: str, name: str) -> None:
        """Remove a volume; one that the plugin does not have is no error. Raises what :meth:`Plugins.ask` raises."""
        try:
            await self._plugins.ask(driver, "VolumeDriver.Remove", {"Name": name}, dict[str, Any], patient=False)
        except PluginRefused:
            if await self.get(driver, name) is not None:
                raise

    async def mount(self, driver: str, name: str, id: str) -> str:
        """Have a volume mounted for the user ``id`` and return its directory.

        :meth:`unmount` ends it, also when this fails. Raises SystemFailure, NotFound.
        """
        body = {"Name": name, "ID": id}
        undo = Call(driver, "VolumeDriver.Unmount", body)
        try:
            answer = await self._ledger.do(
                _debt(name, id), "VolumeDriver.Mount", body, _Mounted, undo=undo, seconds=_LONG
            )
        except BoxshipError as exc:
            raise SystemFailure(f"error while mounting volume '{name}': {exc}") from exc
        path = answer.mountpoint
        refused = SystemFailure(
            f"error while mounting volume '{name}': the plugin names {path[:200]!r}, which is no place"
        )
        if not _is_plain(path):
            raise refused
        try:
            real = await self._look(
                lambda: _directory(path), _LOOK, f"{path} does not answer within {_LOOK:.0f} seconds"
            )
        except OSError as exc:
            text = f"error while mounting volume '{name}': {path}: {(exc.strerror or str(exc)).lower()}"
            raise SystemFailure(text) from exc
        if real == "/" or any(_within(real, other) or _within(other, real) for other in (*self._private, *_KERNEL)):
            raise refused
        return real

    def unmount(self, name: str, id: str) -> None:
        """End what :meth:`mount` began, in the background; what was not begun is no error."""
        self._ledger.settle_later(_debt(name, id))

    def unmount_others(self, mounted: Sequence[tuple[str, str]]) -> None:
        """End all mounts but those of these names and users; once, at a start."""
        self._ledger.settle_others({_debt(name, id) for name, id in mounted}, {DEBT})


def _debt(name: str, id: str) -> str:
    return f"{DEBT}/{name}/{id}"


def _is_plain(path: str) -> bool:
    return path.startswith("/") and len(path) < _MAX_PATH and "\0" not in path and ".." not in path.split("/")


def _directory(path: str) -> str:
    """Return the path without links; raises OSError when it is no directory."""
    real = os.path.realpath(path, strict=True)
    if not stat.S_ISDIR(os.stat(real).st_mode):
        raise NotADirectoryError(20, "not a directory", path)
    return real


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer.rstrip('/')}/")
