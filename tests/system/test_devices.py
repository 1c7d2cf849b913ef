"""Devices by name (CDI), hooks that they bring, and the init program of our own, in containers."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.engine import init
from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = pytest.mark.system

OWN_INIT = Path(init.__file__).parent / f"docker-init.{platform.machine()}"
POINTS = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with CDI directories of its own, whose --init is the program that Boxship brings along."""
    engine = Engine()
    directories = [engine.root / "etc-cdi", engine.root / "run-cdi"]
    (engine.root / "init").write_bytes(OWN_INIT.read_bytes())
    (engine.root / "init").chmod(0o755)
    engine.options += [f"--init-path={engine.root}/init", *(f"--cdi-spec-dir={path}" for path in directories)]
    for path in directories:
        path.mkdir()
    write(directories[0] / "net.json", "vendor.com/net", one=edits(engine.root), two={"env": ["TWO=etc"]})
    write(directories[1] / "net.json", "vendor.com/net", two={"env": ["TWO=run"]})
    write(directories[0] / "gpu.json", "nvidia.com/gpu", **{"0": {"env": ["GPU=0"]}, "all": {"env": ["GPU=all"]}})
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


def write(path: Path, kind: str, **devices: dict[str, Any]) -> None:
    listed = [{"name": name, "containerEdits": value} for name, value in devices.items()]
    path.write_text(json.dumps({"cdiVersion": "0.7.0", "kind": kind, "devices": listed}))


def edits(root: Path) -> dict[str, Any]:
    """Return edits of every kind; each hook leaves its state document in a file, or in the container's root."""
    (root / "library").mkdir()
    (root / "library" / "lib.so").write_text("library\n")
    hooks = [
        {
            "hookName": point,
            "path": "/bin/sh",
            "args": ["sh", "-c", f"cat > {'' if point == 'startContainer' else root}/hook-{point}"],
            "env": ["PATH=/bin"],
        }
        for point in POINTS
    ]
    return {
        "env": ["VENDOR=yes"],
        "deviceNodes": [
            {"path": "/dev/vendor0", "hostPath": "/dev/zero"},
            {"path": "/dev/vendor1", "hostPath": "/dev/loop-control", "permissions": "r"},
        ],
        "mounts": [
            {"hostPath": f"{root}/library", "containerPath": "/opt/vendor", "options": ["ro", "nosuid", "bind"]}
        ],
        "hooks": hooks,
        "additionalGids": [4711],
    }


@pytest.mark.row("RES-16")
def test_a_device_by_name_brings_node_rule_mount_environment_groups_and_hooks(engine: Engine) -> None:
    script = (
        "echo $VENDOR; stat -c %t:%T /dev/vendor0; head -c 3 /dev/vendor0 | wc -c; id -G; cat /opt/vendor/lib.so;"
        "touch /opt/vendor/x 2>&1; (: < /dev/vendor1) && echo open; (: > /dev/vendor1) 2>&1; tail -n 1 /hook-startContainer | head -c 13"
    )
    run = ("run", "--name", "it", "--annotation", "org.example=x", "--device", "vendor.com/net=one", "busybox")
    lines = engine.docker(*run, "sh", "-c", script).stdout.splitlines()
    assert lines[:2] == ["yes", "1:5"]
    assert lines[2] == "3"
    assert "4711" in lines[3].split()
    assert lines[4] == "library"
    assert "Read-only file system" in lines[5]
    assert lines[6] == "open"
    assert "Operation not permitted" in lines[7]
    assert lines[8].startswith('{"ociVersion"')
    id = engine.api("GET", "/containers/it/json")[1]["Id"]
    states = {point: engine.root / f"hook-{point}" for point in POINTS if point != "startContainer"}
    until(lambda: all(path.exists() and path.read_text() for path in states.values()))
    documents = {point: json.loads(path.read_text()) for point, path in states.items()}
    assert {document["id"] for document in documents.values()} == {id}
    assert [documents[point]["status"] for point in ("createRuntime", "poststart", "poststop")] == [
        "creating",
        "running",
        "stopped",
    ]
    assert {document["annotations"]["org.example"] for document in documents.values()} == {"x"}
    engine.docker("rm", "-f", "it")


