"""Volumes with options of the local driver: mounted while containers run, and never taken for our own directories."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


def create(cli: CLI, name: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return cli("volume", "create", *(word for option in options for word in ("-o", option)), name, check=check)


def mounted(engine: Engine, name: str) -> bool:
    return f" {engine.data_root}/volumes/{name}/_data " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.row("VOL-01", "VOL-14")
def test_a_tmpfs_volume_is_shared_while_one_container_runs(cli: CLI, engine: Engine) -> None:
    create(cli, "scratch", "type=tmpfs", "device=tmpfs", "o=size=2m,mode=0750")
    assert cli("volume", "inspect", "-f", "{{.Options.o}}", "scratch").stdout == "size=2m,mode=0750\n"
    cli("run", "-d", "--name", "holder", "-v", "scratch:/s", "busybox", "sleep", "999")
    cli("run", "--rm", "-v", "scratch:/s", "busybox", "sh", "-c", "echo fast > /s/f")
    assert cli("exec", "holder", "cat", "/s/f").stdout == "fast\n"
    assert cli("exec", "holder", "df", "-k", "/s").stdout.splitlines()[-1].split()[1] == "2048"
    assert mounted(engine, "scratch")
    cli("rm", "-f", "holder")
    until(lambda: not mounted(engine, "scratch"))
    assert cli("run", "--rm", "-v", "scratch:/s", "busybox", "ls", "/s").stdout == ""
    cli("volume", "rm", "scratch")


@pytest.mark.row("VOL-14")
def test_a_bind_volume_shows_a_directory_that_outlives_it(cli: CLI, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    options = ("type=none", f"device={tmp_path}", "o=bind")
    create(cli, "outside", *options)
    assert cli("run", "--rm", "-v", "outside:/o", "busybox", "cat", "/o/precious").stdout == "data"
    long = f"source=readonly,target=/o,volume-opt=type=none,volume-opt=device={tmp_path},volume-opt=o=bind"
    assert cli("run", "--rm", "--mount", long, "busybox", "cat", "/o/precious").stdout == "data"
    cli("volume", "rm", "outside", "readonly")
    assert (tmp_path / "precious").read_text() == "data"


def test_an_empty_bind_volume_gets_what_the_image_has(cli: CLI, tmp_path: Path) -> None:
    create(cli, "filled", "type=none", f"device={tmp_path}", "o=bind")
    cli("run", "--rm", "-v", "filled:/bin:ro", "busybox", "true")
    assert (tmp_path / "sh").exists()
    cli("volume", "rm", "filled")


@pytest.mark.row("VOL-14")
def test_what_cannot_be_mounted_is_said_and_nothing_is_left(cli: CLI, engine: Engine) -> None:
    create(cli, "lost", "type=none", "device=/no/such", "o=bind")
    cli("create", "--name", "user", "-v", "lost:/p:nocopy", "busybox", "true")
    done = cli("start", "user", check=False)
    path = f"{engine.data_root}/volumes/lost/_data"
    assert f"error while mounting volume '{path}': failed to mount local volume: mount /no/such:{path}" in done.stderr
    assert "no such file or directory" in done.stderr
    create(cli, "secret", "type=nfs", "device=:/x", "o=addr=127.0.0.1,password=hunter2,bogus")
    cli("create", "--name", "user2", "-v", "secret:/p:nocopy", "busybox", "true")
    failed = cli("start", "user2", check=False)
    assert failed.returncode != 0
    assert "hunter2" not in failed.stderr
    cli("rm", "-f", "user", "user2")
    cli("volume", "rm", "lost", "secret")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["color=red"], 'create bad: invalid option: "color"'),
        (["type=tmpfs"], 'create bad: missing required option: "device"'),
        (["device=/x"], 'create bad: missing required option: "type"'),
        (["size=1g"], "create bad: quota size requested but no quota support"),
    ],
)
@pytest.mark.row("VOL-01")
def test_bad_options_are_refused_in_dockers_words(cli: CLI, options: list[str], words: str) -> None:
    done = create(cli, "bad", *options, check=False)
    assert (done.returncode, words in done.stderr) == (1, True)
    assert "bad" not in cli("volume", "ls", "-q").stdout


def test_mounts_outlive_a_killed_daemon_as_long_as_their_containers(fresh_engine: Engine, tmp_path: Path) -> None:
    engine = fresh_engine
    (tmp_path / "precious").write_text("data")
    create(engine.docker, "kept", "type=tmpfs", "device=tmpfs")
    create(engine.docker, "left", "type=none", f"device={tmp_path}", "o=bind")
    engine.docker("run", "-d", "--name", "stays", "-v", "kept:/k", "busybox", "sleep", "999")
    engine.docker("run", "-d", "--name", "ends", "-v", "left:/l", "busybox", "sleep", "999")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "ends").stdout)
    engine.kill()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    engine.start()
    until(lambda: not mounted(engine, "left"))
    assert mounted(engine, "kept")
    engine.docker("rm", "-f", "stays", "ends")
    until(lambda: not mounted(engine, "kept"))
    engine.docker("volume", "rm", "kept", "left")
    assert (tmp_path / "precious").read_text() == "data"
