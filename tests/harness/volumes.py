"""Volumes in system tests: engines on file systems of their own, and words run with a volume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.engine import Engine
from harness.images import import_busybox

QUOTAS = {
    "ext4": ("mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota", "prjquota"),
    "xfs": ("mkfs.xfs -q", "pquota"),
}


@contextlib.contextmanager
def engine_on(directory: Path) -> Iterator[Engine]:
    """Run an engine whose data root is there."""
    engine = Engine()
    engine.isolate_cgroups()
    (engine.root / "data").symlink_to(directory)
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


def sh(engine: Engine, volume: str, script: str, *, check: bool = True) -> str:
    """Run a shell script with the volume at /p; return all that it said."""
    done = engine.docker("run", "--rm", "-v", f"{volume}:/p", "busybox", "sh", "-c", script, check=check)
    return done.stdout + done.stderr


def is_mounted(engine: Engine, volume: str) -> bool:
    """Tell whether something is mounted on the volume's data."""
    data = f"{engine.data_root.resolve()}/volumes/{volume}/_data"
    return any(line.split()[4] == data for line in Path("/proc/self/mountinfo").read_text().splitlines())


def loop_files(engine: Engine) -> list[str]:
    """Return the files of the engine that are behind loop devices, mounted here or such that do not go by themselves.

    A device that goes with its last user may have one in a mount namespace that somebody else made meanwhile.
    """
    root = str(engine.data_root.resolve())
    mounted = {line.split(" - ")[1].split()[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    found = []
    for device in Path("/sys/block").glob("loop*"):
        try:
            file = (device / "loop/backing_file").read_text().strip()
            goes = (device / "loop/autoclear").read_text().strip() == "1"
        except OSError:
            continue  # it has no file, or not any more
        if file.startswith(root) and (f"/dev/{device.name}" in mounted or not goes):
            found.append(file)
    return found
