"""A real OpenSSH server as the way to an engine: keys, configuration and port of its own, in one network namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.engine import SOURCE, Engine
from harness.netns import NetworkNamespace
from harness.waiting import until

SSHD = "/usr/sbin/sshd"
CLI = "import sys; from boxship.cli.main import main; sys.exit(main())"


class SshServer:
    """``sshd`` on 127.0.0.1 with ``boxship`` and ``docker`` over there that find ``engine`` at their default address.

    Raises RuntimeError where OpenSSH is not installed. It shares the namespace of the one who asks.
    """

    def __init__(self, namespace: NetworkNamespace, engine: Engine, *, port: int = 2222, programs: bool = True) -> None:
        if not os.path.exists(SSHD) or shutil.which("ssh") is None:
            raise RuntimeError("OpenSSH (server and client) is not installed")
        self.root = Path(tempfile.mkdtemp(prefix="peer-sshd-"))
        self.port = port
        self.log = self.root / "sshd.log"
        self._bin, self._client_bin = self.root / "bin", self.root / "client-bin"
        for directory in (self._bin, self._client_bin):
            directory.mkdir()
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / key)]
            subprocess.run(command, check=True)
        if programs:
            for name in ("boxship", "docker"):
                self._script(self._bin / name, f'PYTHONPATH={SOURCE} exec {sys.executable} -c "{CLI}" "$@"')
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{port} {(self.root / 'host.pub').read_text()}")
        (self.root / "server").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.root}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.root}/user.pub\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
            f"SetEnv PATH={self._bin}:/usr/bin:/bin DOCKER_HOST={engine.host} DOCKER_CONFIG={self.root}/far\n"
        )
        (self.root / "client").write_text(
            f"IdentityFile {self.root}/user\nIdentitiesOnly yes\nUserKnownHostsFile {self.root}/known_hosts\n"
            "GlobalKnownHostsFile none\nStrictHostKeyChecking yes\nIdentityAgent none\n"
        )
        self._script(self._client_bin / "ssh", f'exec {shutil.which("ssh")} -F {self.root}/client "$@"')
        # sshd wants a directory below /run; it gets a /run of its own.
        start = f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec {SSHD} -D -f {self.root}/server -E {self.log}"
        self._process = subprocess.Popen(
            [*namespace.prefix(), "unshare", "--mount", "--propagation", "slave", "sh", "-c", start],
            stdin=subprocess.DEVNULL,
        )
        until(lambda: "listening on" in self.log_text())

    @property
    def url(self) -> str:
        """The address for ``-H``."""
        return f"ssh://root@127.0.0.1:{self.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """Return ``base`` for a client whose ``ssh`` has the right key and knows the host."""
        kept = {name: value for name, value in base.items() if name != "DOCKER_HOST"}
        return {**kept, "PATH": f"{self._client_bin}:{base['PATH']}"}

    def forget_host(self) -> None:
        """Let the client no longer know the server's key."""
        (self.root / "known_hosts").write_text("")

    def far_processes(self) -> list[int]:
        """Return the processes of ``system dial-stdio`` that serve this server's clients."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and f"DOCKER_CONFIG={self.root}/far".encode() in (
                    entry / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended
        return found

    def close(self) -> None:
        """End the server and its sessions."""
        self._process.terminate()
        self._process.wait(10)
        until(lambda: not self.far_processes())
        shutil.rmtree(self.root)

    @staticmethod
    def _script(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
