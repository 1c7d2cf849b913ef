"""Snapshots where files share blocks: what changed is cloned while containers are still, and read afterwards."""

from __future__ import annotations

import pytest

from harness import loop
from harness.volumes import engine_on, sh
from harness.waiting import until

pytestmark = pytest.mark.system
# One byte of each file changes with the other's, so half of a moment would show.
WRITER = (
    "head -c 3000000 /dev/urandom > /p/first; cp /p/first /p/second; n=0; "
    "while :; do n=$((n+1)); "
    "echo $n | dd of=/p/first conv=notrunc; echo $n | dd of=/p/second conv=notrunc; echo $n > /p/count; done 2>/dev/null"
)


def test_a_snapshot_under_writes_is_of_one_moment_and_shares_blocks() -> None:
    with loop.filesystem("mkfs.xfs -q -m reflink=1", "rw", 400 << 20) as directory, engine_on(directory) as engine:
        engine.docker("run", "-d", "--name", "writer", "-v", "db:/p", "busybox", "sh", "-c", WRITER)
        until(lambda: (engine.data_root / "volumes/db/_data/count").exists())
        for name in ("one", "two"):
            engine.boxship("volume", "snapshot", "db", name)
        store = engine.data_root / "volumes/db/snapshots"
        assert not [path for path in store.glob("**/.*") if path.is_file()]
        engine.docker("rm", "-f", "writer")
        engine.boxship("volume", "restore", "db", "two")
        said = sh(engine, "db", "head -n1 /p/first; head -n1 /p/second")
        first, second = (int("".join(filter(str.isdigit, line)) or 0) for line in said.splitlines())
        assert first - second in (0, 1)
        engine.docker("volume", "rm", "db")
