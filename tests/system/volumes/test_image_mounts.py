"""``--mount type=image``: another image, read-only, at a place of a container; kept for as long as the container is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import busybox_tar
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def tools(engine: Engine) -> None:
    import_tools(engine)


def import_tools(engine: Engine) -> None:
    """Give the engine the image ``tools`` of two layers: busybox's, and one with a few files."""
    path = engine.root / "tools.tar"
    path.write_bytes(busybox_tar())
    engine.docker("import", str(path), "plain")
    script = "mkdir -p /opt/d; echo inside > /opt/d/file; ln -s /etc/passwd /opt/link; rm /bin/vi; chown 7:8 /opt/d"
    engine.docker("run", "--name", "made", "plain", "/bin/sh", "-c", script)
    engine.docker("commit", "made", "tools")
    engine.docker("rm", "made")


def mounted_trees(engine: Engine) -> list[str]:
    below = f"{engine.data_root}/overlay2/"
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {below}" in line]


@pytest.mark.row("VOL-05")
def test_an_image_is_mounted_read_only(cli: CLI) -> None:
    script = "cat /t/opt/d/file; stat -c %u:%g /t/opt/d; ls /t/bin/vi; touch /t/new"
    done = cli(
        "run", "--rm", "--mount", "type=image,source=tools,target=/t", "busybox", "sh", "-c", script, check=False
    )
    assert done.stdout == "inside\n7:8\n"
    assert "/t/bin/vi: No such file" in done.stderr
    assert "/t/new: Read-only file system" in done.stderr
    words = ("--mount", "readonly=false,dst=/t,type=image,src=tools:latest", "busybox", "touch", "/t/new")
    assert "Read-only file system" in cli("run", "--rm", *words, check=False).stderr


@pytest.mark.row("VOL-05")
def test_a_part_of_an_image_is_mounted(cli: CLI) -> None:
    part = "type=image,source=tools,target=/t,image-subpath=opt/d"
    assert cli("run", "--rm", "--mount", part, "busybox", "ls", "/t").stdout == "file\n"
    file = "type=image,source=tools,target=/f,image-subpath=opt/d/file"
    assert cli("run", "--rm", "--mount", file, "busybox", "cat", "/f").stdout == "inside\n"
    for subpath, said in (("../x", "must not be absolute or contain"), ("no/such", "no such file or directory")):
        gone = cli(
            "run", "--rm", "--mount", f"type=image,src=tools,dst=/t,image-subpath={subpath}", "busybox", check=False
        )
        assert gone.returncode != 0
        assert said in gone.stderr


def test_a_link_of_the_image_leads_nowhere_outside_of_it(engine: Engine) -> None:
    link = "type=image,source=tools,target=/f,image-subpath=opt/link"
    assert "app:x:1000" in engine.docker("run", "--rm", "--mount", link, "busybox", "cat", "/f").stdout


@pytest.mark.row("VOL-05")
def test_inspect_shows_the_mount_as_docker_does(cli: CLI, engine: Engine) -> None:
    cli("create", "--name", "box", "--mount", "type=image,src=tools,dst=/t", "busybox")
    (shown,) = json.loads(cli("inspect", "box").stdout)[0]["Mounts"]
    source = shown.pop("Source")
    assert shown == {
        "Type": "image",
        "Name": "tools",
        "Destination": "/t",
        "Mode": "",
        "RW": False,
        "Propagation": "",
    }
    assert source.startswith(str(engine.data_root))


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("type=image,target=/t", 'invalid mount config for type "image": field Source must not be empty'),
        ("type=image,source=nowhere,target=/t", "No such image: nowhere:latest"),
    ],
)
def test_an_image_that_is_not_there_is_not_fetched(engine: Engine, mount: str, said: str) -> None:
    before = snapshots(engine)
    done = engine.docker("create", "--pull=never", "--mount", mount, "busybox", check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert snapshots(engine) == before


def snapshots(engine: Engine) -> list[str]:
    return sorted(os.listdir(engine.data_root / "overlay2"))


@pytest.mark.row("VOL-05")
def test_a_mounted_image_is_in_use(cli: CLI, engine: Engine) -> None:
    before = snapshots(engine)
    cli("run", "-d", "--name", "box", "--mount", "type=image,src=tools,dst=/t", "busybox", "sleep", "999")
    refused = cli("rmi", "tools", check=False)
    assert "is using its referenced image" in refused.stderr
    id = cli("image", "inspect", "-f", "{{.Id}}", "tools").stdout.strip()
    refused = cli("rmi", "-f", id, check=False)
    assert "(cannot be forced) - image is being used by running container" in refused.stderr
    assert "tools" not in cli("image", "prune", "-af").stdout
    cli("stop", "-t", "0", "box")
    until(lambda: mounted_trees(engine) == [])
    cli("rmi", "-f", "tools")
    cli("start", "box")
    assert cli("exec", "box", "cat", "/t/opt/d/file").stdout == "inside\n"
    cli("rm", "-f", "box")
    until(lambda: mounted_trees(engine) == [])
    assert set(snapshots(engine)) <= set(before)
    import_tools(engine)


def test_files_come_out_of_the_mount_of_a_container_that_does_not_run(engine: Engine, tmp_path: Path) -> None:
    whole, part = "type=image,src=tools,dst=/t", "type=image,src=tools,dst=/p,image-subpath=opt/d"
    engine.docker("create", "--name", "box", "--mount", whole, "--mount", part, "busybox")
    engine.docker("cp", "box:/t/opt/d/file", str(tmp_path / "one"))
    engine.docker("cp", "box:/p/file", str(tmp_path / "two"))
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["inside\n", "inside\n"]
    refused = engine.docker("cp", str(tmp_path / "one"), "box:/t/opt", check=False)
    assert "read-only" in refused.stderr


def test_an_image_cannot_be_added_later(engine: Engine) -> None:
    engine.docker("create", "--name", "box", "busybox")
    done = engine.boxship("update", "--mount-add", "type=image,src=tools,dst=/t", "box", check=False)
    assert (done.returncode, "images are mounted when a container is created" in done.stderr) == (1, True)


def test_the_mount_outlives_a_killed_daemon_and_goes_with_the_container_or_its_shim(fresh_engine: Engine) -> None:
    engine = fresh_engine
    import_tools(engine)
    words = ("--mount", "type=image,src=tools,dst=/t", "busybox", "sleep", "999")
    engine.docker("run", "-d", "--name", "stays", *words)
    engine.docker("run", "-d", "--name", "ends", *words)
    pids = [int(engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout) for name in ("stays", "ends")]
    engine.kill()
    os.kill(pids[1], signal.SIGKILL)
    engine.start()
    assert engine.docker("exec", "stays", "cat", "/t/opt/d/file").stdout == "inside\n"
    until(lambda: len(mounted_trees(engine)) == 2)
    assert engine.boxship("system", "fsck").returncode == 0
    engine.docker("start", "ends")
    id = engine.docker("inspect", "-f", "{{.Id}}", "ends").stdout.strip()
    record = json.loads((engine.exec_root / "shims" / id / "state.json").read_text())
    os.kill(record["shim_pid"], signal.SIGKILL)
    until(lambda: len(mounted_trees(engine)) == 2)
    engine.docker("rm", "-f", "stays")
    until(lambda: mounted_trees(engine) == [])
