"""A real dockerd as a peer: own network namespace, roots and socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.netns import NetworkNamespace


class Dockerd:
    """Starts and stops one dockerd; raises RuntimeError where it is not installed or does not start here."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._program = shutil.which("dockerd") or "/usr/sbin/dockerd"
        if not os.path.exists(self._program):
            raise RuntimeError("dockerd is not installed")
        self.root = Path(tempfile.mkdtemp(prefix="peer-dockerd-"))
        self.namespace = NetworkNamespace()
        self.socket = self.root / "docker.sock"
        self.log = self.root / "dockerd.log"
        self._options = list(options)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self.namespace.prefix(),
                    self._program,
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.root / 'data'}",
                    f"--exec-root={self.root / 'exec'}",
                    f"--pidfile={self.root / 'pid'}",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"},
            )
        until = time.monotonic() + 60
        while self.docker("version", check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                text = self.log.read_text(errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"dockerd does not start here:\n{text}")
            time.sleep(0.1)

    def docker(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the docker CLI against it."""
        return subprocess.run(
            [*self.namespace.prefix(), "docker", *args],
            capture_output=True,
            text=True,
            env=self.client_environment(),
            check=check,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def client_environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.root / "config")}

    def close(self) -> None:
        """Stop it and remove its files and mounts."""
        if self.process is not None and self.process.poll() is None:
            ids = self.docker("ps", "-aq", check=False).stdout.split()
            if ids:
                self.docker("rm", "-f", *ids, check=False)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.namespace.close()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            point = line.split()[4]
            if point.startswith(str(self.root)):
                subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(self.root, ignore_errors=True)
        for controller in Path("/sys/fs/cgroup").glob("*/docker"):
            if not any(entry.is_dir() for entry in controller.iterdir()):
                controller.rmdir()
