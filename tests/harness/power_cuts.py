"""Images, a container and a volume come and go on a recorded disk; then the power is cut at its flushes, and an engine starts
on what is left (F2).

The stages are done one after another. A cut at a flush of a stage may show that stage done or not done, all before it are
done, and those after it are not; at a stage's last flush it is done, since the engine has answered with nothing more on the
disk, and what has arrived of later writes is the next stage's. Whatever is there is whole, and what is not can be had again.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness import hostile
from harness.engine import Engine
from harness.netns import NetworkNamespace
from harness.registry_server import RegistryServer
from harness.write_log import RecordedDisk, mounted

SIZE = 96 << 20
_FILES = 40
_CHANGES = 300
_LOG = 4_100_000  # bytes, 1000 pages: SQLite's wal_autocheckpoint


CONTAINER, VOLUME = "container boxed", "volume data"


class Stage(NamedTuple):
    """One call of the engine and what is there after it: images, and the two above."""

    name: str
    words: tuple[str, ...]
    here: frozenset[str]


class Cut(NamedTuple):
    """A moment: after a flush of a stage; with a ``seed`` some of the writes that follow it have arrived."""

    flush: int
    stage: str
    last: bool
    seed: int | None


class _Engine(Engine):
    """An engine whose data root has a path of its own, the same for one engine after the other."""

    def __init__(self, data_root: Path, namespace: NetworkNamespace) -> None:
        super().__init__(namespace=namespace)
        self._data_root = data_root

    @property
    def data_root(self) -> Path:
        return self._data_root


class PowerCuts:
    """A recording; :meth:`check` starts an engine on the disk as a cut left it. Close it with :meth:`close`.

    ``aged``: the engine has changed its database many times before.
    """

    def __init__(self, *, aged: bool = False) -> None:
        self._aged = aged
        self._undo = contextlib.ExitStack()
        self._place = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="boxship-cuts-")))
        self._namespace = NetworkNamespace()
        self._undo.callback(self._namespace.close)
        try:
            self._registry = RegistryServer(prefix=self._namespace.prefix())
            self._undo.callback(self._registry.close)
            self._registry.start()
            self._archives = _archives(self._place)
            self.stages = self._stages()
            self._disk = RecordedDisk(self._place, SIZE)
            try:
                self._record()
            finally:
                self._disk.finish()
        except BaseException:
            self._undo.close()
            raise

    def close(self) -> None:
        self._undo.close()

    def cuts(self, *, seeds: Sequence[int | None] = (None,)) -> Iterator[Cut]:
        """Return all moments to cut at, in order."""
        phases = self._disk.phases
        for number, phase in enumerate(phases):
            if any(phase == stage.name for stage in self.stages):
                last = phase not in phases[number + 1 :]
                yield from (Cut(number, phase, last, seed) for seed in seeds)

    def check(self, cut: Cut) -> frozenset[str]:
        """Start an engine after a cut and look at everything; return what it had."""
        # Each on a file of its own: a mount that lives on in somebody's namespace would make mount(8) take the old device.
        file, place = self._place / f"cut-{cut.flush}-{cut.seed}", self._disk.disk
        file.write_bytes(self._disk.cut(cut.flush, seed=cut.seed))
        with mounted(file, place), self._engine(place) as engine:
            file.unlink()
            self._whole(engine)
            here = self._here(engine)
            before, after = self._bounds(cut)
            assert before & after <= here <= before | after, f"{sorted(here)}"
            self._use(engine, here)
            engine.docker("rm", "-f", "boxed")
            for stage in self.stages:
                if stage.here and not stage.name.startswith("remove"):
                    engine.docker(*stage.words)
            self._use(engine, self._here(engine))
            assert self._here(engine) == frozenset(("one", "two", "three", CONTAINER, VOLUME))
            self._whole(engine)
        return here

    def _bounds(self, cut: Cut) -> tuple[frozenset[str], frozenset[str]]:
        """Return what was there before and after the stage that may be half done."""
        states = [frozenset[str](), *(stage.here for stage in self.stages), frozenset[str]()]
        done = next(at for at, stage in enumerate(self.stages) if stage.name == cut.stage)
        if not cut.last:
            return states[done], states[done + 1]
        if cut.seed is None:
            return states[done + 1], states[done + 1]
        return states[done + 1], states[done + 2]  # what was written later is the next stage's

    @contextlib.contextmanager
    def _engine(self, place: Path) -> Iterator[Engine]:
        engine = _Engine(place, self._namespace)
        try:
            engine.start()
            yield engine
        finally:
            engine.close()

    def _stages(self) -> list[Stage]:
        def here(*names: str) -> frozenset[str]:
            return frozenset(names)

        return [
            Stage("pull one", ("pull", "-q", self._name("one")), here("one")),
            Stage("load two", ("load", "-q", "-i", str(self._archives["two"])), here("one", "two")),
            Stage("create", ("create", "--name", "boxed", "two", "echo", "whole"), here("one", "two", CONTAINER)),
            Stage("remove container", ("rm", "boxed"), here("one", "two")),
            Stage("create volume", ("volume", "create", "data"), here("one", "two", VOLUME)),
            Stage("remove volume", ("volume", "rm", "data"), here("one", "two")),
            Stage("remove one", ("rmi", self._name("one")), here("two")),
            Stage("pull three", ("pull", "-q", self._name("three")), here("two", "three")),
            Stage("prune", ("image", "prune", "-af"), here()),
        ]

    def _name(self, image: str) -> str:
        return f"localhost:{self._registry.port}/{image}"

    def _record(self) -> None:
        with self._engine(self._disk.disk) as engine:
            for name in ("one", "three"):
                engine.docker("load", "-q", "-i", str(self._archives[name]))
                engine.docker("tag", name, self._name(name))
                engine.docker("push", "-q", self._name(name))
                if name == "three" and self._aged:
                    self._age(engine, name)
                engine.docker("rmi", name, self._name(name))
            for stage in self.stages:
                self._disk.mark(stage.name)
                engine.docker(*stage.words)
                self._disk.mark("")
                assert self._here(engine) == stage.here

    def _age(self, engine: Engine, image: str) -> None:
        """Change the database until SQLite writes over its log instead of letting it grow, as in an engine that runs for long.

        Then an fsync of the log does not bring the file system's journal to the disk as well.
        """
        for _ in range(_CHANGES):
            assert engine.api("POST", f"/images/{image}/tag?repo=filler&tag=x")[0] == 201
            assert engine.api("DELETE", "/images/filler:x")[0] == 200
        assert (self._disk.disk / "boxship.db-wal").stat().st_size > _LOG

    @staticmethod
    def _here(engine: Engine) -> frozenset[str]:
        status, rows = engine.api("GET", "/images/json?all=1")
        assert status == 200, rows
        tags = [tag for row in rows for tag in row["RepoTags"] or ["nameless"]]
        images = frozenset(tag.rpartition("/")[2].removesuffix(":latest") for tag in tags)
        rows = engine.api("GET", "/containers/json?all=1")[1]
        containers = [name for row in rows if row["State"] != "removing" for name in row["Names"]]
        volumes = [row["Name"] for row in engine.api("GET", "/volumes")[1]["Volumes"]]
        return images | {f"container {name[1:]}" for name in containers} | {f"volume {name}" for name in volumes}

    @staticmethod
    def _whole(engine: Engine) -> None:
        checked = engine.boxship("system", "fsck", check=False)
        assert (checked.returncode, checked.stdout) == (0, "nothing is wrong\n"), checked.stdout + checked.stderr
        # What is not a minute old yet fsck takes for something that is just coming.
        containers = [row["Id"] for row in engine.api("GET", "/containers/json?all=1")[1]]
        volumes = [row["Name"] for row in engine.api("GET", "/volumes")[1]["Volumes"]]
        for directory, known in (("containers", containers), ("volumes", volumes)):
            place = engine.data_root / directory
            assert sorted(path.name for path in place.glob("*")) == sorted(known)

    def _use(self, engine: Engine, here: frozenset[str]) -> None:
        """Read all files of the images that are here, and run the container."""
        for image in here - {CONTAINER, VOLUME}:
            self._run(engine, image)
        if CONTAINER in here:
            assert engine.docker("start", "-a", "boxed").stdout == "whole\n"

    def _run(self, engine: Engine, image: str) -> None:
        name = "two" if image == "two" else self._name(image)
        script = "for f in /data-*/*; do cat $f; done | wc -c"
        result = hostile.run(engine, name, "sh", "-c", script)
        assert result.text.strip() == str(3 * _FILES * 20_000), result


def _archives(place: Path) -> dict[str, Path]:
    """Return archives of images of four layers; two of them are the same in all."""
    common = [hostile.tar(hostile.busybox_without()), _data("common")]
    found = {}
    for name in ("one", "two", "three"):
        layers = [*common, _data(name), _data(f"{name}-more")]
        found[name] = place / f"{name}.tar"
        found[name].write_bytes(hostile.archive({"Cmd": ["sh"]}, layers, name))
    return found


def _data(name: str) -> bytes:
    content = (name.encode() + bytes(200)) * 20_000
    return hostile.tar([hostile.entry(f"data-{name}/{n}", content[n : n + 20_000]) for n in range(_FILES)])


def run(checks: PowerCuts, cuts: Sequence[Cut], say: Callable[[str], None]) -> int:
    """Check all cuts, tell of each, and return how many went wrong."""
    wrong = 0
    for cut in cuts:
        what = "" if cut.seed is None else f", some later writes (seed {cut.seed})"
        try:
            found = ", ".join(sorted(checks.check(cut))) or "nothing"
        except Exception as exc:  # the others are to be looked at, too
            wrong += 1
            found = f"WRONG: {exc!r}"
        say(f"flush {cut.flush} of {cut.stage}{' (its last)' if cut.last else ''}{what}: {found}")
    say(f"{len(cuts)} cuts, {wrong} wrong")
    return wrong


def main(seeds: int) -> int:
    """Cut at every flush, and ``seeds`` times more with some of the writes that follow it."""
    power_cuts = PowerCuts(aged=True)
    try:
        wrong = run(
            power_cuts, list(power_cuts.cuts(seeds=(None, *range(seeds)))), lambda line: print(line, flush=True)
        )
    finally:
        power_cuts.close()
    return 1 if wrong else 0