@pytest.mark.row("RES-16")
def test_a_later_directory_and_gpus_by_name(engine: Engine) -> None:
    for flags, variable, value in (
        (("--device", "vendor.com/net=two"), "TWO", "run"),
        (("--gpus", "all"), "GPU", "all"),
        (("--gpus", "1"), "GPU", "0"),
        (("--gpus", "device=0"), "GPU", "0"),
    ):
        shown = engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", f"echo ${variable}").stdout
        assert shown == f"{value}\n"


@pytest.mark.row("RES-16")
def test_devices_that_there_are_not_are_refused_and_nothing_starts(engine: Engine) -> None:
    refused = engine.docker("run", "--name", "no", "--device", "vendor.com/net=none", "busybox", check=False)
    assert refused.returncode == 125
    assert "CDI device injection failed: unresolvable CDI devices vendor.com/net=none" in refused.stderr
    assert engine.api("GET", "/containers/no/json")[1]["State"]["Status"] == "created"
    engine.docker("rm", "no")


@pytest.mark.row("RES-16")
def test_info_lists_what_there_is_as_the_version_of_the_api_has_it(engine: Engine) -> None:
    info = engine.api("GET", "/v1.51/info")[1]
    assert info["CDISpecDirs"] == [f"{engine.root}/etc-cdi", f"{engine.root}/run-cdi"]
    names = ["nvidia.com/gpu=0", "nvidia.com/gpu=all", "vendor.com/net=one", "vendor.com/net=two"]
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": name} for name in names]
    assert "DiscoveredDevices" not in engine.api("GET", "/v1.49/info")[1]
    assert "CDISpecDirs" not in engine.api("GET", "/v1.42/info")[1]


@pytest.mark.row("RES-16")
def test_an_image_chooses_no_devices(engine: Engine) -> None:
    engine.docker("create", "--name", "base", "busybox", "env")
    changes = [
        "ENV NVIDIA_VISIBLE_DEVICES=all",
        "LABEL cdi.k8s.io/devices=nvidia.com/gpu=all",
        "LABEL com.nvidia.volumes.needed=nvidia_driver",
    ]
    engine.docker("commit", *(word for change in changes for word in ("--change", change)), "base", "greedy")
    assert "GPU=" not in engine.docker("run", "--rm", "greedy").stdout.replace("NVIDIA", "")
    engine.docker("rm", "base")
    engine.docker("rmi", "greedy")


@pytest.mark.row("RUN-43")
def test_our_own_init_is_seen_as_dockers_and_takes_zombies_away(engine: Engine) -> None:
    script = "(until [ -e /go ]; do usleep 20000; done &) ; trap 'exit 9' TERM; echo up; while :; do usleep 50000; done"
    engine.docker("run", "-d", "--init", "--name", "careful", "busybox", "sh", "-c", script)
    until(lambda: engine.docker("logs", "careful").stdout == "up\n")
    arguments = engine.docker("exec", "careful", "cat", "/proc/1/cmdline").stdout.split("\0")
    assert arguments[:4] == ["/sbin/docker-init", "--", "sh", "-c"]
    engine.docker("exec", "careful", "touch", "/go")
    stats = 'cat /proc/[0-9]*/stat 2>/dev/null | grep -c ") Z"'
    until(lambda: engine.docker("exec", "careful", "sh", "-c", stats, check=False).stdout == "0\n")
    engine.docker("kill", "-s", "TERM", "careful")
    assert engine.docker("wait", "careful").stdout == "9\n"
    engine.docker("rm", "careful")
    assert engine.docker("run", "--rm", "--init", "busybox", "nosuch", check=False).returncode == 127
    assert engine.docker("run", "--rm", "-t", "--init", "busybox", "tty").stdout.strip() == "/dev/pts/0"
