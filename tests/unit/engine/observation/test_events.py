"""The event bus: order, history, slow readers, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.engine.observation import events as events_module
from boxship.engine.observation.events import EventBus
from boxship.spec.docker.system import EventMessage
from boxship.store import Store


class Clock:
    """Each look is a second later."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> int:
        self.seconds += 1
        return self.seconds * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "db"))
    yield store
    store.close()


def emit(bus: EventBus, *names: str, kept: bool = True) -> None:
    for name in names:
        bus.emit("container", "create", name, {"name": name, "image": "img"}, kept=kept)


async def history(bus: EventBus, since: int = 0, until: int = 10**15) -> Sequence[str]:
    """Return what is kept: the end of time that counts has passed."""
    return [event.actor.id async for event in bus.stream(since=since, until=until, filters={})]


async def take(stream: AsyncIterator[EventMessage], count: int) -> Sequence[str]:
    return [(await anext(stream)).actor.id for _ in range(count)]


def run_bus(store: Store, test: object) -> None:
    async def run() -> None:
        bus = EventBus(store, now_ns=Clock())
        try:
            await test(bus)  # type: ignore[operator]
        finally:
            await bus.close()

    asyncio.run(run())


def test_a_listener_gets_what_happens_while_it_listens(store: Store) -> None:
    async def test(bus: EventBus) -> None:
        emit(bus, "before")
        stream = bus.stream(since=0, until=0, filters={})
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        emit(bus, "a", "b")
        assert (await first).actor.id == "a"
        assert await take(stream, 1) == ["b"]
        assert bus.listeners == 1
        await stream.aclose()  # type: ignore[attr-defined]
        assert bus.listeners == 0

    run_bus(store, test)


def test_the_history_goes_over_into_what_happens_now_without_a_gap(store: Store) -> None:
    async def test(bus: EventBus) -> None:
        emit(bus, "a", "b", "c")
        stream = bus.stream(since=2 * 10**9, until=0, filters={})
        assert await take(stream, 1) == ["b"]
        emit(bus, "d")
        assert await take(stream, 2) == ["c", "d"]

    run_bus(store, test)


def test_since_and_until_bound_the_history_and_until_alone_asks_for_all_of_it(store: Store) -> None:
    async def test(bus: EventBus) -> None:
        emit(bus, "a", "b", "c", "d")
        assert await history(bus, 2 * 10**9, 3 * 10**9) == ["b", "c"]
        assert await history(bus, 0, 3 * 10**9) == ["a", "b", "c"]
        assert await history(bus, 1) == ["a", "b", "c", "d"]

    run_bus(store, test)


def test_a_reader_slower_than_the_ring_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "RING_SIZE", 8)
    monkeypatch.setattr(events_module, "PAGE", 5)
    names = [f"e{n}" for n in range(100)]

    async def test(bus: EventBus) -> None:
        stream = bus.stream(since=0, until=0, filters={})
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        emit(bus, *names[:3])
        assert (await first).actor.id == "e0"
        emit(bus, *names[3:50])
        assert await take(stream, 20) == names[1:21]
        emit(bus, *names[50:])
        assert await take(stream, 79) == names[21:]

    run_bus(store, test)


def test_a_slow_reader_gets_only_what_its_filters_let_pass(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "RING_SIZE", 4)
    monkeypatch.setattr(events_module, "PAGE", 3)

    async def test(bus: EventBus) -> None:
        for n in range(30):
            emit(bus, f"{'even' if n % 2 == 0 else 'odd'}{n}")
        stream = bus.stream(since=1, until=0, filters={"container": ["even"]})
        assert await take(stream, 15) == [f"even{n}" for n in range(0, 30, 2)]

    run_bus(store, test)


def test_what_is_not_kept_is_shown_as_long_as_the_ring_has_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "RING_SIZE", 4)

    async def test(bus: EventBus) -> None:
        stream = bus.stream(since=0, until=0, filters={})
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        emit(bus, "a")
        emit(bus, "probe", kept=False)
        assert (await first).actor.id == "a"
        assert await take(stream, 1) == ["probe"]
        assert await history(bus) == ["a", "probe"]
        emit(bus, *(f"probe{n}" for n in range(10)), kept=False)
        emit(bus, "b")
        assert await history(bus) == ["a", "probe7", "probe8", "probe9", "b"]

    run_bus(store, test)
    with store.read() as tx:
        assert [number for number, _ in tx.events()] == [1, 13]


def test_the_history_and_its_numbers_go_on_after_a_restart(store: Store) -> None:
    async def run(*names: str) -> None:
        bus = await EventBus.open(store)
        emit(bus, *names)
        await bus.close()

    async def look() -> Sequence[str]:
        return await take((await EventBus.open(store)).stream(since=1, until=0, filters={}), 3)

    asyncio.run(run("a", "b"))
    asyncio.run(run("c"))
    assert asyncio.run(look()) == ["a", "b", "c"]
    with store.read() as tx:
        assert [number for number, _ in tx.events()] == [1, 2, 3]


def test_old_events_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "KEPT_NS", 2 * 10**9)

    async def test(bus: EventBus) -> None:
        emit(bus, "a", "b", "c", "d")
        await bus.close()
        with store.read() as tx:
            assert [number for number, _ in tx.events()] == [2, 3, 4]

    run_bus(store, test)


def test_events_go_on_when_the_store_does_not_write(store: Store) -> None:
    class Full:
        read = store.read

        async def write(self, change: object, *, durable: bool = True) -> None:
            raise SystemFailure("database or disk is full")

    async def test() -> None:
        bus = EventBus(Full())  # type: ignore[arg-type]
        stream = bus.stream(since=0, until=0, filters={})
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        emit(bus, "a")
        assert (await first).actor.id == "a"
        await bus.close()

    asyncio.run(test())


def test_a_wrong_filter_is_refused_before_the_stream_begins(store: Store) -> None:
    async def test(bus: EventBus) -> None:
        with pytest.raises(InvalidInput):
            bus.stream(since=0, until=0, filters={"bogus": ["1"]})

    run_bus(store, test)


@pytest.mark.parametrize(
    ("type", "attributes", "legacy"),
    [
        ("container", {"image": "img"}, ("create", "id", "img")),
        ("image", {"name": "img"}, ("create", "id", None)),
        ("volume", {"driver": "local"}, (None, None, None)),
    ],
)
def test_the_old_fields_are_those_of_containers_and_images(
    store: Store, type: str, attributes: Mapping[str, str], legacy: tuple[str | None, ...]
) -> None:
    async def test(bus: EventBus) -> None:
        bus.emit(type, "create", "id", attributes)
        [event] = [event async for event in bus.stream(since=0, until=10**15, filters={})]
        assert tuple(value or None for value in (event.status, event.id, event.from_)) == legacy

    run_bus(store, test)
