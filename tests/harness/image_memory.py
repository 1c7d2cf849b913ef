"""How much memory boxshipd needs to handle an image."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.engine import Engine


def growth(engine: Engine, archive: Path, name: str) -> dict[str, int]:
    """Load, save, push and pull the image ``name`` (registry, repository, tag) of a docker-archive.

    Returns by how many KiB the daemon's resident memory grew at most in each call, from before the first one.
    """
    assert engine.process is not None
    pid, grown = engine.process.pid, {}
    before = _resident(pid, "VmRSS")
    for call, words in (
        ("load", ("load", "-q", "-i", str(archive))),
        ("save", ("save", name)),
        ("push", ("push", "-q", name)),
        ("rmi", ("rmi", name)),
        ("pull", ("pull", "-q", name)),
    ):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew, see proc(5)
        subprocess.run(
            [*engine.namespace.prefix(), "docker", *words],
            env=engine.client_environment(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        grown[call] = _resident(pid, "VmHWM") - before
    return grown


def _resident(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
