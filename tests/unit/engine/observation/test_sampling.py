"""The sampler: one reading serves everybody, and nothing is read while nobody looks."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from boxship.base.errors import DeadlineExceeded
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.model import ContainerSpec, ContainerStatus, State
from boxship.engine.observation.sampling import PAIR_GAP, StatsSampler
from boxship.linux.cgroup_base import Cgroup
from boxship.spec.docker.container import ContainerConfig, HostConfig


class CountingCgroup(Cgroup):
    """Gives one more microsecond of processor time at each reading; waits in a reading while ``held`` is clear."""

    __slots__ = ("gone", "held", "readings")

    version = 1

    def __init__(self) -> None:
        super().__init__("/boxship/x")
        self.readings = 0
        self.gone = False
        self.held = threading.Event()
        self.held.set()

    def stats(self, reader: object = None) -> dict[str, Any]:
        self.held.wait(20)
        if self.gone:
            raise OSError(19, "No such device")
        self.readings += 1
        return {"cpu": {"usage_ns": self.readings * 1000}, "pids": {"current": 1}}


class Bench:
    """A sampler over containers whose cgroups are counted; ticks follow one another quickly."""

    def __init__(self, count: int, *, deadline: float = 20.0) -> None:
        self.index = ContainerIndex()
        self.cgroups: dict[str, CountingCgroup] = {}
        for number in range(count):
            spec = ContainerSpec(
                id=f"{number:064d}",
                name=f"c{number}",
                created_ns=1,
                image_id="sha256:i",
                config=ContainerConfig(image="img"),
                host_config=HostConfig(network_mode="host"),
                path="sh",
                args=[],
            )
            self.index.add(Container(spec, ContainerStatus(state=State.RUNNING, pid=1)))
            self.cgroups[spec.id] = CountingCgroup()
        self.sampler = StatsSampler(
            self.index, lambda c: self.cgroups[c.id], memory_total=1 << 30, interval=0.02, deadline=deadline
        )

    def container(self, number: int = 0) -> Container:
        return self.index.find(f"c{number}")

    def cgroup(self, number: int = 0) -> CountingCgroup:
        return self.cgroups[self.container(number).id]

    def set_state(self, state: State, number: int = 0) -> None:
        container = self.container(number)
        container.status = msgspec.structs.replace(container.status, state=state)

    async def once(self, number: int = 0, *, one_shot: bool = False) -> dict[str, Any]:
        async with aclosing(self.sampler.one(self.container(number), stream=False, one_shot=one_shot)) as answers:
            return dict(json.loads(await anext(answers)))


def used(document: dict[str, Any], stats: str = "cpu_stats") -> int:
    return int(document[stats]["cpu_usage"]["total_usage"])


def run(count: int, test: Callable[[Bench], Coroutine[Any, Any, None]], **options: float) -> None:
    async def main() -> None:
        bench = Bench(count, **options)
        try:
            async with asyncio.timeout(30):
                await test(bench)
        finally:
            for cgroup in bench.cgroups.values():
                cgroup.held.set()
            await bench.sampler.close()

    asyncio.run(main())


@pytest.mark.row("MON-06")
def test_a_single_answer_has_an_earlier_sample() -> None:
    async def test(bench: Bench) -> None:
        document = await bench.once()
        assert used(document) > used(document, "precpu_stats") > 0
        assert document["preread"] < document["read"]

    run(1, test)


@pytest.mark.row("MON-06")
def test_a_one_shot_answer_reads_once_and_has_no_earlier_sample() -> None:
    async def test(bench: Bench) -> None:
        document = await bench.once(one_shot=True)
        assert (used(document), used(document, "precpu_stats")) == (1000, 0)
        assert bench.cgroup().readings == 1

    run(1, test)


def test_a_second_answer_takes_the_earlier_sample_from_the_first() -> None:
    async def test(bench: Bench) -> None:
        await bench.once()
        await asyncio.sleep(PAIR_GAP)
        before = bench.cgroup().readings
        await bench.once()
        assert bench.cgroup().readings == before + 1

    run(1, test)


def test_requests_that_come_together_are_read_together() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.gather(*(bench.once(number % 3, one_shot=True) for number in range(30)))
        assert [cgroup.readings for cgroup in bench.cgroups.values()] == [1, 1, 1]

    run(3, test)


def test_many_streams_of_one_container_cost_one_reading_a_tick() -> None:
    async def test(bench: Bench) -> None:
        async def follow() -> list[dict[str, Any]]:
            lines = []
            async with aclosing(bench.sampler.one(bench.container(), stream=True, one_shot=False)) as answers:
                async for line in answers:
                    lines.append(json.loads(line))
                    if len(lines) == 6:
                        return lines
            raise AssertionError

        found = await asyncio.gather(*(follow() for _ in range(20)))
        assert bench.cgroup().readings < 20
        for lines in found:
            for previous, line in itertools.pairwise(lines[1:]):
                assert line["precpu_stats"] == previous["cpu_stats"]

    run(1, test)


def test_nothing_is_read_once_nobody_looks() -> None:
    async def test(bench: Bench) -> None:
        async with aclosing(bench.sampler.one(bench.container(), stream=True, one_shot=False)) as answers:
            for _ in range(3):
                await anext(answers)
        readings = bench.cgroup().readings
        while any(task.get_name().startswith("stats-") for task in asyncio.all_tasks()):
            await asyncio.sleep(0.05)
        assert bench.cgroup().readings <= readings + 1

    run(1, test)


def test_a_container_that_does_not_run_gives_the_empty_document() -> None:
    async def test(bench: Bench) -> None:
        bench.set_state(State.EXITED)
        document = await bench.once()
        assert (document["name"], used(document), document["pids_stats"]) == ("/c0", 0, {})

    run(1, test)


def test_a_stream_goes_on_with_empty_documents_after_the_end_and_stops_at_the_removal() -> None:
    async def test(bench: Bench) -> None:
        async with aclosing(bench.sampler.one(bench.container(), stream=True, one_shot=False)) as answers:
            assert used(json.loads(await anext(answers))) > 0
            bench.cgroup().gone = True
            bench.set_state(State.EXITED)
            await anext(answers)
            assert used(json.loads(await anext(answers))) == 0
            bench.set_state(State.REMOVING)
            assert len([line async for line in answers]) <= 1

    run(1, test)


def test_a_container_that_ends_while_it_is_read_gives_the_empty_document() -> None:
    async def test(bench: Bench) -> None:
        bench.cgroup().gone = True
        assert used(await bench.once()) == 0

    run(1, test)


def test_all_containers_that_run_or_all_there_are_come_in_one_array() -> None:
    async def test(bench: Bench) -> None:
        bench.set_state(State.EXITED, 1)
        for stopped_too, names in ((False, ["/c0", "/c2"]), (True, ["/c0", "/c1", "/c2"])):
            async with aclosing(bench.sampler.all(stopped_too=stopped_too, stream=False)) as answers:
                documents = [json.loads(line) async for line in answers]
            assert [document["name"] for document in documents[0]] == names

    run(3, test)


def test_a_stream_of_all_containers_follows_those_that_start() -> None:
    async def test(bench: Bench) -> None:
        bench.set_state(State.EXITED, 1)
        async with aclosing(bench.sampler.all(stopped_too=False, stream=True)) as answers:
            assert len(json.loads(await anext(answers))) == 1
            bench.set_state(State.RUNNING, 1)
            await anext(answers)
            last = json.loads(await anext(answers))
        assert [used(document) > 0 for document in last] == [True, True]

    run(2, test)


def test_a_container_that_cannot_be_read_costs_its_own_answer_only() -> None:
    async def test(bench: Bench) -> None:
        bench.cgroup(1).held.clear()
        answers = await asyncio.gather(*(bench.once(number) for number in range(3)), return_exceptions=True)
        assert [isinstance(answer, DeadlineExceeded) for answer in answers] == [False, True, False]
        assert used(await bench.once(2)) > 0
        with pytest.raises(DeadlineExceeded, match="does not tell what it uses"):
            await bench.once(1)
        bench.cgroup(1).held.set()
        while True:
            try:
                assert used(await bench.once(1)) > 0
                break
            except DeadlineExceeded:
                await asyncio.sleep(0.01)

    run(3, test, deadline=0.2)


def test_no_file_stays_open_after_the_last_look() -> None:
    async def test(bench: Bench) -> None:
        before = set(os.listdir("/proc/self/fd"))
        await asyncio.gather(*(bench.once(number) for number in range(3)))
        while any(task.get_name().startswith("stats-") for task in asyncio.all_tasks()):
            await asyncio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= len(before)

    run(3, test)
