"""Volumes when the daemon is killed in the middle of something, and when the disk is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import loop
from harness.engine import Engine
from harness.volumes import engine_on, is_mounted, sh
from harness.waiting import until

pytestmark = pytest.mark.system
OLD, NEW = "1\nlink\ntable\n", "2\nnew\ntable\n"
LOOK = "cat /p/table; ls -A /p"
KINDS = {"directory": (), "image": ("-o", "size=24m", "-o", "backing=image")}
CUTS = [
    ("directory", "volume.restore.built", NEW),
    ("directory", "volume.restore.swapped", OLD),
    ("image", "volume.restore.emptied", OLD),
]


def die_at(engine: Engine, place: str, *words: str) -> None:
    """Let the daemon die at a place of a command, and start again."""
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": place}
    engine.start()
    assert engine.boxship(*words, check=False).returncode != 0
    assert engine.process is not None
    assert engine.process.wait(30) == -9
    engine.process = None
    engine.environment = {}
    engine.start()


def left_beside(engine: Engine, volume: str) -> set[str]:
    return set(os.listdir(engine.data_root / "volumes" / volume)) - {"_data", "snapshots", "image"}


def test_a_kill_in_the_middle_of_a_restore_leaves_one_of_the_two(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for kind, place, expected in CUTS:
        engine.docker("volume", "create", *KINDS[kind], "db")
        sh(engine, "db", "echo 1 > /p/table; ln -s table /p/link")
        engine.boxship("volume", "snapshot", "db", "first")
        sh(engine, "db", "echo 2 > /p/table; rm /p/link; touch /p/new")
        die_at(engine, place, "volume", "restore", "db", "first")
        assert sh(engine, "db", LOOK) == expected, (kind, place)
        assert left_beside(engine, "db") == set()
        engine.boxship("volume", "restore", "db", "first")
        assert sh(engine, "db", LOOK) == OLD
        until(lambda: not is_mounted(engine, "db"))
        engine.docker("volume", "rm", "db")


def test_a_kill_in_the_middle_of_a_snapshot_and_of_an_import_leaves_nothing(fresh_engine: Engine) -> None:
    engine = fresh_engine
    sh(engine, "db", "echo 1 > /p/table")
    die_at(engine, "volume.snapshot.gathered", "volume", "snapshot", "db", "first")
    assert not list((engine.data_root / "volumes/db/snapshots/objects").glob("??/*"))
    assert engine.boxship("volume", "snapshots", "db").stdout.split() == ["SNAPSHOT", "CREATED", "SIZE"]
    engine.boxship("volume", "export", "-o", str(engine.root / "db.tar"), "db")
    die_at(engine, "volume.restore.built", "volume", "import", "other", str(engine.root / "db.tar"))
    assert left_beside(engine, "other") == set()
    assert sh(engine, "other", "ls -A /p") == ""
    engine.boxship("volume", "import", "other", str(engine.root / "db.tar"))
    assert sh(engine, "other", "cat /p/table") == "1\n"


def test_a_kill_in_the_middle_of_a_backup_leaves_the_snapshot_and_no_file(fresh_engine: Engine) -> None:
    engine = fresh_engine
    sh(engine, "db", "head -c 20000000 /dev/urandom > /p/big; echo 1 > /p/table")
    engine.boxship("volume", "snapshot", "db", "first")
    # The reader takes a little and waits, so the daemon cannot be done before it is killed.
    with contextlib.ExitStack() as stack:
        program = ("-c", "import sys; from boxship.cli.main import main; sys.exit(main())")
        client = subprocess.Popen(
            [*engine.namespace.prefix(), sys.executable, *program, "volume", "backup", "db", "first"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=engine.client_environment(),
        )
        assert client.stdout is not None
        stack.callback(client.kill)
        assert client.stdout.read(1000)
        engine.kill()
        _, said = client.communicate(timeout=60)
        assert client.returncode != 0, said
    engine.start()
    path = engine.root / "whole.tar"
    engine.boxship("volume", "backup", "-o", str(path), "db", "first")
    with tarfile.open(path) as tar:
        assert tar.getnames() == [".", "big", "table"]


@pytest.fixture
def small_disk() -> Iterator[Engine]:
    """An engine on a disk of 64 MB."""
    with loop.filesystem("mkfs.ext4 -q -F -m 0", "rw", 64 << 20) as directory, engine_on(directory) as engine:
        yield engine


@contextlib.contextmanager
def full(engine: Engine) -> Iterator[None]:
    """Leave little room on the engine's disk."""
    status = os.statvfs(engine.data_root)
    filler = engine.data_root / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - (1 << 20))
    try:
        yield
    finally:
        filler.unlink()


def test_f3_on_a_full_disk_each_says_so_leaves_nothing_and_works_later(small_disk: Engine, tmp_path: Path) -> None:
    engine = small_disk
    sh(engine, "db", "head -c 6000000 /dev/urandom > /p/big; echo 1 > /p/table")
    engine.boxship("volume", "snapshot", "db", "first")
    engine.boxship("volume", "backup", "-o", str(tmp_path / "db.tar"), "db", "first")
    sh(engine, "db", "head -c 6000000 /dev/urandom > /p/big; echo 2 > /p/table")
    objects = engine.data_root / "volumes/db/snapshots/objects"
    before = sorted(objects.glob("??/*"))
    with full(engine):
        for words in (
            ("snapshot", "db", "second"),
            ("restore", "db", "first"),
            ("export", "-o", str(tmp_path / "not.tar"), "db"),
            ("clone", "db", "copy"),
            ("import", "copy", str(tmp_path / "db.tar")),
        ):
            done = engine.boxship("volume", *words, check=False)
            assert (done.returncode, "no space left on device" in done.stderr.lower()) == (1, True), (
                words,
                done.stderr,
            )
        done = engine.docker("create", "-v", "filled:/bin", "--name", "box", "busybox", check=False)
        assert (done.returncode, "no space left on device" in done.stderr.lower()) == (1, True), done.stderr
        engine.boxship("volume", "backup", "-o", str(tmp_path / "again.tar"), "db", "first")
        assert engine.docker("volume", "ls", "-q").stdout == "db\n"
        assert sorted(objects.glob("??/*")) == before
        assert left_beside(engine, "db") == set()
    assert not (tmp_path / "not.tar").exists()
    assert sh(engine, "db", "cat /p/table") == "2\n"
    assert engine.boxship("volume", "snapshots", "db").stdout.split()[3] == "first"
    engine.boxship("volume", "restore", "db", "first")
    assert sh(engine, "db", "cat /p/table") == "1\n"
    engine.docker("create", "-v", "filled:/bin", "--name", "box", "busybox")
