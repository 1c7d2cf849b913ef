"""Many containers end in one moment: their exit codes, and that nobody else was hit."""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

from harness.engine import Engine
from harness.images import import_busybox
from harness.storm import Storm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "storm.md"


def main() -> None:
    """Start them, let them go, compare, remove."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=1000, help="containers")
    parser.add_argument("--write", action="store_true", help="put the result into docs/storm.md")
    options = parser.parse_args()
    engine = Engine()
    engine.isolate_cgroups()
    try:
        engine.start()
        import_busybox(engine)
        storm = Storm(engine, options.n)
        begun = time.perf_counter()
        storm.start()
        started = time.perf_counter() - begun
        wanted, ended, taken = storm.let_go()
        wrong = {id: (ended[id], code) for id, code in wanted.items() if ended[id] != code}
        shown, told, untouched = storm.shown(), storm.told(), storm.untouched()
        begun = time.perf_counter()
        storm.clear()
        cleared = time.perf_counter() - begun
    finally:
        engine.close()
    killed = sum(code == 137 for code in ended.values())
    rows = [
        ("started", f"{options.n} in {started:.1f} s"),
        (
            "ended, and told to those who wait",
            f"{len(ended)} in {taken:.1f} s, {killed} of them by a kill in the same moment",
        ),
        (
            "wrong exit codes of wait, inspect, events",
            f"{len(wrong)}, {differences(shown, wanted)}, {differences(told, wanted)}",
        ),
        ("bystanders that are the processes they were", "all" if untouched else "NOT all"),
        ("removed", f"{options.n} in {cleared:.1f} s; nothing left"),
    ]
    machine = f"{os.cpu_count()} cores, kernel {platform.release().split('-')[0]}, Python {platform.python_version()}"
    text = "\n".join(
        [
            "# Exit storm",
            "",
            "Written by `scripts/storm --write`: containers that wait for one pipe end in one moment, each with an exit code of its own;",
            "every tenth is killed in the same moment.",
            "",
            "| what | result |",
            "|---|---|",
            *(f"| {name} | {result} |" for name, result in rows),
            "",
            f"{time.strftime('%Y-%m-%d')}, {machine}.",
            "",
        ]
    )
    print(text)
    if options.write:
        PAGE.write_text(text)
    if wrong or not untouched or differences(shown, wanted) or differences(told, wanted):
        raise SystemExit(1)


def differences(found: dict[str, int], wanted: dict[str, int]) -> int:
    """Return how many exit codes are missing or wrong."""
    return sum(found.get(id) != code for id, code in wanted.items())


if __name__ == "__main__":
    main()
