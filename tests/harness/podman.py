"""podman as a builder to compare with: own storage and network namespace, no service."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.images import busybox_tar
from harness.netns import NetworkNamespace


class Podman:
    """Takes docker's words; raises RuntimeError where podman is not installed or does not work here.

    Its steps share the network namespace, for which nothing has to be configured.
    """

    def __init__(self) -> None:
        if shutil.which("podman") is None:
            raise RuntimeError("podman is not installed")
        self.root = Path(tempfile.mkdtemp(prefix="peer-podman-"))
        self.namespace = NetworkNamespace()
        (self.root / "base.tar").write_bytes(busybox_tar())
        try:
            self.docker("import", "--change", 'CMD ["sh"]', str(self.root / "base.tar"), "localhost/base")
        except subprocess.CalledProcessError as exc:
            self.close()
            raise RuntimeError(f"podman does not work here: {exc.stderr}") from exc

    def docker(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman and return its output as text."""
        return subprocess.run(
            [*self._program(), *args],
            capture_output=True,
            text=True,
            env=self.client_environment(),
            check=check,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def build(self, directory: Path, name: str, *flags: str) -> None:
        """Build; AssertionError with the whole output when it fails."""
        surroundings = ("--isolation=chroot", "--network=host", "--format=docker", "--no-cache")
        done = self.docker("build", *surroundings, *flags, "-t", f"localhost/{name}", str(directory), check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def export(self, name: str) -> bytes:
        """Return an image's files as a tar."""
        container = self.docker("create", "--network=none", f"localhost/{name}", "none").stdout.strip()
        archive = self.root / "exported.tar"
        try:
            self.docker("export", "-o", str(archive), container)
            return archive.read_bytes()
        finally:
            self.docker("rm", container)

    def client_environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.root)}

    def close(self) -> None:
        """Remove its storage."""
        self.namespace.close()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def _program(self) -> list[str]:
        storage = ["--root", str(self.root / "storage"), "--runroot", str(self.root / "run"), "--storage-driver=vfs"]
        return [*self.namespace.prefix(), "podman", *storage, "--cgroup-manager=cgroupfs", "--log-level=error"]
