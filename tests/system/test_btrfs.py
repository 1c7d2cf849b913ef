"""An engine whose data root is Btrfs, with its subvolumes as the storage driver."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.snapshots.drivers import open_snapshotter
from boxship.store import Store
from harness.engine import Engine
from harness.images import import_busybox
from harness.loop import filesystem

pytestmark = pytest.mark.system


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new file system, where engines find their place."""
    with filesystem("mkfs.btrfs --quiet", "noatime", 400 << 20) as directory:
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        yield directory


@pytest.mark.row("IMG-04")
def test_containers_and_images_are_subvolumes(volume: Path) -> None:
    engine = Engine(options=["--storage-driver=btrfs"])
    try:
        engine.start()
        assert engine.docker("info", "--format", "{{.Driver}}").stdout == "btrfs\n"
        import_busybox(engine)
        engine.docker("run", "--name", "one", "busybox", "sh", "-c", "echo kept >/own; rm -f /bin/ash")
        assert engine.docker("diff", "one").stdout.splitlines() == ["C /bin", "D /bin/ash", "A /own"]
        engine.docker("commit", "one", "child")
        assert engine.docker("run", "--rm", "child", "cat", "/own").stdout == "kept\n"
        assert engine.docker("inspect", "child", "--format", "{{.GraphDriver.Name}}").stdout == "btrfs\n"
        listed = subprocess.run(["btrfs", "subvolume", "list", volume], check=True, capture_output=True, text=True)
        assert listed.stdout.count("data/btrfs/subvolumes/") >= 4
        engine.kill()
        engine.start()
        assert engine.docker("start", "--attach", "one").returncode == 0
        engine.docker("rm", "one")
        engine.docker("rmi", "child", "busybox")
        left = subprocess.run(["btrfs", "subvolume", "list", volume], check=True, capture_output=True, text=True)
        assert "data/btrfs/subvolumes/" not in left.stdout
    finally:
        engine.close()


@pytest.mark.row("IMG-04")
def test_the_driver_is_refused_on_another_file_system(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    try:
        with pytest.raises(SystemFailure, match=r"prerequisites for driver not satisfied \(wrong filesystem\?\)"):
            open_snapshotter("/dev/shm", store, "btrfs")
    finally:
        store.close()
