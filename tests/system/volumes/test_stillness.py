"""Containers that are frozen for a snapshot or a commit go on, also when the daemon dies meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
COUNT = "n=0; while :; do n=$((n+1)); echo $n > /p/count; usleep 1000; done"


def goes_on(engine: Engine, name: str) -> bool:
    """Tell whether the counter of a container moves on."""
    count = engine.data_root / "volumes" / name / "_data/count"
    before = count.read_text()
    until(lambda: count.read_text() != before)
    return engine.docker("inspect", "-f", "{{.State.Status}}", name).stdout == "running\n"


@pytest.mark.parametrize("way", ["commit", "snapshot"])
def test_a_daemon_killed_while_containers_are_still_lets_them_go_on(fresh_engine: Engine, way: str) -> None:
    engine = fresh_engine
    for name in ("writer", "paused"):
        engine.docker("run", "-d", "--name", name, "-v", f"{name}:/p", "busybox", "sh", "-c", COUNT)
        until(lambda name=name: (engine.data_root / "volumes" / name / "_data/count").exists())  # type: ignore[misc]
    engine.docker("pause", "paused")
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": "still.frozen"}
    engine.start()
    if way == "commit":
        engine.docker("commit", "writer", "copy", check=False)
    else:
        engine.boxship("volume", "snapshot", "writer", "one", check=False)
    assert engine.process is not None
    assert engine.process.wait(30) == -9
    engine.process = None
    engine.environment = {}
    engine.start()
    assert goes_on(engine, "writer")
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "paused").stdout == "paused\n"
    engine.boxship("volume", "snapshot", "writer", "two")
    assert goes_on(engine, "writer")
    engine.docker("unpause", "paused")
    assert goes_on(engine, "paused")


def test_a_cgroup_that_was_frozen_before_the_row_said_so_is_thawed(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.docker("run", "-d", "--name", "writer", "-v", "writer:/p", "busybox", "sh", "-c", COUNT)
    id = engine.docker("inspect", "-f", "{{.Id}}", "writer").stdout.strip()
    engine.kill()
    control = next(path for path in map(Path, engine.cgroups()) if path.name == id and freezer(path) is not None)
    file = freezer(control)
    assert file is not None
    file.write_text("1" if file.name == "cgroup.freeze" else "FROZEN")
    engine.start()
    assert goes_on(engine, "writer")


def freezer(directory: Path) -> Path | None:
    names = [name for name in ("cgroup.freeze", "freezer.state") if os.path.exists(directory / name)]
    return directory / names[0] if names else None
