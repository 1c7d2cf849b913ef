"""Solves a graph: finds each needed result in the cache or has it made, independent ones at the same time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from boxship.base.whole import whole
from boxship.build.caching import keys
from boxship.build.caching.cache import Cache, Record
from boxship.build.caching.recording import Recorder
from boxship.build.files import Tree
from boxship.build.graph import Context, Download, Git, Graph, Image, Scratch, Vertex
from boxship.build.progress import Ended, Failed
from boxship.build.results import BuildFailed, Result
from boxship.build.session import Session
from boxship.build.steps.executor import Executor, Work

Value = Result | Tree


class Solver:
    """Carries out one graph. Cancelling ``solve`` ends what runs and leaves nothing but finished results."""

    def __init__(self, graph: Graph, session: Session, cache: Cache, executor: Executor) -> None:
        self._graph = graph
        self._session = session
        self._cache = cache
        self._executor = executor
        self._recorder = Recorder(session.addition, cache)
        self._room = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._done: dict[str, asyncio.Future[Value]] = {}
        self.results: dict[str, Result] = {}
        self.records: dict[str, Record] = {}  # of these results, by id
        self.used: list[str] = []  # ids of the records that served

    async def solve(self, targets: Sequence[str]) -> None:
        """Give every vertex that ``targets`` need its result (``results``). Raises BuildFailed, BoxshipError."""
        needed = self._graph.needed(targets)
        loop = asyncio.get_running_loop()
        self._done = {each.id: loop.create_future() for each in needed}
        self._recorder.start()
        try:
            async with asyncio.TaskGroup() as group:
                for each in needed:
                    group.create_task(self._vertex(each))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            for future in self._done.values():
                future.cancel()
            await whole(self._recorder.stop())

    @property
    def found(self) -> list[tuple[keys.Key, Record]]:
        """What the cache has still to keep."""
        return self._recorder.waiting

    async def wait(self, vertex: str) -> None:
        """Return when a vertex has its result; raises CancelledError when it will have none."""
        await asyncio.shield(self._done[vertex])

    async def _vertex(self, vertex: Vertex) -> None:
        inputs = [await asyncio.shield(self._done[id]) for id in vertex.inputs]
        try:
            value = await self._value(vertex, inputs)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            code = exc.code if isinstance(exc, BuildFailed) else 0
            self._session.report(Failed(time_ns=time.time_ns(), vertex=vertex.id, message=str(exc), code=code))
            raise
        if isinstance(value, Result):
            self.results[vertex.id] = value
        self._done[vertex.id].set_result(value)

    async def _value(self, vertex: Vertex, inputs: Sequence[Value]) -> Value:
        match vertex.operation:
            case Image() as image:
                result = await self._executor.image(image)
                self._end(vertex, result)
                return result
            case Scratch():
                return Result(created_ns=self._session.now_ns())
            case Context() as context:
                return self._executor.context(context)
            case Download() | Git() as source:
                return await self._executor.source(source, vertex)
        async with self._room:
            return await self._layer(vertex, inputs)

    async def _layer(self, vertex: Vertex, inputs: Sequence[Value]) -> Result:
        """Find or make the result of an operation that puts a layer on its first input."""
        base = inputs[0]
        assert isinstance(base, Result)
        work = await self._executor.prepare(vertex, base, inputs[1:])
        record = None if vertex.uncached else self._cache.find(work.key)
        result = None if record is None else await self._executor.reuse(record, base)
        if record is not None and result is not None:
            self.used.append(work.key.digest)
            self.records[work.key.digest] = record
            self._end(vertex, result)
            return result
        elsewhere = None if vertex.uncached else await self._elsewhere(vertex, base, work)
        if elsewhere is not None:
            result, place = elsewhere
            self._learn(work.key, vertex, result)
            self._end(vertex, result, place=place)
            return result
        reason = "asked for" if vertex.uncached else await asyncio.to_thread(self._cache.explain, work.key)
        result = await work.carry_out()
        self._learn(work.key, vertex, result)
        self._end(vertex, result, reason)
        return result

    async def _elsewhere(self, vertex: Vertex, base: Result, work: Work) -> tuple[Result, str] | None:
        """Return the result of an operation that another engine had, and where it came from; None if none is known."""
        imports = self._session.imports
        found = await imports.result(work.key, base, work.summary, vertex.id) if imports is not None else None
        return found or await self._executor.adopt(vertex, base, work.summary)

    def _learn(self, key: keys.Key, vertex: Vertex, result: Result) -> None:
        record = _record(key, vertex, result)
        self.records[key.digest] = record
        self._recorder.add(key, record)

    def _end(self, vertex: Vertex, result: Result, reason: str = "", place: str = "") -> None:
        self._session.report(
            Ended(
                time_ns=time.time_ns(),
                vertex=vertex.id,
                cached=result.cached,
                reason=reason,
                place=place,
                bytes_written=0 if result.cached else result.size,
            )
        )


def _record(key: keys.Key, vertex: Vertex, result: Result) -> Record:
    return Record(
        subject=key.subject,
        kind=key.kind,
        platform=key.platform,
        inputs=key.inputs,
        layers=result.layers,
        added=result.added,
        created_ns=result.created_ns,
        size=result.size,
        summary=result.summary,
        description=vertex.name,
    )


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that the others follow from."""
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            return _first(failure)
        return failure
    return failures
