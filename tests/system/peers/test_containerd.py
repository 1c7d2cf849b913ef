"""``boxship-runtime`` in runc's place under containerd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from harness.engine import SOURCE
from harness.images import busybox_tar

pytestmark = pytest.mark.system

SBIN = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``boxship-runtime`` as an executable file."""
    path = tmp_path_factory.mktemp("program") / "boxship-runtime"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(SOURCE)!r})\n"
        "from boxship.runtime.main import main\nmain()\n"
    )
    path.chmod(0o755)
    return path


class Containerd:
    """A containerd of our own; ``ctr`` calls its command line."""

    def __init__(self) -> None:
        found = [shutil.which(name, path=SBIN) for name in ("containerd", "ctr", "containerd-shim-runc-v2")]
        if None in found:
            raise RuntimeError("containerd is not installed")
        self.root = Path(tempfile.mkdtemp(prefix="peer-ctrd-"))
        self._ctr = str(found[1])
        config = self.root / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.root}/data"\nstate = "{self.root}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.root}/sock"\n[ttrpc]\naddress = "{self.root}/sock.ttrpc"\n'
        )
        self.log = self.root / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(found[0]), "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": SBIN},
            )
        until = time.monotonic() + 30
        while self.ctr("version").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                text = self.log.read_text()[-1000:]
                self.close()
                raise RuntimeError(f"containerd does not start here:\n{text}")
            time.sleep(0.1)

    def ctr(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._ctr, "--address", str(self.root / "sock"), "--namespace", "boxship-peer", *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(self.root)):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(self.root, ignore_errors=True)
        for directory in Path("/sys/fs/cgroup").glob("*/boxship-peer"):
            with contextlib.suppress(OSError):
                directory.rmdir()


@pytest.mark.row("ENG-21")
def test_containerd_runs_a_container_with_this_runtime(program: Path, tmp_path: Path) -> None:
    try:
        containerd = Containerd()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    subprocess.run(["tar", "-x", "-C", rootfs], input=busybox_tar(), check=True)
    options = ["--runc-binary", str(program), "--rootfs"]
    try:
        done = containerd.ctr("run", "--rm", *options, str(rootfs), "once", "/bin/sh", "-c", "echo inside; exit 5")
        assert (done.returncode, done.stdout) == (5, "inside\n"), done.stderr
        done = containerd.ctr("run", "-d", *options, str(rootfs), "stays", "/bin/sleep", "1000")
        assert done.returncode == 0, done.stderr
        done = containerd.ctr("task", "exec", "--exec-id", "one", "stays", "/bin/sh", "-c", "cat /proc/1/comm; exit 7")
        assert (done.returncode, done.stdout) == (7, "sleep\n"), done.stderr
        assert re.search(r"stays +\d+ +RUNNING", containerd.ctr("task", "ls").stdout)
        assert containerd.ctr("task", "pause", "stays").returncode == 0
        assert re.search(r"stays +\d+ +PAUSED", containerd.ctr("task", "ls").stdout)
        assert containerd.ctr("task", "resume", "stays").returncode == 0
        assert containerd.ctr("task", "metrics", "stays").returncode == 0
        assert containerd.ctr("task", "kill", "-s", "SIGKILL", "stays").returncode == 0
        assert "exit code 137" in containerd.ctr("task", "delete", "stays").stderr
        assert containerd.ctr("container", "delete", "stays").returncode == 0
        assert not list(Path("/sys/fs/cgroup").glob("**/stays"))
    finally:
        containerd.ctr("task", "delete", "--force", "stays")
        containerd.ctr("container", "delete", "stays")
        containerd.close()
