"""Mounts with other owners: what the container's user writes belongs to the one who owns the directory on the host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import loop
from harness.engine import Engine
from harness.images import import_busybox

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
OWNER = 4321


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of somebody's on the host, with a file."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "mine").write_text("old")
    for path in (directory, directory / "mine"):
        os.chown(path, OWNER, OWNER + 1)
    return directory


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_what_container_root_writes_belongs_to_the_owner_of_the_directory(cli: CLI, home: Path) -> None:
    script = "stat -c %u:%g /h /h/mine; touch /h/new; mkdir /h/d; echo new > /h/mine"
    assert cli("run", "--rm", "-v", f"{home}:/h:idmap", "busybox", "sh", "-c", script).stdout == "0:0\n0:0\n"
    assert [owner(home / name) for name in ("new", "d", "mine")] == [(OWNER, OWNER + 1)] * 3
    assert (home / "mine").read_text() == "new\n"


def test_another_user_of_the_container_is_the_owner_too(engine: Engine, home: Path) -> None:
    words = ("--user", "app", "--mount", f"type=bind,src={home},dst=/h,idmap", "busybox", "sh", "-c")
    assert engine.boxship("run", "--rm", *words, "stat -c %u:%g /h; touch /h/new").stdout == "1000:1000\n"
    assert owner(home / "new") == (OWNER, OWNER + 1)


def test_who_is_neither_stays_who_he_is(cli: CLI, home: Path) -> None:
    (home / "roots").touch()
    script = "stat -c %u /h/roots; touch /h/x; chown 999 /h/x; chown 4321 /h/x"
    done = cli("run", "--rm", "-v", f"{home}:/h:idmap", "busybox", "sh", "-c", script, check=False)
    assert done.stdout == "65534\n"  # root of the host is not the container's root here
    assert "chown" in done.stderr  # nor can anybody become the owner by his number
    assert owner(home / "x")[0] == 999


def test_ranges_say_whose_ids_are_whose(cli: CLI, home: Path) -> None:
    ranges = f"idmap=uids={OWNER}-0-1#100000-1-999;gids={OWNER + 1}-0-1000"
    script = "stat -c %u:%g /h/mine; touch /h/a; chown 5:6 /h/a; touch /h/b; chown 2000 /h/b"
    done = cli("run", "--rm", "-v", f"{home}:/h:rw,{ranges}", "busybox", "sh", "-c", script, check=False)
    assert done.stdout == "0:0\n"
    assert "chown: /h/b" in done.stderr
    assert owner(home / "a") == (100004, OWNER + 7)


def test_named_volumes_files_and_read_only_mounts_take_it_too(engine: Engine, home: Path) -> None:
    engine.docker("volume", "create", "data")
    data = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "data").stdout.strip())
    os.chown(data, OWNER, OWNER)
    engine.docker("run", "--rm", "-v", "data:/d:idmap", "busybox", "touch", "/d/new")
    assert owner(data / "new") == (OWNER, OWNER)
    done = engine.docker(
        *("run", "--rm", "-v", f"{home}/mine:/f:ro,idmap", "busybox", "sh", "-c", "stat -c %u /f; echo > /f"),
        check=False,
    )
    assert (done.stdout, "Read-only" in done.stderr) == ("0\n", True)
    engine.docker("volume", "rm", "data")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("idmap=uids=1-2", "is not ON_DISK-IN_CONTAINER-COUNT"),
        ("idmap=uids=0-0-5#3-9-1", "ranges overlap"),
        ("idmap=pids=0-0-1", "it has uids=RANGES and gids=RANGES"),
        ("idmap=uids=4294967295-0-1", "has no ids, or too many"),
        ("idmapped", "invalid mode: idmapped"),
    ],
)
def test_bad_ranges_are_refused(engine: Engine, home: Path, mode: str, said: str) -> None:
    done = engine.docker("create", "-v", f"{home}:/h:{mode}", "busybox", check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr


@pytest.fixture
def without_owners() -> Iterator[Path]:
    """A directory on a file system whose ids cannot be mapped."""
    with (
        loop.filesystem("mkfs.ext4 -q -F", "rw", 8 << 20) as lower,
        loop.filesystem("mkfs.ext4 -q -F", "rw", 8 << 20) as up,
    ):
        for name in ("upper", "work"):
            (up / name).mkdir()
        target = up / "merged"
        target.mkdir()
        options = f"lowerdir={lower},upperdir={up}/upper,workdir={up}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", target], check=True)
        try:
            os.chown(target, OWNER, OWNER)
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


def test_a_file_system_that_cannot_says_so(engine: Engine, without_owners: Path) -> None:
    done = engine.docker("run", "--rm", "-v", f"{without_owners}:/h:idmap", "busybox", "true", check=False)
    assert done.returncode == 125
    assert f"idmapped mounts are not supported by the file system of {without_owners}" in done.stderr


def test_a_running_container_gets_such_a_mount_by_a_restart(engine: Engine, home: Path) -> None:
    engine.docker("run", "-d", "--stop-timeout", "0", "--name", "box", "busybox", "sleep", "999")
    words = ("update", "--mount-add", f"type=bind,src={home},dst=/h,idmap", "box")
    done = engine.boxship(*words, check=False)
    assert (done.returncode, "a restart" in done.stderr) == (1, True), done.stderr
    engine.boxship("update", "--apply", "restart", *words[1:])
    assert engine.docker("exec", "box", "stat", "-c", "%u", "/h").stdout == "0\n"
    engine.docker("rm", "-f", "box")


def test_owners_are_right_with_a_user_namespace_too(home: Path) -> None:
    engine = Engine(options=["--userns-remap=default"])
    engine.isolate_cgroups()
    try:
        engine.start()
        import_busybox(engine)
        home.parent.chmod(0o755)
        script = "stat -c %u:%g /h; touch /h/new"
        assert engine.docker("run", "--rm", "-v", f"{home}:/h:idmap", "busybox", "sh", "-c", script).stdout == "0:0\n"
        assert owner(home / "new") == (OWNER, OWNER + 1)
    finally:
        engine.close()
