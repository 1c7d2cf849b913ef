"""The event bus: what happened, to live listeners and kept in the store for ``--since``.

Theory of operation. Every event has the next number of one counter, which goes on over restarts. The newest events are in a
ring in memory; those that are kept are in the store under their number a moment later. A listener is nothing but the number
that it has reached: it goes on from the ring, or, when it has fallen behind that, from the store in pages. So a slow reader
loses nothing that is kept and costs no memory.

What an engine does for itself all the time (the processes of health checks) is in the ring but not in the store: a probe a
second would push everything else out of the history within the hour.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from boxship.base import clock
from boxship.base.errors import SystemFailure
from boxship.engine.observation import event_filters
from boxship.engine.observation.event_filters import Filters
from boxship.spec.docker.system import EventActor, EventMessage
from boxship.store import Store, Transaction

log = logging.getLogger(__name__)

RING_SIZE = 2048  # events in memory
PAGE = 512  # events read from the store at a time
KEPT_NS = 30 * 24 * 3600 * 10**9  # the history's age; the store bounds its number
UNSAVED_LIMIT = 8192  # events that may wait for a store that does not write; older ones are lost to the history

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EventMessage).decode


class _Entry(NamedTuple):
    number: int
    event: EventMessage


class EventBus:
    """Emits, stores and serves events; all methods belong to one loop. ``last`` is the number of the last event so far."""

    def __init__(self, store: Store, *, last: int = 0, now_ns: Callable[[], int] = clock.now_ns) -> None:
        self._store = store
        self._last = last
        self._now_ns = now_ns
        self._ring: deque[_Entry] = deque(maxlen=RING_SIZE)
        self._arrived = asyncio.Event()
        self._unsaved: deque[_Entry] = deque(maxlen=UNSAVED_LIMIT)
        self._saving: asyncio.Task[None] | None = None
        self.listeners = 0

    @classmethod
    async def open(cls, store: Store) -> EventBus:
        """Return a bus that goes on with the history in the store."""

        def read() -> int:
            with store.read() as tx:
                return tx.last_event()

        return cls(store, last=await asyncio.to_thread(read))

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str], *, kept: bool = True) -> None:
        """Publish one event now; unless it is not to be ``kept``, it reaches the store a moment later, in order."""
        now = self._now_ns()
        legacy: dict[str, str] = {}
        if type in ("container", "image"):
            legacy = {"status": action, "id": id} if id else {"status": action}
            if type == "container" and "image" in attributes:
                legacy["from_"] = attributes["image"]
        event = EventMessage(
            type=type,
            action=action,
            actor=EventActor(id=id, attributes=dict(sorted(attributes.items()))),  # in Docker's order
            time=now // 1_000_000_000,
            time_nano=now,
            **legacy,
        )
        self._last += 1
        entry = _Entry(self._last, event)
        self._ring.append(entry)
        self._arrived.set()
        self._arrived = asyncio.Event()
        if kept:
            self._unsaved.append(entry)
            if self._saving is None:
                self._saving = asyncio.get_running_loop().create_task(self._save())

    def stream(self, *, since: int, until: int, filters: Filters) -> AsyncIterator[EventMessage]:
        """Return events from ``since`` up to ``until`` (ns since 1970, 0 "not given").

        With either of them the history comes first. Raises InvalidInput at once for a filter that does not exist.
        """
        event_filters.check(filters)
        return self._stream(since=since, until=until, filters=filters)

    async def _stream(self, *, since: int, until: int, filters: Filters) -> AsyncIterator[EventMessage]:
        self.listeners += 1
        history = self._last  # what is above this number happened while we listen
        position = 0 if since or until else history
        try:
            while True:
                arrived = self._arrived
                if position < self._last - len(self._ring):
                    newest = self._last
                    page = await self._stored(position, since, until)
                    end = min(newest, self._last - len(self._ring))  # from here on the ring has more
                    older = [event for number, event in page if number <= end]
                    position = page[-1][0] if len(older) == PAGE else max(position, end)
                    for event in older:
                        if event_filters.matches(event, filters):
                            yield event
                    continue
                for number, event in self._behind(position):
                    position = number
                    if until and event.time_nano > until:
                        return
                    if number <= history and event.time_nano < since:
                        continue
                    if event_filters.matches(event, filters):
                        yield event
                if position == self._last and not await _wait(arrived, until):
                    return
        finally:
            self.listeners -= 1

    async def close(self) -> None:
        """Write what is not stored yet."""
        if self._saving is not None:
            await self._saving

    def _behind(self, position: int) -> Sequence[_Entry]:
        """Return what the ring holds after ``position``, which is not before the ring."""
        return list(itertools.islice(self._ring, position - (self._last - len(self._ring)), None))

    async def _stored(self, after: int, since: int, until: int) -> Sequence[tuple[int, EventMessage]]:
        if self._saving is not None:
            await asyncio.shield(self._saving)

        def read() -> Sequence[tuple[int, EventMessage]]:
            with self._store.read() as tx:
                rows = tx.events(after=after, since_ns=since, until_ns=until, limit=PAGE)
            return [(number, _decode(document)) for number, document in rows]

        return await asyncio.to_thread(read)

    async def _save(self) -> None:
        try:
            while self._unsaved:
                batch = list(self._unsaved)
                self._unsaved.clear()

                def append(tx: Transaction, batch: Sequence[_Entry] = batch) -> None:
                    for number, event in batch:
                        tx.append_event(number, event.time_nano, _encode(event))
                    tx.forget_events(batch[-1].event.time_nano - KEPT_NS)

                try:
                    await self._store.write(append, durable=False)
                except SystemFailure as exc:
                    log.warning("%d events are missing in the history: %s", len(batch), exc)
        finally:
            self._saving = None


async def _wait(arrived: asyncio.Event, until: int) -> bool:
    """Wait for the next event; return False when ``until`` passed first."""
    if not until:
        await arrived.wait()
        return True
    left = (until - clock.now_ns()) / 1e9
    if left <= 0:
        return False
    try:
        async with asyncio.timeout(left):
            await arrived.wait()
    except TimeoutError:
        return False
    return True
