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


def test_a_daemon_killed_while_containers_are_still_lets_them_go_on(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for name in ("writer", "paused"):
        engine.docker("run", "-d", "--name", name, "-v", f"{name}:/p", "busybox", "sh", "-c", COUNT)
        until(lambda name=name: (engine.data_root / "volumes" / name / "_data/count").exists())  # type: ignore[misc]
    engine.docker("pause", "paused")
    for words in (("commit", "writer", "copy"), ("volume", "snapshot", "writer", "one")):
        engine.kill()
        engine.environment = {"BOXSHIP_FAILPOINT": "still.frozen"}
        engine.start()
        engine.boxship(*words, check=False)
        assert engine.process is not None
        assert engine.process.wait(30) == -9
        engine.process = None
        engine.environment = {}
        engine.start()
        assert goes_on(engine, "writer")
        assert engine.docker("inspect", "-f", "{{.State.Status}}", "paused").stdout == "paused\n"
    engine.boxship("volume", "snapshot", "writer", "two")
    assert goes_on(engine, "writer")
    freeze_behind_its_back(engine, "writer")
    assert goes_on(engine, "writer")
    engine.docker("unpause", "paused")
    assert goes_on(engine, "paused")


def freeze_behind_its_back(engine: Engine, name: str) -> None:
    """Leave what a daemon leaves that dies between the freezing and the row that says so."""
    id = engine.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    engine.kill()
    file = next(found for path in engine.cgroups() if Path(path).name == id and (found := freezer(Path(path))))
    file.write_text("1" if file.name == "cgroup.freeze" else "FROZEN")
    engine.start()


def freezer(directory: Path) -> Path | None:
    names = [name for name in ("cgroup.freeze", "freezer.state") if os.path.exists(directory / name)]
    return directory / names[0] if names else None
