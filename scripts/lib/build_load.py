"""``docker build`` beside dockerd's classic builder: the same docker CLI and contexts in turn, medians and ratios."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from image_load import new_disk

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox

Peer = Engine | Dockerd
Row = tuple[str, str, str, float, float | None]  # name, Boxship, dockerd, ratio, the ratio that must hold

TIMES = 5
LARGE_TIMES = 1  # dockerd takes minutes for each
FILES = 100_000
FILE_SIZE = 3_000  # bytes
STAGES = 20
STAGE_LOOPS = 300_000  # of a shell, about half a second
STEPS = 10


class Built(NamedTuple):
    """One build: how long it took and what it said."""

    seconds: float
    said: str


class Case(NamedTuple):
    """One kind of build; ``change`` is done to the context before each."""

    name: str
    directory: str
    flags: tuple[str, ...]
    times: int
    bar: float | None
    change: Callable[[Path], None] = lambda _: None


def make(contexts: Path, files: int) -> None:
    """Make the contexts of all cases."""
    steps = "".join(f"RUN echo {number} > /{number}\n" for number in range(STEPS))
    loop = f"i=0; while [ $i -lt {STAGE_LOOPS} ]; do i=$((i+1)); done; times > /cpu"
    stages = "".join(f"FROM busybox AS s{number}\nRUN : {number}; {loop}\n" for number in range(STAGES))
    copies = "".join(f"COPY --from=s{number} /cpu /cpu/{number}\n" for number in range(STAGES))
    for name, dockerfile in (
        ("steps", f"FROM busybox\n{steps}COPY page /page\n"),
        ("stages", f"{stages}FROM busybox\n{copies}RUN cat /cpu/*\n"),
        ("files", "FROM busybox\nCOPY tree /tree\n"),
    ):
        (contexts / name).mkdir()
        (contexts / name / "Dockerfile").write_text(dockerfile)
    (contexts / "steps" / "page").write_text("first")
    content = bytes(range(250)) * (FILE_SIZE // 250)
    for number in range(files):
        parent = contexts / "files/tree" / str(number // 100)
        parent.mkdir(parents=True, exist_ok=True)
        (parent / str(number)).write_bytes(b"%d" % number + content[len(str(number)) :])


def change_page(context: Path) -> None:
    """Give the file of the last COPY a content that it never had."""
    (context / "page").write_text(str(time.monotonic_ns()))


def cases(times: int, large_times: int, files: int) -> list[Case]:
    """Return what is measured, in an order in which each finds the cache that it is about."""
    size = f"{files * FILE_SIZE // 1_000_000} MB"
    return [
        Case(f"build: {STEPS} RUN steps, no cache", "steps", ("--no-cache",), times, 0.2),
        Case("build: the same, all cached", "steps", (), times, 0.7),
        Case("build: the last COPY changed", "steps", (), times, 0.5, change_page),
        Case(f"build: {STAGES} stages that compute, no cache", "stages", ("--no-cache",), min(times, 3), None),
        Case(f"build: COPY of {files:,} files, {size}, no cache", "files", ("--no-cache",), large_times, 0.6),
    ]


def build(peer: Peer, context: Path, *flags: str) -> Built:
    """Build with the docker CLI; SystemExit with its output when it fails."""
    command = [*peer.namespace.prefix(), "docker", "build", "-t", "built", *flags, str(context)]
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        env={**peer.client_environment(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{type(peer).__name__}: {done.stdout}{done.stderr}")
    return Built(time.perf_counter() - begun, done.stdout)


def cores(built: Built) -> float:
    """Return how many processors the programs of a build kept busy: what times(1) said in each stage, by the whole time."""
    spent = re.findall(r"(\d+)m([0-9.]+)s", built.said.rpartition("Running in")[2])
    return sum(int(minutes) * 60 + float(seconds) for minutes, seconds in spent) / built.seconds


@contextlib.contextmanager
def peers() -> Iterator[tuple[Engine, Dockerd, Path]]:
    """Give an engine, a dockerd and a directory for contexts, each on a disk of its own."""
    before = tempfile.tempdir
    with contextlib.ExitStack() as undo:
        contexts, other, own = (undo.enter_context(new_disk()) for _ in range(3))
        undo.callback(setattr, tempfile, "tempdir", before)
        tempfile.tempdir = str(other)
        theirs = Dockerd()
        undo.callback(theirs.close)
        tempfile.tempdir = str(own)
        ours = Engine()
        undo.callback(ours.close)
        tempfile.tempdir = before
        theirs.start()
        ours.start()
        for peer in (ours, theirs):
            import_busybox(peer)
        yield ours, theirs, contexts


def measure(
    times: int = TIMES, large_times: int = LARGE_TIMES, files: int = FILES, only: str = ""
) -> tuple[list[Row], str]:
    """Return the rows of all cases (whose name has ``only`` in it), and a line about the processors that stages keep busy."""
    rows: list[Row] = []
    busy: dict[str, list[float]] = {"Engine": [], "Dockerd": []}
    with peers() as (ours, theirs, contexts):
        make(contexts, files)
        for case in cases(times, large_times, files):
            if only not in case.name:
                continue
            taken: dict[str, list[float]] = {"Engine": [], "Dockerd": []}
            context = contexts / case.directory
            for _ in range(case.times):
                for peer in (theirs, ours):
                    case.change(context)
                    built = build(peer, context, *case.flags)
                    taken[type(peer).__name__].append(built.seconds)
                    if case.directory == "stages":
                        busy[type(peer).__name__].append(cores(built))
            mine, other = statistics.median(taken["Engine"]), statistics.median(taken["Dockerd"])
            rows.append((case.name, _shown(mine), _shown(other), mine / other, case.bar))
            print(f"{case.name}: {_shown(mine)}, {_shown(other)}, {mine / other:.2f}", file=sys.stderr, flush=True)
        shutil.rmtree(contexts / "files")
    mine, other = statistics.median(busy["Engine"]), statistics.median(busy["Dockerd"])
    return (
        rows,
        f"Processors that the {STAGES} stages keep busy: {mine:.2f} of {os.cpu_count()} (dockerd: {other:.2f}).",
    )


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def main() -> int:
    """Measure and print; the status tells whether all bars hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--large-times", type=int, default=LARGE_TIMES, help="builds of the large context")
    parser.add_argument("--files", type=int, default=FILES, help="files of the large context")
    parser.add_argument("--only", default="", help="cases with this in their name")
    options = parser.parse_args()
    rows, busy = measure(options.times, options.large_times, options.files, options.only)
    print("| docker CLI 28 | Boxship | dockerd 20.10 | ratio | bar |\n|---|---|---|---|---|")
    for name, mine, other, ratio, bar in rows:
        print(f"| {name} | {mine} | {other} | {ratio:.2f} | {'' if bar is None else f'<= {bar}'} |")
    times = f"Medians of {options.times} ({options.large_times} of the large context), in turn"
    print(f"\n{f'{busy} ' if busy else ''}{times}; load average {os.getloadavg()[0]:.1f}.")
    return 0 if all(bar is None or ratio <= bar for *_, ratio, bar in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
