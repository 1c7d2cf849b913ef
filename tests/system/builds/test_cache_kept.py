"""What a build finished is kept while it goes on: its daemon may be killed at any moment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

STEPS = "FROM busybox\nRUN echo one > /1\nRUN echo two > /2\n"


def _build(engine: Engine, directory: Path, dockerfile: str) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "build", str(directory)],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def _kept(engine: Engine) -> int:
    """Return how many results are written down: one that is not has served nobody yet."""
    rows = engine.api("GET", "/v1.41/system/df")[1].get("BuildCache") or []
    return sum(row["UsageCount"] > 0 for row in rows)


@pytest.mark.row("BLD-04")
def test_steps_of_a_build_whose_daemon_is_killed_are_not_made_again(tmp_path: Path) -> None:
    engine = Engine()
    client: subprocess.Popen[str] | None = None
    try:
        engine.start()
        import_busybox(engine)
        client = _build(engine, tmp_path / "c", STEPS + "RUN sleep 1000\n")
        until(lambda: _kept(engine) == 2, 60)
        engine.kill()
        client.communicate(timeout=30)
        engine.start()

        said, _ = _build(engine, tmp_path / "c", STEPS + "RUN cat /1 /2\n").communicate(timeout=60)

        assert said.count("Using cache") == 2, said
        assert "one\ntwo\n" in said
        assert engine.boxship("system", "fsck").stdout == "nothing is wrong\n"
    finally:
        if client is not None:
            client.kill()
            client.communicate()
        engine.close()
