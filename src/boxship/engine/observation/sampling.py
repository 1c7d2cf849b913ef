"""One sampler for everybody who looks at the use of resources: each container is read once a second, however many look.

Words: a *track* is what the sampler remembers of one container, as long as somebody looks and a moment longer; a *sweep* is
one thread reading many containers; a *tick* is the sweep for those who follow. Nobody looks: no track, no file is open, and
nothing runs.

The share of the processors needs two samples. A single answer takes the earlier one from the track when it has one of the
last moments, else it reads twice, ``PAIR_GAP`` apart, where Docker waits for a second.

Sweeps follow one another, so the files of a meter belong to one thread at a time. A sweep that takes too long is given up:
the container it got stuck with has no figures until the kernel answers, the others are read by the next sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

import msgspec

from boxship.base.errors import DeadlineExceeded
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.model import State
from boxship.engine.observation import stats
from boxship.engine.observation.meters import Meter, ProcessorTime
from boxship.engine.rootfs.threads import alone
from boxship.linux.cgroup import Cgroup

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds, as Docker's clients expect
PAIR_GAP = (
    0.08  # seconds at least between the samples whose difference is shown; processor time moves in ticks of 4 to 10 ms
)
PAIR_AGE = 2.5  # seconds at most
READ_DEADLINE = 5.0  # seconds for a sweep

_FILES_PER_METER = 24  # at most; see linux.cgroup_v1
_FILES_SHARE = 4  # one part in so many of the process's descriptors may be meters'


class StatsSampler:
    """Reads cgroups for clients of the stats API. Answers are lines of JSON, encoded once for all who get them."""

    def __init__(
        self,
        index: ContainerIndex,
        cgroup: Callable[[Container], Cgroup],
        *,
        memory_total: int,
        interval: float = INTERVAL,
        deadline: float = READ_DEADLINE,
    ) -> None:
        self._index = index
        self._cgroup = cgroup
        self._memory_total = memory_total
        self._interval = interval
        self._deadline = deadline
        self._processors = ProcessorTime()
        self._tracks: dict[str, _Track] = {}
        self._viewers_of_all = 0
        self._tick = asyncio.Event()  # replaced at each tick
        self._waiting: list[tuple[Sequence[_Track], asyncio.Future[None]]] = []
        self._reader: asyncio.Task[None] | None = None
        self._ticker: asyncio.Task[None] | None = None

    async def one(self, container: Container, *, stream: bool, one_shot: bool) -> AsyncIterator[bytes]:
        """Yield the documents of one container; ``one_shot`` leaves out the earlier sample.

        A container that does not run gives the empty document; a stream ends with the container's removal.
        Raises DeadlineExceeded when the kernel does not answer.
        """
        if not stream:
            yield (await self._lines([container], one_shot=one_shot))[0]
            return
        with self._viewing(container):
            yield (await self._lines([container], one_shot=False))[0]
            while container.status.state is not State.REMOVING:
                await self._next_tick()
                yield self._of_tick(container)

    async def all(self, *, stopped_too: bool, stream: bool) -> AsyncIterator[bytes]:
        """Yield arrays with the documents of all containers that run, or of all there are."""
        self._viewers_of_all += stream
        try:
            yield _array(await self._lines(self._chosen(stopped_too), one_shot=False))
            while stream:
                await self._next_tick()
                yield _array(self._of_tick(container) for container in self._chosen(stopped_too))
        finally:
            self._viewers_of_all -= stream

    async def close(self) -> None:
        """Stop, and close all files."""
        tasks = [task for task in (self._ticker, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for track in self._tracks.values():
            track.close()
        self._tracks.clear()

    # -- answers -----------------------------------------------------------------------------------------------------

    async def _lines(self, containers: Sequence[Container], *, one_shot: bool) -> list[bytes]:
        """Return the documents of these containers as they are now."""
        tracks = [self._track(container) for container in containers if container.status.alive]
        await self._read(tracks)
        if not one_shot:
            lonely = [track for track in tracks if track.lonely]
            while lonely:
                await asyncio.sleep(PAIR_GAP)
                await self._read(lonely)
                lonely = [track for track in lonely if track.lonely]
        if len(containers) == 1 and tracks and tracks[0].stuck:
            raise DeadlineExceeded(f"container {containers[0].id}: the kernel does not tell what it uses")
        now = {track.container.id: track for track in tracks}
        lines = []
        for container in containers:
            track = now.get(container.id)
            previous = track.previous if track is not None and not one_shot else None
            lines.append(self._line(container, track.newest if track is not None else None, previous))
        return lines

    def _line(self, container: Container, sample: stats.Sample | None, previous: stats.Sample | None) -> bytes:
        name = f"/{container.spec.name}"
        if sample is None or not container.status.alive:
            return msgspec.json.encode(stats.stopped(id=container.id, name=name))
        document = stats.document(sample, previous, id=container.id, name=name, memory_total=self._memory_total)
        return msgspec.json.encode(document)

    def _of_tick(self, container: Container) -> bytes:
        """Return the document of the last tick."""
        track = self._tracks.get(container.id)
        return (track.line if track is not None else b"") or self._stopped(container)

    def _stopped(self, container: Container) -> bytes:
        return self._line(container, None, None)

    def _chosen(self, stopped_too: bool) -> list[Container]:
        found = (container for container in self._index if container.status.state is not State.REMOVING)
        return [container for container in found if stopped_too or container.status.alive]

    # -- tracks and ticks --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _viewing(self, container: Container) -> Iterator[None]:
        track = self._track(container)
        track.viewers += 1
        try:
            yield
        finally:
            track.viewers -= 1

    def _track(self, container: Container) -> _Track:
        track = self._tracks.get(container.id)
        if track is None:
            track = self._tracks[container.id] = _Track(container)
        track.used = asyncio.get_running_loop().time()
        self._keep_ticking()
        return track

    def _keep_ticking(self) -> None:
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._run_ticks(), name="stats-ticks")

    async def _next_tick(self) -> None:
        self._keep_ticking()
        await self._tick.wait()

    async def _run_ticks(self) -> None:
        """Read every second what is looked at, until nobody looks."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._tracks or self._viewers_of_all:
            due = max(due + self._interval, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                await self._read_for_tick()
            except Exception:
                log.exception("no figures of containers at this turn")
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()

    async def _read_for_tick(self) -> None:
        if self._viewers_of_all:
            for container in self._chosen(stopped_too=False):
                self._track(container)
        viewed = [track for track in self._tracks.values() if track.viewers or self._viewers_of_all]
        await self._read(viewed)
        for track in viewed:
            # Single answers in between do not shorten the time that a stream shows.
            track.line = self._line(track.container, track.newest, track.of_tick or track.previous)
            track.of_tick = track.newest

    # -- sweeps ------------------------------------------------------------------------------------------------------

    async def _read(self, tracks: Sequence[_Track]) -> None:
        """Add a sample of now to these tracks; those that cannot be read lose theirs."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tracks, done))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._run_sweeps(), name="stats-sweeps")
        await done

    async def _run_sweeps(self) -> None:
        """Serve who waits, all that came during one sweep together in the next."""
        while self._waiting:
            await asyncio.sleep(0)  # requests that arrived together are read together
            calls, self._waiting = self._waiting, []
            wanted = {track.container.id: track for tracks, _ in calls for track in tracks}
            try:
                self._forget_unused(wanted)
                await self._sweep(list(wanted.values()))
            except Exception as exc:
                for _, done in calls:
                    if not done.done():
                        done.set_exception(exc)
                continue
            for _, done in calls:
                if not done.done():
                    done.set_result(None)

    async def _sweep(self, tracks: list[_Track]) -> None:
        left = [track for track in tracks if self._prepare(track)]
        while left:
            sweep = _Sweep(left, self._processors)
            try:
                async with asyncio.timeout(self._deadline):
                    await alone(sweep.run)
            except TimeoutError:
                stuck = sweep.give_up()
                if stuck is not None:
                    stuck.stuck_in = sweep
                    stuck.forget()
            now = asyncio.get_running_loop().time()
            for track, sample in sweep.samples:
                track.add(sample, now)
            seen = {track.container.id for track, _ in sweep.samples}
            left = [track for track in left if track.container.id not in seen and not track.stuck]

    def _prepare(self, track: _Track) -> bool:
        """Give the track a meter for the present run; False when there is nothing to read."""
        status = track.container.status
        if track.stuck:
            return False
        if not status.alive:
            track.close()
            return False
        run = (status.pid, status.started_ns)
        if track.meter is None or track.run != run:
            track.close()
            own_network = track.container.spec.host_config.network_mode != "host"
            track.run = run
            track.meter = Meter(
                self._cgroup(track.container),
                status.pid if own_network else None,
                self._processors,
                keep=self._files_left(),
            )
        return True

    def _files_left(self) -> bool:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (len(self._tracks) + 1) * _FILES_PER_METER <= soft // _FILES_SHARE

    def _forget_unused(self, wanted: dict[str, _Track]) -> None:
        """Drop tracks that nobody looks at; called between sweeps only."""
        oldest = asyncio.get_running_loop().time() - PAIR_AGE
        for id, track in list(self._tracks.items()):
            if track.viewers or id in wanted or track.stuck:
                continue
            if track.used < oldest or not track.container.status.alive:
                track.close()
                del self._tracks[id]


class _Track:
    """What is remembered of one container: its meter, its last samples, and its document of the last tick."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.viewers = 0
        self.used = 0.0  # loop time of the last request
        self.run = (0, 0)  # process and start of what the meter reads
        self.meter: Meter | None = None
        self.line = b""  # empty: nothing to be read at the last tick
        self.newest: stats.Sample | None = None
        self.of_tick: stats.Sample | None = None  # the newest one at the last tick
        self.stuck_in: _Sweep | None = None
        self._newest_at = 0.0
        self._earlier: deque[tuple[float, stats.Sample]] = deque(maxlen=2)  # PAIR_GAP apart; loop time of each

    @property
    def stuck(self) -> bool:
        """Whether a sweep that was given up still waits for this container."""
        return self.stuck_in is not None and not self.stuck_in.over

    @property
    def lonely(self) -> bool:
        """Whether there is a sample, but no earlier one to compare it with."""
        return self.newest is not None and self.previous is None

    @property
    def previous(self) -> stats.Sample | None:
        """The last sample that is neither too near to the newest one nor too old."""
        for at, sample in reversed(self._earlier):
            if PAIR_GAP <= self._newest_at - at <= PAIR_AGE:
                return sample
        return None

    def add(self, sample: stats.Sample | None, at: float) -> None:
        """Take a new sample; None: the run has ended."""
        if sample is None:
            self.forget()
            return
        self.newest, self._newest_at = sample, at
        if not self._earlier or at - self._earlier[-1][0] >= PAIR_GAP:
            self._earlier.append((at, sample))

    def forget(self) -> None:
        """Drop the samples and leave the meter to whoever uses it."""
        self.meter = None
        self.newest = self.of_tick = None
        self.line = b""
        self._earlier.clear()

    def close(self) -> None:
        """Close the meter, which no sweep uses, and drop the samples."""
        if self.meter is not None:
            self.meter.close()
        self.forget()


class _Sweep:
    """Reads the meters of some tracks one after the other, in a thread of its own."""

    def __init__(self, tracks: Iterable[_Track], processors: ProcessorTime) -> None:
        self._work = [(track, track.meter) for track in tracks if track.meter is not None]
        self._processors = processors
        self._lock = threading.Lock()
        self._current: _Track | None = None
        self._given_up = threading.Event()
        self.samples: list[tuple[_Track, stats.Sample | None]] = []  # None: the run has ended
        self.over = False

    def run(self) -> None:
        """Read until all are read or the sweep was given up."""
        try:
            self._processors.refresh()
            for track, meter in self._work:
                with self._lock:
                    if self._given_up.is_set():
                        return
                    self._current = track
                try:
                    sample = meter.read()
                except OSError:
                    meter.close()
                    sample = None
                with self._lock:
                    self._current = None
                    if self._given_up.is_set():
                        meter.close()  # the track has left it to us
                        return
                    self.samples.append((track, sample))
        finally:
            self.over = True

    def give_up(self) -> _Track | None:
        """Let the thread end after what it is reading, and return the track of that."""
        with self._lock:
            self._given_up.set()
            return self._current


def _array(lines: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(lines) + b"]"
