"""The cache stays within the bounds of daemon.json, and ``builder prune`` within its flags."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SIZE = 1_000_000  # bytes of each step's file


def _build(engine: Engine, directory: Path, *names: str) -> None:
    """Build the image ``large`` with a file for each name."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_bytes(name.encode() * (SIZE // len(name)))
    (directory / "Dockerfile").write_text("FROM busybox\n" + "".join(f"COPY {name} /\n" for name in names))
    engine.boxship("build", "-q", "-t", "large", str(directory))


def _forget_images(engine: Engine) -> None:
    """Remove all images but busybox: what is left of them belongs to the cache alone."""
    for image in engine.api("GET", "/images/json?all=1")[1]:
        if image["RepoTags"] != ["busybox:latest"]:
            engine.api("DELETE", f"/images/{image['Id']}?force=1")


def _descriptions(engine: Engine) -> list[str]:
    rows = engine.api("GET", "/v1.41/system/df")[1].get("BuildCache") or []
    return sorted(row["Description"].rpartition("COPY ")[2] for row in rows)


@pytest.mark.row("BLD-32")
def test_the_cache_stays_within_the_bounds_of_the_configuration(tmp_path: Path) -> None:
    engine = Engine()
    configuration = engine.root / "daemon.json"
    try:
        configuration.write_text(json.dumps({"builder": {"gc": {"enabled": False}}}))
        engine.start()
        import_busybox(engine)
        _build(engine, tmp_path / "c", "a", "b", "c")
        _forget_images(engine)
        assert _descriptions(engine) == ["a /", "b /", "c /"]

        policy = [{"filter": ["description=COPY nothing"], "all": True}, {"maxUsedSpace": f"{2 * SIZE}", "all": True}]
        configuration.write_text(json.dumps({"builder": {"gc": {"policy": policy}}, "labels": ["read=again"]}))
        assert engine.process is not None
        engine.process.send_signal(signal.SIGHUP)
        until(lambda: engine.api("GET", "/info")[1]["Labels"] == ["read=again"], 30)
        _build(engine, tmp_path / "d", "d")

        until(lambda: _descriptions(engine) == ["a /", "b /", "d /"], 30)  # what an image has does not count
    finally:
        engine.close()


@pytest.mark.row("BLD-32")
def test_prune_leaves_what_its_flags_say(engine: Engine, tmp_path: Path) -> None:
    _build(engine, tmp_path / "c", "a", "b", "c")
    _forget_images(engine)

    free = engine.boxship("builder", "prune", "--force", "--all", "--min-free-space", "1b").stdout
    reserved = engine.boxship("builder", "prune", "--force", "--all", "--max-used-space", "1", "--reserved-space", "5m")
    some = engine.boxship("builder", "prune", "--force", "--all", "--max-used-space", f"{2 * SIZE}").stdout
    left = _descriptions(engine)
    engine.docker("builder", "prune", "--force", "--all", "--keep-storage", f"{SIZE}")
    last = _descriptions(engine)
    everything = engine.boxship("builder", "prune", "--force", "--all").stdout

    assert free == reserved.stdout == "Total reclaimed space: 0B\n"
    assert left == ["a /", "b /"] and some.endswith("Total reclaimed space: 1MB\n")
    assert last == ["a /"]
    assert everything.startswith("Deleted build cache objects:\n") and _descriptions(engine) == []
