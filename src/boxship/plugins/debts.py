"""What plugins hold for this engine, written down before they are asked for it, so that it can always be given back.

A debt has a key, its owner's name for it ("endpoint/..."), and the calls that give back what the key stands for, the next
one first. It grows with every step and is *settled* at the end: each call is made, whatever the ones before gave. Calls to
a plugin that can't be reached stay, for the next start of the engine. At a start the owners *claim* what is in use
still; all else was cut off, and is settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from boxship.base.errors import BoxshipError
from boxship.plugins.client import Body
from boxship.plugins.errors import PluginNotFound, PluginRefused
from boxship.plugins.service import DEADLINE, Plugins
from boxship.store import Store, Transaction

KIND = "plugin-debt"
PATIENCE = 10.0  # seconds that who gives something back waits for the plugin; the rest happens in the background

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Call(msgspec.Struct, frozen=True):
    """One call of a plugin: its name, ``Interface.Method``, and the document."""

    plugin: str
    method: str
    body: Body


class Ledger:
    """All debts of one engine; owns the tasks that settle them."""

    def __init__(self, store: Store, plugins: Plugins) -> None:
        self._store = store
        self._plugins = plugins
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: dict[str, asyncio.Task[None]] = {}
        with store.read() as tx:
            self._open = {key: msgspec.json.decode(document, type=list[Call]) for key, document in tx.list(KIND)}

    def keys(self) -> list[str]:
        """Return the keys of all open debts."""
        return list(self._open)

    async def owe(self, key: str, call: Call) -> None:
        """Write down that ``call`` gives back something that a plugin holds now.

        What is being settled of that key is waited for: what comes new must not go with it.
        """
        settling = self._settling.get(key)
        if settling is not None:
            await asyncio.wait([settling])
        await self._keep(key, [call, *self._open.get(key, [])])

    async def do(
        self, key: str, method: str, body: Body, answer: type[T], *, undo: Call, seconds: float = DEADLINE
    ) -> T:
        """Ask ``undo``'s plugin for something that ``undo`` gives back.

        Raises what :meth:`Plugins.ask` raises; when the plugin refused nothing is owed for it, else whatever it did is.
        """
        await self.owe(key, undo)
        try:
            return await self._plugins.ask(undo.plugin, method, body, answer, seconds=seconds)
        except (PluginRefused, PluginNotFound):
            await self._withdraw(key, undo)
            raise

    async def repay(self, key: str, call: Call) -> None:
        """Make one of a debt's calls before its time. Raises what :meth:`Plugins.ask` raises; a refusal counts as done."""
        if call not in self._open.get(key, []):
            return
        try:
            await self._plugins.ask(call.plugin, call.method, call.body, dict[str, Any])
        except PluginRefused as exc:
            _log.warning("%s: %s", key, exc)
        await self._withdraw(key, call)

    async def settle(self, *keys: str) -> None:
        """Give back everything of these keys, all at once; after a while that goes on in the background."""
        tasks = self.settle_later(*keys)
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)

    def settle_later(self, *keys: str) -> list[asyncio.Task[None]]:
        """Give back everything of these keys in the background."""
        return [self._settle(key) for key in keys if key in self._open]

    def settle_others(self, claimed: Collection[str], kinds: Collection[str]) -> None:
        """Settle in the background what begins with one of ``kinds`` and nobody claims; once, at a start."""
        for key in self.keys():
            if key not in claimed and key.partition("/")[0] in kinds:
                _log.info("giving back what was cut off: %s", key)
                self._settle(key)

    async def close(self) -> None:
        """Leave what is not settled to the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle(self, key: str) -> asyncio.Task[None]:
        task = self._settling.get(key)
        if task is None:
            task = asyncio.create_task(self._pay(key), name=f"plugin debt {key}")
            self._settling[key] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._settling.pop(key, None))
        return task

    async def _pay(self, key: str) -> None:
        for call in self._open.get(key, []):
            try:
                await self._plugins.ask(call.plugin, call.method, call.body, dict[str, Any])
            except PluginRefused as exc:
                _log.warning("%s: %s", key, exc)
            except BoxshipError as exc:
                _log.warning("%s is left to the next start: %s", key, exc)
                continue
            await self._withdraw(key, call)

    async def _withdraw(self, key: str, call: Call) -> None:
        rest = list(self._open.get(key, []))
        if call in rest:
            rest.remove(call)
        await self._keep(key, rest)

    async def _keep(self, key: str, calls: list[Call]) -> None:
        def change(tx: Transaction) -> None:
            if calls:
                tx.put(KIND, key, msgspec.json.encode(calls))
            else:
                tx.delete(KIND, key)

        await self._store.write(change)
        if calls:
            self._open[key] = calls
        else:
            self._open.pop(key, None)
