"""Boxship beside dockerd: the same docker CLI, alternating calls, medians and their ratio."""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import build_load
import copy_load
import image_load
import stats_load

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import busybox_tar

ROOT = Path(__file__).parents[2]
Peer = Engine | Dockerd

# name, words of the docker CLI, the ratio that must hold
CALLS: list[tuple[str, tuple[str, ...], float | None]] = [
    ("run --rm --network none", ("run", "--rm", "--network", "none", "busybox", "true"), 0.33),
    ("run --rm (bridge)", ("run", "--rm", "busybox", "true"), 0.33),
    ("run --rm -p (bridge, one port)", ("run", "--rm", "-p", "8080:80", "busybox", "true"), 0.33),
    ("exec", ("exec", "host", "true"), 0.6),
    ("create", ("create", "--name", "made", "busybox", "true"), None),
    ("ps", ("ps",), None),
    ("version", ("version",), None),
]
AFTER = {"create": ("rm", "made")}


def timed(peer: Peer, words: tuple[str, ...]) -> float:
    """Return the seconds one call of the docker CLI takes."""
    begun = time.perf_counter()
    result = subprocess.run(
        [*peer.namespace.prefix(), "docker", *words],
        env=peer.client_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    taken = time.perf_counter() - begun
    if result.returncode != 0:
        raise SystemExit(f"docker {' '.join(words)}: {result.stderr.decode()}")
    return taken


def measure(
    ours: Peer, theirs: Peer, words: tuple[str, ...], after: tuple[str, ...] | None, times: int
) -> tuple[list[float], list[float]]:
    """Return the times of both, taken in turn."""
    results: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for peer, times_of in zip((ours, theirs), results, strict=True):
            times_of.append(timed(peer, words))
            if after:
                timed(peer, after)
    return results


def proportional_memory(pids: list[int]) -> int:
    """Return the PSS of processes in KiB; see proc(5), smaps_rollup."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))
    return total


def processes(belongs: Callable[[str, int], bool]) -> list[int]:
    """Return the pids whose command line and parent pass the test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if belongs(line, int(entry.name)):
                found.append(int(entry.name))
    return found


def per_container(ours: Engine, theirs: Dockerd, count: int) -> tuple[float, float]:
    """Return the engine's memory per idle container in KiB (PSS of shims, and growth of the daemons), for both."""
    results = []
    for peer in (ours, theirs):
        before = proportional_memory(engine_pids(peer))
        for number in range(count):
            timed(peer, ("run", "-d", "--name", f"idle{number}", "busybox", "sleep", "100000"))
        time.sleep(2)
        results.append((proportional_memory(engine_pids(peer)) - before) / count)
        timed(peer, ("rm", "-f", *(f"idle{number}" for number in range(count))))
    return results[0], results[1]


def engine_pids(peer: Peer) -> list[int]:
    """Return the processes of an engine, without its containers'."""
    root = str(peer.root)
    if isinstance(peer, Dockerd):
        return processes(lambda line, _: root in line and any(word in line for word in ("dockerd", "containerd")))
    daemon = processes(lambda line, _: root in line and "boxship.daemon" in line)
    launchers = [
        pid for pid in processes(lambda line, _: "boxship.shim" in line) if namespace(pid) == namespace(daemon[0])
    ]
    return daemon + launchers


def namespace(pid: int) -> str:
    """Return the network namespace of a process, "" when that has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=25, help="calls of each kind")
    parser.add_argument("--write", action="store_true", help="put the table into README.md and docs/bench.md")
    parser.add_argument(
        "--without-stats", action="store_true", help="leave out the hundred containers of the stats rows"
    )
    parser.add_argument("--without-copies", action="store_true", help="leave out cp of large trees (some minutes)")
    parser.add_argument("--without-images", action="store_true", help="leave out load, save, push and pull (minutes)")
    parser.add_argument("--without-builds", action="store_true", help="leave out builds (a quarter of an hour)")
    parser.add_argument("--check", action="store_true", help="fail when a ratio misses its bar")
    options = parser.parse_args()
    try:
        theirs = Dockerd()
        theirs.start()
    except RuntimeError as exc:
        raise SystemExit(f"nothing to compare with: {exc}") from exc
    ours = Engine()
    try:
        ours.start()
        for peer in (ours, theirs):
            (peer.root / "busybox.tar").write_bytes(busybox_tar())
            peer.docker("import", "--change", 'CMD ["sh"]', str(peer.root / "busybox.tar"), "busybox")
            peer.docker("run", "-d", "--name", "host", "busybox", "sleep", "100000")
            for name, words, _ in CALLS:
                timed(peer, words)
                if name in AFTER:
                    timed(peer, AFTER[name])
        rows, missed = [], []
        for name, words, bar in CALLS:
            mine, other = measure(ours, theirs, words, AFTER.get(name), options.n)
            ratio = statistics.median(mine) / statistics.median(other)
            rows.append(
                (
                    name,
                    f"{statistics.median(mine) * 1000:.0f} ms",
                    f"{statistics.median(other) * 1000:.0f} ms",
                    ratio,
                    bar,
                )
            )
        if not options.without_stats:
            rows += stats_load.measure(ours, theirs, timed, engine_pids)
        if not options.without_copies:
            rows += copy_load.measure(ours, theirs, timed, engine_pids)
        mine_kib, other_kib = per_container(ours, theirs, 10)
        rows.append(
            (
                "memory per idle container (PSS)",
                f"{mine_kib:.0f} KiB",
                f"{other_kib:.0f} KiB",
                mine_kib / other_kib,
                0.6,
            )
        )
    finally:
        ours.close()
        theirs.close()
    if not options.without_images:
        rows += image_load.measure(image_load.TIMES)
    if not options.without_builds:
        built, busy = build_load.measure()
        rows += built
        print(busy)
    table = render(rows, options.n)
    print(table)
    missed = [row[0] for row in rows if row[4] is not None and row[3] > row[4]]
    if options.write:
        write(table)
    if missed:
        print(f"above the bar: {', '.join(missed)}", file=sys.stderr)
        if options.check:
            raise SystemExit(1)


def render(rows: list[tuple[str, str, str, float, float | None]], times: int) -> str:
    """Return the table in Markdown."""
    lines = ["| docker CLI 28 | Boxship | dockerd 20.10 | ratio | bar |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {mine} | {other} | {ratio:.2f} | {'' if bar is None else f'<= {bar}'} |"
        for name, mine, other, ratio, bar in rows
    ]
    machine = f"{os.cpu_count()} cores, kernel {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {times} calls each ({image_load.TIMES} of images and builds, {build_load.LARGE_TIMES} of the large context), alternating, {time.strftime('%Y-%m-%d')}, {machine}.",
        ]
    )


def write(table: str) -> None:
    """Put the table between its marks in the README, and into its own page."""
    readme = ROOT / "README.md"
    text = re.sub(
        r"(<!-- bench -->\n).*(<!-- /bench -->)",
        lambda m: f"{m[1]}{table}\n{m[2]}",
        readme.read_text(),
        flags=re.DOTALL,
    )
    readme.write_text(text)
    (ROOT / "docs" / "bench.md").write_text(f"# Benchmark\n\nWritten by `scripts/bench --write`.\n\n{table}\n")


if __name__ == "__main__":
    main()
