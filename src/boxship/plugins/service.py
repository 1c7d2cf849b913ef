"""The plugins that this engine knows: looked for when somebody names them, activated once, asked as often as needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec

from boxship.plugins import client, discovery
from boxship.plugins.client import Body, NotConnected
from boxship.plugins.discovery import Address
from boxship.plugins.errors import PluginError, PluginNotFound, PluginRefused, PluginUnreachable

T = TypeVar("T")
ACTIVATE = "Plugin.Activate"
DEADLINE = 60.0  # seconds for an answer, where the caller says nothing else
GLANCE = 5.0  # seconds for an answer when all plugins are asked, so that one that hangs keeps nobody waiting
DIRECTORIES = (
    "/run/docker/plugins",
    "/etc/docker/plugins",
    "/usr/lib/docker/plugins",
    "/run/boxship/plugins",
    "/etc/boxship/plugins",
    "/usr/lib/boxship/plugins",
)

_ERRORS = {
    "AuthZPlugin": ("Err", ""),
    "VolumeDriver": ("Err", ""),
    "NetworkDriver": ("Err", "remote: "),
    "IpamDriver": ("Error", "remote: "),
}
_IMPLEMENTED_AS = {"AuthZPlugin": "authz"}  # where the two differ

_log = logging.getLogger(__name__)


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where plugins are looked for, and how many seconds one that does not listen yet is waited for."""

    directories: tuple[str, ...] = DIRECTORIES
    wait: float = 30.0


class _Active(NamedTuple):
    """A plugin that was activated, and the interfaces that it implements."""

    address: Address
    implements: frozenset[str]


class Plugins:
    """All plugins below some directories.

    A plugin that is gone from its directory is forgotten; one that came back, or is another now, is activated anew.
    """

    def __init__(
        self,
        options: PluginOptions,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = options
        self._sleep = sleep
        self._active: dict[str, _Active] = {}
        self._activating: dict[str, asyncio.Task[_Active]] = {}

    def active(self, interface: str) -> list[str]:
        """Return the names of the activated plugins that implement an interface, sorted."""
        return sorted(name for name, (_, implements) in self._active.items() if interface in implements)

    async def names(self, interface: str) -> list[str]:
        """Return the names of all plugins that implement an interface; those that don't answer soon are left out."""
        found = await asyncio.to_thread(discovery.names, self._options.directories)
        answers = await asyncio.gather(*(self._looked_at(name, interface) for name in found))
        return [name for name, implements in zip(found, answers, strict=True) if implements]

    async def find(self, name: str, interface: str, *, patient: bool = False) -> Address:
        """Return the address of a plugin that implements an interface, activated.

        With ``patient`` one that is not there yet, or does not listen, is waited for. Raises PluginNotFound, PluginError
        in Docker's words.
        """
        found = await self._patiently(lambda: self._activated(name), patient=patient)
        if interface not in found.implements:
            raise PluginError(
                f'legacy plugin: Plugin does not implement the requested driver: plugin="{name}", '
                f'requested implementation="{interface}"'
            )
        return found.address

    async def ask(
        self,
        name: str,
        method: str,
        body: Body | None,
        answer: type[T],
        *,
        seconds: float = DEADLINE,
        patient: bool = True,
    ) -> T:
        """Call ``Interface.Method`` of a plugin and return its answer as a document of type ``answer``.

        A plugin that can't be reached is tried again, unless the caller is not ``patient``. Raises PluginNotFound,
        PluginUnreachable, PluginRefused.
        """
        interface = method.partition(".")[0]

        async def once() -> Body:
            address = await self.find(name, _IMPLEMENTED_AS.get(interface, interface))
            return await client.call(address, method, body, seconds)

        found = await self._patiently(once, patient=patient)
        field, prefix = _ERRORS[interface]
        if refusal := found.get(field):
            raise PluginRefused(f"{prefix}{refusal}")
        try:
            return msgspec.convert(found, answer)
        except (msgspec.ValidationError, RecursionError) as exc:
            raise PluginUnreachable(f"{method}: the plugin's answer makes no sense: {exc}") from exc

    async def _looked_at(self, name: str, interface: str) -> bool:
        if name in self._activating:  # for longer than this would wait, perhaps
            return False
        try:
            async with asyncio.timeout(GLANCE):
                return interface in (await self._activated(name)).implements
        except (TimeoutError, PluginError, PluginNotFound) as exc:
            _log.debug("the plugin %s does not count: %s", name, str(exc) or "it does not answer")
            return False

    async def _activated(self, name: str) -> _Active:
        address = await asyncio.to_thread(discovery.find, name, self._options.directories)
        if address is None:
            self._active.pop(name, None)
            raise PluginNotFound(name)
        known = self._active.get(name)
        if known is not None and known.address == address:
            return known
        task = self._activating.get(name)
        if task is None:
            task = asyncio.create_task(self._activate(name, address), name=f"activate plugin {name}")
            self._activating[name] = task
            task.add_done_callback(lambda done: self._activation_ended(name, done))
        return await asyncio.shield(task)

    async def _activate(self, name: str, address: Address) -> _Active:
        answer = await client.call(address, ACTIVATE, None, DEADLINE)
        words = answer.get("Implements")
        listed = words if isinstance(words, list) else []
        known = _Active(address, frozenset(word for word in listed if isinstance(word, str)))
        self._active[name] = known
        return known

    def _activation_ended(self, name: str, task: asyncio.Task[_Active]) -> None:
        del self._activating[name]
        if not task.cancelled():
            task.exception()  # whoever still waits for it is told

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], *, patient: bool) -> T:
        """Return what ``attempt`` gives; while nobody listens, try again after 1, 2, 4... seconds as long as is allowed."""
        waited, pause = 0.0, 1.0
        while True:
            try:
                return await attempt()
            except (NotConnected, PluginNotFound) as exc:
                if not patient or waited + pause > self._options.wait:
                    raise
                _log.warning("Unable to connect to plugin: %s, retrying in %.0fs", exc, pause)
            await self._sleep(pause)
            waited, pause = waited + pause, pause * 2
