"""How long everyday calls take while other containers are stuck; prints a table of medians and 99th percentiles."""

from __future__ import annotations

import argparse
import os
import platform
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from harness.engine import Engine
from harness.images import import_busybox
from harness.stuck import NAMES, hopeless_calls, pending, stuck_containers, timed_run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "responsiveness.md"
LIMIT = 0.1  # seconds at the 99th percentile


def main() -> None:
    """Measure with nothing stuck, with the three, and with requests to them under way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=300, help="calls of each kind")
    parser.add_argument("--write", action="store_true", help="put the table into docs/responsiveness.md")
    parser.add_argument("--check", action="store_true", help="fail when a call takes too long")
    options = parser.parse_args()
    engine = Engine()
    tables = []
    try:
        engine.start()
        import_busybox(engine)
        engine.docker("run", "-d", "--name", "other", "busybox", "sleep", "100000")
        tables.append(("nothing stuck", measure(engine, options.n)))
        with stuck_containers(engine) as filesystem:
            tables.append((f"stuck: {', '.join(NAMES)}", measure(engine, options.n)))
            with pending(engine, hopeless_calls(engine, filesystem, 8)):
                time.sleep(0.5)
                tables.append(("and 24 requests to them that wait", measure(engine, options.n)))
    finally:
        engine.close()
    text = render(tables, options.n)
    print(text)
    if options.write:
        PAGE.write_text(text)
    slow = [f"{name} ({title})" for title, rows in tables for name, times in rows if percentile(times, 0.99) > LIMIT]
    if slow:
        print(f"above {LIMIT * 1000:.0f} ms: {', '.join(slow)}")
        if options.check:
            raise SystemExit(1)


def measure(engine: Engine, count: int) -> list[tuple[str, list[float]]]:
    """Return the seconds that each kind of call took, in turn with the others."""
    calls: list[tuple[str, Callable[[int], float]]] = [
        ("list", lambda _: call(engine, "/containers/json?all=1")),
        ("inspect another", lambda _: call(engine, "/containers/other/json")),
        ("events", lambda _: call(engine, f"/events?since={int(time.time()) - 10}&until={int(time.time())}")),
        ("an event, from its cause to its reader", lambda _: event(engine)),
        ("run another (create, start, wait)", lambda number: timed_run(engine, f"run{number}")),
    ]
    times: list[tuple[str, list[float]]] = [(name, []) for name, _ in calls]
    for number in range(count):
        for (_, action), (_, found) in zip(calls, times, strict=True):
            found.append(action(number))
    return times


def call(engine: Engine, path: str) -> float:
    """Return the seconds of one GET."""
    begun = time.perf_counter()
    status, answer = engine.api("GET", path)
    assert status == 200, answer
    return time.perf_counter() - begun


def event(engine: Engine) -> float:
    """Return the seconds from a signal to the moment in which a reader of events has it."""
    with socket.socket(socket.AF_UNIX) as reader:
        reader.settimeout(60)
        reader.connect(str(engine.socket))
        filters = quote('{"event":["kill"],"container":["other"]}')
        reader.sendall(f"GET /events?filters={filters} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += reader.recv(65536)
        begun = time.perf_counter()
        assert engine.api("POST", "/containers/other/kill?signal=CONT")[0] == 204
        while b'"Action":"kill"' not in received:
            received += reader.recv(65536)
        return time.perf_counter() - begun


def percentile(times: list[float], share: float) -> float:
    """Return the value that ``share`` of the times do not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def render(tables: list[tuple[str, list[tuple[str, list[float]]]]], count: int) -> str:
    """Return the page."""
    lines = [
        "# Responsiveness",
        "",
        "Written by `scripts/responsiveness --write`. One container is paused, one sleeps uninterruptibly (state D) in a FUSE file",
        "system that never answers while a `kill` of it waits, and the shim of one that writes endlessly is stopped. The last rows have,",
        "besides, requests under way to those three (exec, kill, pause, top, rm -f, stats), and eight starts and eight creates of containers",
        "that mount from the silent file system.",
        "",
        "| call | state | median | 99th percentile | longest |",
        "|---|---|---|---|---|",
    ]
    for title, rows in tables:
        for name, times in rows:
            figures = " | ".join(
                f"{value * 1000:.1f} ms" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times))
            )
            lines.append(f"| {name} | {title} | {figures} |")
    machine = f"{os.cpu_count()} cores, kernel {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return "\n".join(
        [*lines, "", f"{count} calls of each kind over the API, {time.strftime('%Y-%m-%d')}, {machine}.", ""]
    )


if __name__ == "__main__":
    main()
