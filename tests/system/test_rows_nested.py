"""Containers that use the engine they run in, images for other platforms, and everything that inspect and port tell."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.dockercli import static_docker_cli
from harness.engine import Engine

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.row("RUN-48")
def test_a_container_with_the_socket_drives_the_engine(cli: CLI, engine: Engine) -> None:
    program = static_docker_cli()
    socket = ("-v", f"{engine.socket}:/var/run/docker.sock", "-v", f"{program}:/bin/docker:ro")
    script = "docker ps -a -f name=outer --format '{{.Names}}'; docker run --rm --name inner busybox echo from inside; docker rm -f other"
    cli("create", "--name", "other", "busybox")
    shown = cli("run", "--rm", "--name", "outer", *socket, "busybox", "sh", "-c", script)
    assert shown.stdout == "outer\nfrom inside\nother\n"
    assert cli("ps", "-aq").stdout == ""
    refused = cli("run", "--rm", "-u", "app", *socket, "busybox", "docker", "ps", check=False)
    assert "permission denied while trying to connect to the" in refused.stderr


@pytest.mark.row("RUN-45")
def test_an_image_of_another_platform_is_not_taken(cli: CLI, engine: Engine, tmp_path: Path) -> None:
    words = ("run", "--rm", "--pull", "never", "--platform")
    wrong = cli(*words, "linux/arm64", "busybox", "true", check=False)
    assert wrong.returncode == 125
    assert (
        "image with reference busybox was found but does not provide the specified platform (linux/arm64)"
        in wrong.stderr
    )
    assert cli(*words, "linux/amd64", "busybox", "echo", "right").stdout == "right\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    (tmp_path / "root.tar").write_bytes(buffer.getvalue())
    cli("import", "--platform", "linux/arm64", str(tmp_path / "root.tar"), "foreign:1")
    assert cli("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "foreign:1").stdout == "linux/arm64\n"
    created = cli("create", "--name", "foreign", "foreign:1", "/program")
    assert "does not match the detected host platform (linux/amd64" in created.stderr
    cli("rm", "foreign")
    cli("rmi", "foreign:1")


@pytest.mark.row("RUN-27")
def test_inspect_tells_health_size_and_kind(cli: CLI) -> None:
    cli("run", "-d", "--name", "same", "--health-cmd", "true", "busybox", "sh", "-c", "echo 12345 >/file; sleep 1000")
    [document] = json.loads(cli("inspect", "-s", "same").stdout)
    assert document["State"]["Health"]["Status"] in ("starting", "healthy")
    assert document["SizeRootFs"] > document["SizeRw"] >= 0
    assert cli(
        "inspect", "-f", "{{.State.Health.FailingStreak}} {{.NetworkSettings.Networks.bridge.Gateway}}", "same"
    ).stdout == ("0 172.17.0.1\n")
    cli("volume", "create", "same")
    assert "State" in json.loads(cli("inspect", "same").stdout)[0]
    assert json.loads(cli("inspect", "--type", "volume", "same").stdout)[0]["Driver"] == "local"
    assert json.loads(cli("inspect", "--type", "network", "bridge").stdout)[0]["Driver"] == "bridge"
    assert json.loads(cli("inspect", "bridge", "busybox").stdout)[1]["RepoTags"] == ["busybox:latest"]
    wrong = cli("inspect", "--type", "container", "busybox", check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "[]\n")
    assert "No such container: busybox" in wrong.stderr
    wrong = cli("inspect", "--type", "planet", "same", check=False)
    assert (wrong.returncode, 'unknown type: "planet": must be one of' in wrong.stderr) == (1, True)
    cli("rm", "-f", "same")
    cli("volume", "rm", "same")
