"""Two containers race for one port, many times; see harness.port_fights."""

from __future__ import annotations

import argparse
import time

from harness.engine import Engine
from harness.images import import_busybox
from harness.port_fights import Fights


def main() -> None:
    """Race, and say how it went; the first wrong race ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="races")
    options = parser.parse_args()
    engine = Engine()
    engine.isolate_cgroups()
    try:
        engine.start()
        import_busybox(engine)
        fights = Fights(engine)
        begun = time.perf_counter()
        for number in range(options.n):
            fights.race(number)
        taken = time.perf_counter() - begun
        fights.clear()
    finally:
        engine.close()
    print(f"{options.n} races in {taken:.0f} s, each with one winner or none as it had to be; no rule stayed")
    for outcome, count in sorted(fights.outcomes.items()):
        print(f"{outcome}: {count}")


if __name__ == "__main__":
    main()
