"""Limits as the kernel keeps them: what was promised beside what programs in containers got."""

from __future__ import annotations

import argparse
import contextlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from boxship.linux import cgroup
from harness import cgroups, loop
from harness.engine import Engine
from harness.images import import_busybox, import_program

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000
MIB = 1 << 20
TOLERANCE = 0.1
PATIENCE = 600.0  # seconds for one row, on a machine that others use too


class Row(NamedTuple):
    """One line of the table; both figures have the unit that the name ends with."""

    what: str
    promised: float
    measured: float
    bounded: bool = True  # held to the tolerance

    @property
    def deviation(self) -> float:
        return self.measured / self.promised - 1


@contextlib.contextmanager
def running(engine: Engine, *words: str) -> Iterator[str]:
    """Run a container in the background; give its cgroup."""
    id = engine.docker("run", "-d", *words).stdout.strip()
    try:
        yield f"{engine.cgroup_parent}/{id}"
    finally:
        engine.docker("rm", "-f", id)


def go_first(engine: Engine) -> None:
    """Let the containers go before what else runs on this machine, which would take from what they were promised."""
    with running(engine, "busybox", "true"):  # makes the parent
        for directory in cgroups.directories(engine.cgroup_parent):
            for name, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
                if (directory / name).exists():
                    (directory / name).write_text(most)


def quotas(engine: Engine) -> Iterator[Row]:
    """Use per period of the quota, of three programs that want all there is."""
    for cpus in (0.1, 0.25, 0.5):
        with running(engine, "--cpus", str(cpus), "stress", "stress", "--cpu", "3") as path:
            used = cgroups.counted(path, lambda used: used.throttled >= 50, PATIENCE)
        yield Row(f"--cpus {cpus}: processors", cpus, used.usage_ns / (used.periods * cgroups.PERIOD_NS))


def shares(engine: Engine) -> Iterator[Row]:
    """What two get of one processor, as a ratio; the kernel's weights are the promise."""
    for heavy, light in ((1024, 512), (1024, 256), (4096, 256)):
        words = ("--cpuset-cpus", "0", "stress", "stress", "--cpu", "2")
        with running(engine, "-c", str(heavy), *words) as first, running(engine, "-c", str(light), *words) as second:
            weights = [cgroups.number(path, "cpu/cpu.shares", "cpu.weight") for path in (first, second)]
            used = cgroups.contended((first, second), 5 * SECOND, PATIENCE)
        yield Row(f"--cpu-shares {heavy} and {light}: ratio", weights[0] / weights[1], used[0] / used[1])


def memory(engine: Engine) -> Iterator[Row]:
    """The most that a program held before it was killed, against its limit."""
    with running(engine, "-m", "64m", "--memory-swap", "64m", "busybox", "sleep", "1000") as path:
        id = path.rpartition("/")[2]
        code = engine.docker("exec", id, "tail", "/dev/zero", check=False).returncode
        peak = cgroups.number(path, "memory/memory.max_usage_in_bytes", "memory.peak") if has_peak(path) else 64 * MIB
        yield Row("-m 64m: MiB at most", 64, peak / MIB)
        yield Row("-m 64m: exit code of the program that wanted more", 137, code)


def has_peak(path: str) -> bool:
    """Return whether the kernel keeps the most memory used; version 2 since Linux 5.19."""
    return cgroup.version() == 1 or any((each / "memory.peak").exists() for each in cgroups.directories(path))


def throttles(engine: Engine, disk: str) -> Iterator[Row]:
    """Bytes and operations a second over some seconds, of a dd that goes past the page cache."""
    for kind, source in (
        ("read", f"if={disk} of=/dev/null iflag=direct"),
        ("write", f"if=/dev/zero of={disk} oflag=direct"),
    ):
        for rate in (1, 4):
            words = (f"--device-{kind}-bps", f"{disk}:{rate}mb")
            taken = transfer(engine, disk, words, f"{source} bs=64k count={16 * rate * 3}")
            yield Row(f"{words[0]} {rate}mb: MiB/s", rate, 3 * rate / taken)
        for rate in (20, 200):
            words = (f"--device-{kind}-iops", f"{disk}:{rate}")
            taken = transfer(engine, disk, words, f"{source} bs=4k count={3 * rate}")
            yield Row(f"{words[0]} {rate}: operations/s", rate, 3 * rate / taken)


