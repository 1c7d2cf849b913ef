"""Debts: written down before a plugin is asked, given back in reverse, kept while it can't be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.plugins import Call, Ledger, PluginRefused, Plugins, PluginUnreachable
from boxship.store import Store
from harness.plugins import Plugin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "boxship.db"))
    yield store
    store.close()


@pytest.fixture
def sample(place: Path) -> Iterator[Plugin]:
    plugin = Plugin(place, "sample")
    plugin.interface = "NetworkDriver"
    for method in ("CreateEndpoint", "DeleteEndpoint", "Join", "Leave"):
        plugin.raw[f"NetworkDriver.{method}"] = b"{}"
    with plugin:
        yield plugin


def call(method: str) -> Call:
    return Call("sample", f"NetworkDriver.{method}", {"EndpointID": "e"})


async def join(ledger: Ledger) -> None:
    for do, undo in (("CreateEndpoint", "DeleteEndpoint"), ("Join", "Leave")):
        await ledger.do("endpoint/e", f"NetworkDriver.{do}", {"EndpointID": "e"}, dict[str, Any], undo=call(undo))


def methods(plugin: Plugin) -> list[str]:
    return [name.partition(".")[2] for name in plugin.names()]


def test_steps_are_given_back_in_reverse(store: Store, plugins: Plugins, sample: Plugin) -> None:
    async def scenario() -> None:
        ledger = Ledger(store, plugins)
        await join(ledger)
        assert ledger.keys() == ["endpoint/e"]
        await ledger.settle("endpoint/e", "endpoint/unknown")
        assert ledger.keys() == []

    asyncio.run(scenario())
    assert methods(sample) == ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]
    assert Ledger(store, plugins).keys() == []


def test_what_was_refused_is_not_owed_and_what_nobody_knows_is(store: Store, plugins: Plugins, sample: Plugin) -> None:
    async def scenario() -> None:
        ledger = Ledger(store, plugins)
        del sample.raw["NetworkDriver.Join"]
        sample.refused["NetworkDriver.Join"] = "no"
        with pytest.raises(PluginRefused, match="remote: no"):
            await join(ledger)
        await ledger.settle("endpoint/e")
        assert methods(sample) == ["CreateEndpoint", "Join", "DeleteEndpoint"]
        sample.raw["NetworkDriver.Join"] = b"nonsense"
        with pytest.raises(PluginUnreachable):
            await join(ledger)
        await ledger.settle("endpoint/e")
        assert methods(sample)[3:] == ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]

    asyncio.run(scenario())


def test_a_refusal_to_take_back_ends_a_debt_all_the_same(store: Store, plugins: Plugins, sample: Plugin) -> None:
    async def scenario() -> None:
        ledger = Ledger(store, plugins)
        await join(ledger)
        sample.raw["NetworkDriver.Leave"] = b'{"Err": "what endpoint?"}'
        await ledger.settle("endpoint/e")
        assert ledger.keys() == []

    asyncio.run(scenario())
    assert methods(sample)[2:] == ["Leave", "DeleteEndpoint"]


@pytest.mark.row("NET-30")
def test_what_a_plugin_cannot_take_back_now_waits_for_the_next_start(
    store: Store, plugins: Plugins, sample: Plugin
) -> None:
    async def first() -> None:
        ledger = Ledger(store, plugins)
        await join(ledger)
        await ledger.owe("endpoint/kept", call("DeleteEndpoint"))
        await ledger.owe("volume/v/c", call("Leave"))
        sample.close()
        await ledger.settle("endpoint/e")
        await ledger.close()

    async def second() -> None:
        ledger = Ledger(store, plugins)
        assert sorted(ledger.keys()) == ["endpoint/e", "endpoint/kept", "volume/v/c"]
        ledger.settle_others({"endpoint/kept"}, {"endpoint", "network"})
        await ledger.settle("endpoint/e")
        assert sorted(ledger.keys()) == ["endpoint/kept", "volume/v/c"]
        await ledger.close()

    asyncio.run(first())
    sample.calls.clear()
    sample.listen()
    asyncio.run(second())
    assert methods(sample) == ["Leave", "DeleteEndpoint"]


def test_what_is_owed_anew_does_not_go_with_what_is_being_settled(
    store: Store, plugins: Plugins, sample: Plugin
) -> None:
    async def scenario() -> None:
        ledger = Ledger(store, plugins)
        await join(ledger)
        ledger.settle_later("endpoint/e")
        await join(ledger)
        assert methods(sample)[2:] == ["Leave", "DeleteEndpoint", "CreateEndpoint", "Join"]
        assert ledger.keys() == ["endpoint/e"]
        await ledger.repay("endpoint/e", call("Leave"))
        await ledger.repay("endpoint/e", call("Leave"))
        await ledger.settle("endpoint/e")
        assert methods(sample)[6:] == ["Leave", "DeleteEndpoint"]

    asyncio.run(scenario())
