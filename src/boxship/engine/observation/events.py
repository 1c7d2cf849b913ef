"""The event bus: what happened, to live listeners and kept in the store for ``--since``.

Events are numbered as they are emitted. A listener keeps its place in a ring of recent events; one that falls behind the
ring catches up from the store, so a slow reader loses nothing and costs no memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import msgspec

from boxship.base import clock
from boxship.base.errors import InvalidInput
from boxship.spec.docker.system import EventActor, EventMessage
from boxship.store import Store

RING_SIZE = 2048
_ACTOR_FILTERS = frozenset(
    ["config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"]
)
_FILTERS = _ACTOR_FILTERS | {"event", "label", "scope", "type"}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EventMessage).decode


class EventBus:
    """Emits, stores and serves events; all methods belong to one loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ring: deque[EventMessage] = deque(maxlen=RING_SIZE)
        self._emitted = 0  # by this process; the ring holds the newest of them
        self._arrived = asyncio.Event()
        self._unsaved: list[EventMessage] = []
        self._saving: asyncio.Task[None] | None = None
        self.listeners = 0

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """Publish one event now; it reaches the store a moment later, in order."""
        now = max(clock.now_ns(), self._ring[-1].time_nano + 1 if self._ring else 0)
        legacy: dict[str, str] = {}
        if type in ("container", "image"):
            legacy = {"status": action, "id": id}
            if type == "container" and "image" in attributes:
                legacy["from_"] = attributes["image"]
        event = EventMessage(
            type=type,
            action=action,
            actor=EventActor(id=id, attributes=dict(attributes)),
            time=now // 1_000_000_000,
            time_nano=now,
            **legacy,
        )
        self._ring.append(event)
        self._emitted += 1
        self._arrived.set()
        self._arrived = asyncio.Event()
        self._unsaved.append(event)
        if self._saving is None:
            self._saving = asyncio.get_running_loop().create_task(self._save())

    def stream(self, *, since: int, until: int, filters: Mapping[str, Sequence[str]]) -> AsyncIterator[EventMessage]:
        """Return stored events from ``since``, then live ones up to ``until`` (ns since 1970, 0 "no bound").

        Raises InvalidInput at once for a filter that does not exist.
        """
        check_filters(filters)
        return self._stream(since=since, until=until, filters=filters)

    async def _stream(
        self, *, since: int, until: int, filters: Mapping[str, Sequence[str]]
    ) -> AsyncIterator[EventMessage]:
        self.listeners += 1
        try:
            position, seen = self._emitted, since - 1
            if since:
                for event in await self._stored(since, until):
                    seen = event.time_nano
                    if matches(event, filters):
                        yield event
            while True:
                arrived = self._arrived
                while position < self._emitted:
                    oldest = self._emitted - len(self._ring)
                    if position < oldest:
                        missed = await self._stored(seen + 1, until)
                        oldest = self._emitted - len(self._ring)
                        position = self._emitted
                    else:
                        missed = list(self._from(position - oldest))
                        position = self._emitted
                    for event in missed:
                        if until and event.time_nano > until:
                            return
                        if event.time_nano <= seen:
                            continue
                        seen = event.time_nano
                        if matches(event, filters):
                            yield event
                if not await _wait(arrived, until):
                    return
        finally:
            self.listeners -= 1

    async def close(self) -> None:
        """Write what is not stored yet."""
        if self._saving is not None:
            await self._saving

    def _from(self, index: int) -> Iterator[EventMessage]:
        return (self._ring[i] for i in range(index, len(self._ring)))

    async def _stored(self, since: int, until: int) -> list[EventMessage]:
        if self._saving is not None:
            await asyncio.shield(self._saving)

        def read() -> list[EventMessage]:
            with self._store.read() as tx:
                return [_decode(document) for document in tx.events(since_ns=since, until_ns=until)]

        return await asyncio.to_thread(read)

    async def _save(self) -> None:
        try:
            while self._unsaved:
                batch, self._unsaved = self._unsaved, []

                def append(tx: object, batch: list[EventMessage] = batch) -> None:
                    for event in batch:
                        tx.append_event(event.time_nano, _encode(event))  # type: ignore[attr-defined]

                await self._store.write(append, durable=False)
        finally:
            self._saving = None


def check_filters(filters: Mapping[str, Sequence[str]]) -> None:
    """Raise InvalidInput for a filter key that events do not have."""
    for key in filters:
        if key not in _FILTERS:
            raise InvalidInput(f"invalid filter '{key}'")


def matches(event: EventMessage, filters: Mapping[str, Sequence[str]]) -> bool:
    """Return whether the event passes all filters; several values of one key are alternatives."""
    return all(_matches(event, key, values) for key, values in filters.items() if values)


def _matches(event: EventMessage, key: str, values: Sequence[str]) -> bool:
    attributes = event.actor.attributes
    if key == "type":
        return event.type in values
    if key == "event":
        # "exec_start: sh" is found by exec_start, "health_status: healthy" by health_status.
        return event.action in values or event.action.partition(":")[0] in values
    if key == "scope":
        return event.scope in values
    if key == "label":
        return all(
            attributes.get(name) == value if equals else name in attributes
            for name, equals, value in (v.partition("=") for v in values)
        )
    if event.type != key:
        # An image filter also finds the events of containers made from it.
        return key == "image" and event.type == "container" and attributes.get("image") in values
    name = attributes.get("name", "")
    if key == "image":
        return any(value in (event.actor.id, name) or event.actor.id.startswith(value) for value in values)
    # As in Docker, the beginning of a name will do.
    return any(event.actor.id.startswith(value) or name.startswith(value) for value in values)


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
