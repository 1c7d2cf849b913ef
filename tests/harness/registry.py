"""The Debian archive's docker-registry (2.8) as a peer, in a test's own network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.netns import NetworkNamespace
from harness.waiting import until


class PeerRegistry:
    """A registry on 127.0.0.1 of ``namespace``; raises RuntimeError where docker-registry is not installed.

    ``users`` are checked by htpasswd; ``tls`` makes a CA of its own, whose certificate is :attr:`ca`.
    """

    def __init__(
        self,
        namespace: NetworkNamespace,
        port: int = 5000,
        *,
        users: dict[str, str] | None = None,
        tls: bool = False,
        proxy: str = "",
    ) -> None:
        if shutil.which("docker-registry") is None:
            raise RuntimeError("docker-registry is not installed")
        self.namespace = namespace
        self.port = port
        self.host = f"localhost:{port}"
        self.root = Path(tempfile.mkdtemp(prefix="peer-registry-"))
        http: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
        self._scheme = "http"
        if tls:
            self._make_certificates()
            http["tls"] = {"certificate": str(self.root / "server.crt"), "key": str(self.root / "server.key")}
            self._scheme = "https"
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}, "delete": {"enabled": True}},
            "http": http,
            "validation": {"manifests": {"urls": {"allow": ["^http://localhost:"]}}},
        }
        if users:
            lines = [_htpasswd(name, password) for name, password in users.items()]
            (self.root / "htpasswd").write_text("".join(lines))
            config["auth"] = {"htpasswd": {"realm": "peer", "path": str(self.root / "htpasswd")}}
        if proxy:
            config["proxy"] = {"remoteurl": proxy}
        (self.root / "config.yml").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def ca(self) -> Path:
        return self.root / "ca.crt"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.namespace.prefix(), "docker-registry", "serve", str(self.root / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: self.curl("/v2/").returncode == 0)

    def stop(self) -> None:
        """End it; its data stays."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)

    def curl(self, path: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Ask it something from inside its namespace."""
        return self.namespace.run("curl", "-sk", *options, f"{self._scheme}://127.0.0.1:{self.port}{path}", check=False)

    def requests(self) -> Sequence[str]:
        """The lines of its log."""
        return (self.root / "log").read_text(errors="replace").splitlines()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def _make_certificates(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.root)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=test CA")
        openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        (self.root / "names").write_text("subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1\n")
        openssl(
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", "server.crt", "-days", "30", "-extfile", "names"),
        )


def _htpasswd(name: str, password: str) -> str:
    made = subprocess.run(["htpasswd", "-Bbn", name, password], capture_output=True, text=True, check=True)
    return made.stdout.strip() + "\n"
