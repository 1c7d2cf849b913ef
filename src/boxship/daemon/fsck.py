"""``python -m boxship.daemon.fsck [--repair] [--quick] DATA_ROOT``: the check of a data root that no daemon uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from boxship.base.errors import BoxshipError
from boxship.content import ContentStore
from boxship.daemon.claims import Claimed, DataRootLock
from boxship.daemon.inspection import CHECKS
from boxship.engine.disk.fsck import Checker
from boxship.engine.rows import ContainerRows
from boxship.snapshots import open_snapshotter
from boxship.store import Store, quarantine

REPAIRED, LEFT, FAILED = 1, 4, 8  # as of fsck(8)


def main(arguments: Sequence[str]) -> int:
    """Print a line for each finding; return 0 for none, REPAIRED, LEFT, or FAILED when the check could not be made."""
    repair, quick = "--repair" in arguments, "--quick" in arguments
    data_root = os.path.realpath(next((word for word in arguments if not word.startswith("--")), "/var/lib/boxship"))
    try:
        if not os.path.exists(f"{data_root}/boxship.db"):
            raise Claimed(f"{data_root} is not the data root of a boxshipd")
        lock = DataRootLock(data_root)
    except (Claimed, OSError) as exc:
        print(exc, file=sys.stderr)
        return FAILED
    try:
        return _check(data_root, repair=repair, quick=quick)
    except (BoxshipError, OSError) as exc:
        print(f"system fsck: {exc}", file=sys.stderr)
        return FAILED
    finally:
        lock.release()


def _check(data_root: str, *, repair: bool, quick: bool) -> int:
    store = Store(f"{data_root}/boxship.db")
    found = left = 0
    try:
        damaged = quarantine.damaged(store, CHECKS)
        if repair:
            quarantine.inspect(store, CHECKS)
        elif damaged:
            # Nothing else can be read beside damaged rows, and looking must change nothing.
            for row in damaged:
                print(f"{row.kind} {row.id}: {row.reason or 'a bit in its row flipped'}")
            print(
                f"{len(damaged)} problems found, 0 repaired; with --repair, or after a start, the rest can be checked"
            )
            return LEFT
        for row in damaged:
            found += 1
            print(
                f"{row.kind} {row.id}: {row.reason or 'a bit flipped'} [{'set aside' if row.reason else 'put right'}]"
            )
        content = ContentStore(f"{data_root}/content", store, sweep=False)
        containers = {spec.id: status for spec, status in ContainerRows(store).load()}
        checker = Checker(
            data_root,
            store,
            content,
            open_snapshotter(data_root, store),
            checks=CHECKS,
            known=lambda: set(containers),
            alive=lambda: {id for id, status in containers.items() if status.alive},
        )
        for finding in checker.run(repair=repair, quick=quick):
            found += 1
            left += not finding.outcome or finding.outcome.startswith("left")
            print(finding, flush=True)
    finally:
        store.close()
    print(f"{found} problems found, {found - left} repaired" if found else "nothing is wrong")
    return LEFT if left else REPAIRED if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