def transfer(engine: Engine, disk: str, words: tuple[str, ...], dd: str) -> float:
    """Return the seconds that a dd takes by the clock inside."""
    clock = "cut -d ' ' -f 1 /proc/uptime"
    with running(engine, "--device", disk, *words, "busybox", "sleep", "1000") as path:
        id = path.rpartition("/")[2]
        begun, ended = engine.docker("exec", id, "sh", "-c", f"{clock}; dd {dd}; {clock}").stdout.split()
        return float(ended) - float(begun)


def weights(engine: Engine, disk: str) -> Iterator[Row]:
    """What two readers of one device with the scheduler BFQ get, as a ratio."""
    scheduler = Path(f"/sys/block/{disk.removeprefix('/dev/')}/queue/scheduler")
    if "bfq" not in scheduler.read_text():
        return
    scheduler.write_text("bfq")
    reader = f"(while :; do dd if={disk} of=/dev/null bs=64k iflag=direct 2>/dev/null; done) &"
    script = reader * 8 + " wait"
    minor = int(disk.removeprefix("/dev/loop"))

    def read(path: str) -> int:
        stats = cgroup.open_cgroup(path).stats()["blkio"]["io_service_bytes_recursive"]
        return sum(entry["value"] for entry in stats if entry["minor"] == minor and entry["op"].lower() == "read")

    words = ("--device", disk, "busybox", "sh", "-c", script)
    with (
        running(engine, "--blkio-weight", "400", *words) as first,
        running(engine, "--blkio-weight", "100", *words) as second,
    ):
        time.sleep(1)
        before = read(first), read(second)
        time.sleep(8)
        after = read(first), read(second)
    yield Row(
        "--blkio-weight 400 and 100 under BFQ: ratio",
        4,
        (after[0] - before[0]) / max(1, after[1] - before[1]),
        bounded=False,
    )


def seeds(engine: Engine) -> Iterator[Row]:
    """The load of the books' example, all limits together: it ends by itself, and well."""
    limits = ("--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0", "-m", "320m", "--pids-limit", "20")
    load = ("stress", "--cpu", "2", "--io", "1", "--vm", "2", "--vm-bytes", "128M", "--timeout", "10s")
    done = engine.docker("run", "--rm", *limits, "stress", *load, check=False)
    yield Row("stress --cpu 2 --io 1 --vm 2 below -m 320m: successful runs", 1, int(done.returncode == 0))


def main() -> int:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="put the table into docs/limits.md")
    parser.add_argument("--check", action="store_true", help="fail when a figure is off by more than a tenth")
    options = parser.parse_args()
    rows: list[Row] = []
    engine = Engine()
    engine.isolate_cgroups()
    try:
        engine.start()
        import_busybox(engine)
        import_program(engine, "stress", "stress")
        go_first(engine)
        parts: list[Callable[[Engine], Iterator[Row]]] = [quotas, shares, memory, seeds]
        for part in parts:
            rows += show(part(engine))
        with loop.device(64 * MIB) as disk:
            rows += show(throttles(engine, disk))
            rows += show(weights(engine, disk))
    finally:
        engine.close()
    if options.write:
        table = "\n".join(
            f"| {row.what} | {row.promised:g} | {row.measured:.3g} | {row.deviation:+.1%} |" for row in rows
        )
        (ROOT / "docs/limits.md").write_text(PAGE.format(table=table, foot=foot()))
    bad = [row for row in rows if row.bounded and abs(row.deviation) > TOLERANCE]
    return int(options.check and bool(bad))


def show(rows: Iterator[Row]) -> list[Row]:
    """Print rows as they come."""
    result = []
    for row in rows:
        result.append(row)
        print(f"{row.what:64} {row.promised:8g} {row.measured:8.3f} {row.deviation:+7.1%}", flush=True)
    return result


def foot() -> str:
    """Return where and when this was measured."""
    kernel = platform.release().partition("-")[0]
    return f"{time.strftime('%Y-%m-%d')}, kernel {kernel}, cgroup v{cgroup.version()}."


PAGE = """# Limits, measured

What containers got beside what they were promised. Written by `scripts/limits --write`; `--check` allows a tenth. Shares of a
processor are counted by the kernel (per period of the quota, or between two containers on one processor), not by a clock.
Throttled devices are a loop device read and written past the page cache; the kernel lends a tenth of a second's worth at
the start.

| what | promised | measured | deviation |
|---|---|---|---|
{table}

{foot} Weights of block I/O hold where the device's scheduler is BFQ (and io.cost in cgroup v2), and only as far as it knows the
device's speed; that row is for information.
"""


if __name__ == "__main__":
    sys.exit(main())
