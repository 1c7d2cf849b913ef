"""A busybox root filesystem, configurations for it, and containers started from a process of their own."""

import base64
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.runtime.commands.describe import default_spec

SOURCE = Path(__file__).parents[3] / "src"
STARTER = Path(__file__).parent / "starter.py"

DOCKER_CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
]


class Result:
    """How a start went: ``error``, ``code``, ``status``, ``console``, ``execs``, ``leaked``, and ``output``."""

    def __init__(self, document: dict[str, Any], output: str) -> None:
        self.error: str | None = document["error"]
        self.code: int = document.get("code", 0)
        self.status: int | None = document.get("status")
        self.console: str = document.get("console", "")
        self.execs: list[dict[str, Any]] = document["execs"]
        self.leaked: list[str] = document["leaked"]
        self.host_pid: int = document.get("host_pid", 0)
        self.output = output

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


def starter(**request: Any) -> Result:
    """Run the starter on ``request``."""
    if request.get("seccomp"):
        request["seccomp"] = base64.b64encode(request["seccomp"]).decode()
    done = subprocess.run(
        [sys.executable, str(STARTER)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Result(json.loads(done.stdout.splitlines()[-1]), done.stderr)


@pytest.fixture
def rootfs(tmp_path: Path) -> Iterator[Path]:
    """A root filesystem with all of busybox in /bin."""
    root = tmp_path / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nwww:x:33:\n")
    yield root
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts, "a mount was left on the host"


@pytest.fixture
def spec() -> dict[str, Any]:
    """A configuration like that of a Docker container, to be changed by the test."""
    document = copy.deepcopy(default_spec())
    document["root"]["readonly"] = False
    process = document["process"]
    process["terminal"] = False
    process["noNewPrivileges"] = False
    process["rlimits"] = []
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), DOCKER_CAPABILITIES)
    return document


@pytest.fixture
def start(rootfs: Path, spec: dict[str, Any]) -> Callable[..., Result]:
    """Run the container: ``start("/bin/id")``."""

    def run(*args: str, **more: Any) -> Result:
        spec["process"]["args"] = list(args)
        result = starter(spec=spec, rootfs=str(rootfs), **more)
        assert result.leaked == []
        return result

    return run


@pytest.fixture
def shell(start: Callable[..., Result]) -> Callable[..., Result]:
    """Run a shell script as the container's program: ``shell("id")``."""
    return lambda script, **more: start("sh", "-c", script, **more)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """``boxship-runtime`` as an executable file, for those that want a path."""
    path = tmp_path / "boxship-runtime"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(SOURCE)!r})\n"
        "from boxship.runtime.main import main\nmain()\n"
    )
    path.chmod(0o755)
    return path
