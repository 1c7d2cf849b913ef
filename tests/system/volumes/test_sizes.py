"""Sizes of volumes: by project quota, as an image file, as a tmpfs; refused where nothing can keep them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from harness import loop
from harness.engine import Engine
from harness.images import import_program
from harness.volumes import QUOTAS, engine_on, is_mounted, loop_files, sh
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
FILL = "dd if=/dev/zero of=/p/f bs=1M count={}"
IMAGE = ("-o", "size=24m", "-o", "backing=image")
FULL = ("quota exceeded", "No space left")


@pytest.fixture(scope="module", params=QUOTAS)
def bounded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    make, options = QUOTAS[request.param]
    with loop.filesystem(make, options) as directory, engine_on(directory) as engine:
        yield engine


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    engine.docker("volume", "prune", "-af")
    assert loop_files(engine) == []


def is_full(said: str) -> bool:
    return any(words in said for words in FULL)


def test_a_quota_holds_and_can_be_changed(bounded: Engine) -> None:
    engine = bounded
    assert engine.docker("volume", "create", "-o", "size=8m", "db").stdout == "db\n"
    assert json.loads(engine.docker("volume", "inspect", "db").stdout)[0]["Options"] == {"size": "8m"}
    sh(engine, "db", FILL.format(6))
    assert is_full(sh(engine, "db", FILL.format(9), check=False))
    sh(engine, "db", "rm /p/f")
    sh(engine, "db", FILL.format(7))
    assert "the volume holds" in engine.boxship("volume", "update", "--size", "4m", "db", check=False).stderr
    engine.docker("run", "-d", "--name", "user", "-v", "db:/p", "busybox", "sleep", "999")
    engine.boxship("volume", "update", "--size", "16m", "db")
    engine.docker("exec", "user", "sh", "-c", FILL.format(14))
    engine.docker("rm", "-f", "user")
    assert engine.docker("volume", "inspect", "-f", "{{.Options.size}}", "db").stdout == "16m\n"
    assert is_full(sh(engine, "db", FILL.format(18), check=False))
    engine.docker("volume", "rm", "db")


def test_a_quota_outlives_restore_and_a_killed_daemon(bounded: Engine) -> None:
    engine = bounded
    engine.docker("volume", "create", "-o", "size=8m", "db")
    sh(engine, "db", FILL.format(6))
    engine.boxship("volume", "snapshot", "db", "six")
    sh(engine, "db", "rm /p/f; echo x > /p/x")
    engine.boxship("volume", "restore", "db", "six")
    assert sh(engine, "db", "ls /p") == "f\n"
    assert is_full(sh(engine, "db", "dd if=/dev/zero of=/p/g bs=1M count=4", check=False))
    assert is_full(engine.boxship("volume", "clone", "db", "copy").stdout) is False
    assert is_full(sh(engine, "copy", "dd if=/dev/zero of=/p/g bs=1M count=4", check=False))
    engine.kill()
    engine.start()
    assert is_full(sh(engine, "db", "dd if=/dev/zero of=/p/g bs=1M count=4", check=False))
    engine.docker("volume", "rm", "db", "copy")


def test_what_the_image_has_counts_and_must_fit(bounded: Engine) -> None:
    engine = bounded
    engine.docker("volume", "create", "-o", "size=300k", "small")
    done = engine.docker("create", "-v", "small:/bin", "busybox", check=False)
    assert (done.returncode, "quota exceeded" in done.stderr or "o space left" in done.stderr) == (1, True), done.stderr
    assert sh(engine, "small", "ls -A /p") == ""
    engine.docker("volume", "create", "-o", "size=30m", "large")
    engine.docker("run", "--rm", "-v", "large:/bin", "busybox", "true")
    assert is_full(sh(engine, "large", FILL.format(32), check=False))
    engine.docker("volume", "rm", "small", "large")


def test_an_image_file_is_a_volume_of_that_size(cli: CLI, engine: Engine) -> None:
    cli("volume", "create", *IMAGE, "db")
    assert not is_mounted(engine, "db")
    assert sh(engine, "db", "ls -A /p; stat -c %a:%u /p") == "755:0\n"
    sh(engine, "db", FILL.format(12))
    assert "No space left" in sh(engine, "db", FILL.format(40), check=False)
    until(lambda: not is_mounted(engine, "db"))
    shown = engine.api("GET", "/v1.44/system/df?type=volume")[1]["Volumes"]
    assert [each["UsageData"]["Size"] >= 12 << 20 for each in shown if each["Name"] == "db"] == [True]
    cli("volume", "rm", "db")
    assert loop_files(engine) == []


def test_an_image_file_gets_what_the_image_has_and_grows_in_use(engine: Engine) -> None:
    engine.docker("volume", "create", *IMAGE, "db")
    engine.docker("run", "-d", "--name", "user", "-v", "db:/bin", "busybox", "sleep", "999")
    assert "sh" in engine.docker("exec", "user", "ls", "/bin").stdout
    words = ("volume", "update", "--size", "64m", "--label-add", "a=b", "db")
    done = engine.boxship(*words, check=False)
    if done.returncode != 0:  # an engine with few rights, as in many containers
        assert "grows only where the engine has CAP_SYS_RESOURCE" in done.stderr
        engine.docker("stop", "-t", "0", "user")
        engine.boxship(*words)
        engine.docker("start", "user")
    engine.docker("exec", "user", "dd", "if=/dev/zero", "of=/bin/f", "bs=1M", "count=40")
    refused = engine.boxship("volume", "update", "--size", "32m", "db", check=False)
    assert "an image file cannot become smaller" in refused.stderr
    engine.docker("rm", "-f", "user")
    assert engine.docker("volume", "inspect", "-f", "{{.Options.size}} {{.Labels.a}}", "db").stdout == "64m b\n"
    assert sh(engine, "db", "stat -c %s /p/f") == f"{40 << 20}\n"


def test_a_tmpfs_has_the_size(engine: Engine) -> None:
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "size=2m", "fast")
    assert sh(engine, "fast", "df -k /p | tail -1 | awk '{print $2}'") == "2048\n"
    engine.docker("run", "-d", "--name", "user", "-v", "fast:/p", "busybox", "sleep", "999")
    engine.boxship("volume", "update", "--size", "4m", "fast")
    assert " 4096 " in engine.docker("exec", "user", "df", "-k", "/p").stdout
    engine.docker("rm", "-f", "user")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("size=1g",), "create bad: quota size requested but no quota support"),
        (("size=lots",), "create bad: invalid size: 'lots'"),
        (("size=0",), "create bad: invalid size: '0'"),
        (("size=1m", "backing=image"), "create bad: an image file of less than 16 MiB"),
        (("size=900g", "backing=image"), "create bad: No space left on device"),
        (("backing=image",), 'create bad: missing required option: "size"'),
        (("size=1m", "backing=paper"), 'create bad: invalid option: "backing=paper"'),
        (("size=1m", "type=none", "device=/tmp", "o=bind"), "no quota support for type none"),
        (("size=1m", "type=tmpfs", "device=tmpfs", "o=size=2m"), "conflicting options: size"),
    ],
)
def test_a_size_that_cannot_be_kept_is_refused(engine: Engine, options: tuple[str, ...], said: str) -> None:
    words = [word for option in options for word in ("-o", option)]
    done = engine.docker("volume", "create", *words, "bad", check=False)
    assert (done.returncode, said.lower() in done.stderr.lower()) == (1, True), done.stderr
    assert not os.path.lexists(engine.data_root / "volumes/bad")
    assert "bad" not in engine.docker("volume", "ls", "-q").stdout


@pytest.mark.parametrize("flags", [(), ("--availability", "drain")])
def test_the_update_of_a_volume_of_no_cluster_is_refused_in_dockers_words(cli: CLI, flags: tuple[str, ...]) -> None:
    cli("volume", "create", "plain")
    done = cli("volume", "update", *flags, "plain", check=False)
    assert (done.returncode, "can only update cluster volumes" in done.stderr) == (1, True), done.stderr


def test_the_api_refuses_it_as_an_engine_without_a_swarm_does(engine: Engine) -> None:
    answer = engine.api("PUT", "/volumes/x?version=1", {"Spec": {}})
    assert answer == (503, {"message": "volume update only valid for cluster volumes, but swarm is unavailable"})


def test_a_volume_of_a_cluster_needs_a_swarm(engine: Engine) -> None:
    body = {"Name": "shared", "ClusterVolumeSpec": {"AccessMode": {"Scope": "multi"}}}
    status, answer = engine.api("POST", "/volumes/create", body)
    assert (status, "This node is not a swarm manager" in answer["message"]) == (503, True)
    assert engine.docker("volume", "ls", "-q").stdout == ""


def test_labels_come_and_go(engine: Engine) -> None:
    engine.docker("volume", "create", "--label", "a=1", "--label", "b=2", "plain")
    engine.boxship("volume", "update", "--label-rm", "a", "--label-add", "c=3", "plain")
    shown = json.loads(engine.docker("volume", "inspect", "-f", "{{json .Labels}}", "plain").stdout)
    assert shown == {"b": "2", "c": "3"}


def test_loop_devices_go_with_a_killed_daemon_and_its_containers(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for name in ("stays", "ends"):
        engine.docker("volume", "create", *IMAGE, name)
        engine.docker("run", "-d", "--name", name, "-v", f"{name}:/p", "busybox", "sleep", "999")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "ends").stdout)
    engine.kill()
    os.kill(pid, signal.SIGKILL)
    volume = engine.data_root / "volumes/ends"
    (volume / ".image.partial").touch()
    engine.start()
    until(lambda: loop_files(engine) == [str(engine.data_root.resolve() / "volumes/stays/image")])
    assert not (volume / ".image.partial").exists()
    engine.docker("exec", "stays", "touch", "/p/on")
    engine.docker("rm", "-f", "stays", "ends")
    until(lambda: loop_files(engine) == [])
    assert sh(engine, "stays", "ls /p") == "on\n"
    until(lambda: loop_files(engine) == [])


def test_no_file_of_a_bounded_volume_gets_out_of_its_quota(bounded: Engine) -> None:
    import_program(bounded, "chattr", "chattr")
    bounded.docker("volume", "create", "-o", "size=8m", "db")
    script = f"chattr -p 0 /p; chattr -P /p; : > /p/f; chattr -p 0 /p/f; chattr +P /p/f; {FILL.format(9)}"
    done = bounded.docker("run", "--rm", "-v", "db:/p", "chattr", "sh", "-c", script, check=False)
    assert is_full(done.stderr), done.stderr
    bounded.docker("volume", "rm", "db")
