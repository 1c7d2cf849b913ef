"""Times of writes inside containers: to a file that the image has, to new files, on each kind of place."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from pathlib import Path

from harness import loop
from harness.engine import Engine
from harness.images import import_busybox
from harness.volumes import engine_on
from harness.waiting import until

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- written by scripts/volume-writes --write -->", "<!-- end -->"
FILE_SYSTEMS = {"XFS, shares blocks": "mkfs.xfs -q -m reflink=1", "ext4, does not": "mkfs.ext4 -q -F"}
TIMES = 5
BIG = 256  # MiB of a file in the image
FILES = 2000
PLACES = {
    "writable layer": (),
    "volume": ("-v", "{name}:/data"),
    "volume, idmap": ("-v", "{name}:/data:idmap"),
    "volume in an image file": ("--mount", "source={name},target=/data,volume-opt=size=1g,volume-opt=backing=image"),
}
WORKS = {
    f"one byte added to a file of {BIG} MiB that the image has": "echo >> /data/big",
    f"{FILES} new files": f"n=0; while [ $n -lt {FILES} ]; do echo $n > /data/$n; n=$((n+1)); done",
    "64 MiB written and synced": "dd if=/dev/zero of=/data/new bs=1M count=64 conv=fsync",
}


def seconds(engine: Engine, number: int, place: tuple[str, ...], work: str) -> float:
    """Return how long one piece of work takes in a new container that runs already, with a new volume."""
    name = f"bench{number}"
    engine.docker("run", "-d", "--name", name, *(word.format(name=name) for word in place), "big", "sleep", "999")
    begun = time.perf_counter()
    engine.docker("exec", name, "sh", "-c", work)
    taken = time.perf_counter() - begun
    engine.docker("rm", "-f", "-v", name)
    engine.docker("volume", "prune", "-af")
    return taken


def stillness(directory: Path) -> float:
    """Return the seconds for which a container was paused by a snapshot while it wrote to a file of ``BIG`` MiB."""
    with engine_on(directory) as engine:
        writer = f"dd if=/dev/urandom of=/p/big bs=1M count={BIG}; while :; do echo x | dd of=/p/big conv=notrunc; done"
        engine.docker("run", "-d", "--name", "writer", "-v", "db:/p", "busybox", "sh", "-c", writer)
        big = engine.data_root / "volumes/db/_data/big"
        until(lambda: big.exists() and big.stat().st_size == BIG << 20, 120)
        begun = int(time.time())
        engine.boxship("volume", "snapshot", "db", "one")
        words = ("events", "--since", str(begun), "--until", str(int(time.time()) + 1), "--format", "{{json .}}")
        events = [json.loads(line) for line in engine.docker(*words).stdout.splitlines()]
        moments = {event["Action"]: event["timeNano"] for event in events if event["Type"] == "container"}
        engine.docker("rm", "-f", "writer")
        return float(moments["unpause"] - moments["pause"]) / 1e9


def main() -> None:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine)
        make = f"mkdir /data; dd if=/dev/urandom of=/data/big bs=1M count={BIG}"
        engine.docker("run", "--name", "made", "busybox", "sh", "-c", make)
        engine.docker("commit", "made", "big")
        engine.docker("rm", "made")
        lines = ["| | " + " | ".join(PLACES) + " |", "|---" * (len(PLACES) + 1) + "|"]
        number = 0
        for words, work in WORKS.items():
            taken: dict[str, list[float]] = {name: [] for name in PLACES}
            for _ in range(TIMES):
                for name, place in PLACES.items():
                    number += 1
                    taken[name].append(seconds(engine, number, place, work))
            medians = (f"{statistics.median(each) * 1000:.0f} ms" for each in taken.values())
            lines.append(f"| {words} | " + " | ".join(medians) + " |")
    finally:
        engine.close()
    lines += [
        "",
        f"| file system | a snapshot keeps a container still that writes to a file of {BIG} MiB |",
        "|---|---|",
    ]
    for name, make in FILE_SYSTEMS.items():
        with loop.filesystem(make, "rw", 2 << 30) as directory:
            lines.append(f"| {name} | {stillness(directory) * 1000:.0f} ms |")
    table = "\n".join(
        [*lines, "", f"Medians of {TIMES} containers each, in turn, with the start of `docker exec` in it."]
    )
    print(table)
    if "--write" in sys.argv:
        page = ROOT / "docs/volumes.md"
        pattern = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
        page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", page.read_text()))


if __name__ == "__main__":
    main()
