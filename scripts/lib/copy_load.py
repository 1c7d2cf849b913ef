"""What ``docker cp`` of large trees costs: one large file and many small ones, in and out, and the memory it takes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from harness.dockerd import Dockerd
from harness.engine import Engine

Peer = Engine | Dockerd
Row = tuple[str, str, str, float, float | None]

LARGE = 1 << 30  # bytes
MANY = 30_000  # files, a hundred in each directory
TIMES = 3
PAUSE = 0.05  # seconds between two looks at the memory
CONTAINER = "copied"


def measure(
    ours: Engine, theirs: Dockerd, call: Callable[[Peer, tuple[str, ...]], float], pids: Callable[[Peer], list[int]]
) -> list[Row]:
    """Return rows of the table; ``call`` runs the docker CLI and gives seconds, ``pids`` are the processes of an engine."""
    directory = Path(tempfile.mkdtemp(prefix="boxship-copies-"))
    rows: list[Row] = []
    try:
        make(directory)
        for peer in (ours, theirs):
            call(peer, ("run", "-d", "--name", CONTAINER, "busybox", "sleep", "100000"))
        for name, told in (("large", f"a file of {LARGE >> 20} MiB"), ("many", f"{MANY} files")):
            for way, words in (
                ("in", ("cp", f"{directory}/{name}", f"{CONTAINER}:/{name}")),
                ("out", ("cp", f"{CONTAINER}:/{name}", f"{directory}/out")),
            ):
                seconds, memory = _of(ours, theirs, words, directory, call, pids)
                mine, other = (statistics.median(each) for each in seconds)
                rows.append((f"cp {way}, {told}", f"{mine:.2f} s", f"{other:.2f} s", mine / other, None))
                print(f"cp {way}, {told}: the engine's memory grew by {memory / 1024:.1f} MiB")
    finally:
        for peer in (ours, theirs):
            call(peer, ("rm", "-f", CONTAINER))
        shutil.rmtree(directory)
    return rows


def make(directory: Path) -> None:
    """Make the file ``large`` and the tree ``many`` in the directory."""
    piece = bytes(range(256)) * 4096
    with (directory / "large").open("wb") as file:
        for _ in range(LARGE // len(piece)):
            file.write(piece)
    for number in range(MANY):
        parent = directory / "many" / str(number // 100)
        parent.mkdir(parents=True, exist_ok=True)
        (parent / str(number)).write_bytes(b"%d" % number * 100)


def _of(
    ours: Engine,
    theirs: Dockerd,
    words: tuple[str, ...],
    directory: Path,
    call: Callable[[Peer, tuple[str, ...]], float],
    pids: Callable[[Peer], list[int]],
) -> tuple[tuple[list[float], list[float]], int]:
    """Return the seconds of the copies, taken in turn, and by how many KiB our engine grew at most meanwhile."""
    seconds: tuple[list[float], list[float]] = ([], [])
    grown = 0
    for _ in range(TIMES):
        for place, peer in enumerate((ours, theirs)):
            with _Memory(pids(ours)) as memory:
                seconds[place].append(call(peer, words))
            grown = max(grown, memory.grown)
            if (directory / "out").is_dir():
                shutil.rmtree(directory / "out")
            (directory / "out").unlink(missing_ok=True)
    return seconds, grown


class _Memory:
    """Looks at the memory of processes until the end of the block."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._before = self._now()
        self.grown = 0  # KiB
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE):
            self.grown = max(self.grown, self._now() - self._before)

    def _now(self) -> int:
        """Return the resident anonymous memory in KiB; see proc(5), status."""
        total = 0
        for pid in self._pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
        return total
