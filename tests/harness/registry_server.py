"""A Boxship registry under test, and a plain HTTP client for any registry."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.engine import SOURCE

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
_SOON = 60  # seconds; only a hang takes longer, on a host with much else to do
_LISTENING = re.compile(r"listening on (\S+?):(\d+)\b")


class Answer(NamedTuple):
    """What a registry answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The error codes in the body."""
        return [error["code"] for error in self.json["errors"]]


class Client:
    """Sends single requests to a registry; each on a connection of its own."""

    def __init__(self, url: str, *, authorization: str = "", cafile: str = "") -> None:
        self._parts = urlsplit(url)
        self._authorization = authorization
        self._cafile = cafile

    @property
    def host(self) -> str:
        return self._parts.netloc

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        """Send a request; a body that is an iterator is sent in chunks. ``path`` may be a ``Location``."""
        parts = urlsplit(path)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        if query:
            target += ("&" if parts.query else "?") + "&".join(f"{key}={value}" for key, value in query.items())
        connection = self.connect()
        try:
            sent = dict(headers or {})
            if self._authorization:
                sent.setdefault("Authorization", self._authorization)
            if body is None and method in ("POST", "PUT", "PATCH"):
                sent.setdefault("Content-Length", "0")
            try:
                connection.request(method, target, body, sent)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before everything was sent: the answer is there
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        if self._parts.scheme == "https":
            context = ssl.create_default_context(cafile=self._cafile or None)
            return http.client.HTTPSConnection(self._parts.netloc, timeout=30, context=context)
        return http.client.HTTPConnection(self._parts.netloc, timeout=30)

    def push_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> dict[str, Any]:
        """Upload a blob in two steps and return its descriptor."""
        digest = digest_of(data, algorithm)
        begun = self.call("POST", f"/v2/{repository}/blobs/uploads/")
        assert begun.status == 202, begun
        octets = {"Content-Type": "application/octet-stream"}
        done = self.call("PUT", begun.headers["Location"], data, octets, digest=digest)
        assert done.status == 201, done
        return {"mediaType": OCI_LAYER, "digest": digest, "size": len(data)}

    def push_image(
        self, repository: str, reference: str, layers: Sequence[bytes] = (b"layer",), **fields: Any
    ) -> dict[str, Any]:
        """Push a small image and return its manifest's descriptor."""
        config = self.push_blob(repository, json.dumps({"os": "linux", "architecture": "amd64"}).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**config, "mediaType": OCI_CONFIG},
            "layers": [self.push_blob(repository, layer) for layer in layers],
            **fields,
        }
        return self.push_manifest(repository, reference, manifest)

    def push_manifest(self, repository: str, reference: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Put a manifest and return its descriptor; an empty reference means its digest."""
        body = json.dumps(manifest).encode()
        media_type = manifest["mediaType"]
        path = f"/v2/{repository}/manifests/{reference or digest_of(body)}"
        answer = self.call("PUT", path, body, {"Content-Type": media_type})
        assert answer.status == 201, answer
        return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}


class RegistryServer:
    """Starts and stops one registry; its directory is gone after :meth:`close`."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="registry-"))
        self.root = self.directory / "root"
        self.log = self.directory / "log"
        self.config = dict(config or {})
        self._prefix = list(prefix)
        self._environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "https" if "tls" in self.config.get("http", {}) else "http"
        return f"{scheme}://localhost:{self.port}"

    def client(self, **options: Any) -> Client:
        return Client(self.url, **options)

    def start(self) -> RegistryServer:
        """Start it and wait until it listens; the port stays when it is started again."""
        path = self.directory / "config.yml"
        path.write_text(json.dumps(self.config))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        environment |= {
            "PYTHONPATH": str(SOURCE),
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self.root),
            **self._environment,
        }
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "boxship.registry.server", "serve", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        until = time.monotonic() + _SOON
        while True:
            text = self.log.read_bytes()[begin:].decode(errors="replace")
            if found := _LISTENING.search(text):
                self.port = int(found[2])
                return self
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the registry does not start:\n{text[-3000:]}")
            time.sleep(0.02)

    def restart_without_failpoint(self) -> None:
        """Start it again after it died at a failpoint."""
        self._environment.pop("BOXSHIP_FAILPOINT", None)
        self.start()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_SOON)
        self.process = None

    def stop(self) -> int:
        """End it cleanly and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_SOON)
        self.process = None
        return code

    def blob_files(self) -> set[str]:
        """The digests of all blob files on disk."""
        return {
            f"{path.parent.parent.name}:{path.name}" for path in (self.root / "blobs").glob("*/*/*") if path.is_file()
        }

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(_SOON)
        shutil.rmtree(self.directory, ignore_errors=True)


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
