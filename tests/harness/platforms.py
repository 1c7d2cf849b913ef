"""An image of several platforms as an OCI layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
OTHERS = ("riscv64", "s390x")


class Multi:
    """An OCI layout of one index: an image for each architecture, each with an attestation."""

    def __init__(
        self,
        make_tar: Callable[..., bytes] | None = None,
        architectures: Sequence[str] = (HERE, *OTHERS),
        *,
        name: str = "docker.io/library/multi:1",
    ) -> None:
        self.documents: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.ids: dict[str, str] = {}
        self.manifests: dict[str, str] = {}
        entries = []
        for architecture in architectures:
            layer = (make_tar or tar_of)(shared="x" * 100, **{architecture: architecture})
            config = {
                "architecture": architecture,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
            zipped = gzip.compress(layer, mtime=0)
            image = self._manifest(json.dumps(config).encode(), [self._blob(zipped, LAYER)])
            self.ids[architecture] = _digest(json.dumps(config).encode())
            self.manifests[architecture] = image["digest"]
            said = self._manifest(b"{}", [self._blob(f"about {architecture}".encode(), "application/vnd.in-toto+json")])
            unknown = {"architecture": "unknown", "os": "unknown"}
            about = {
                "vnd.docker.reference.digest": image["digest"],
                "vnd.docker.reference.type": "attestation-manifest",
            }
            entries.append({**image, "platform": {"architecture": architecture, "os": "linux"}})
            entries.append({**said, "platform": unknown, "annotations": about})
        document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        top = {**self._blob(document, INDEX), "annotations": {"io.containerd.image.name": name}}
        self.digest = top["digest"]
        self.documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()

    def tar(self) -> bytes:
        """Return the archive."""
        return tar_of(**self.documents)

    def _blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.documents["blobs/" + _digest(data).replace(":", "/")] = data
        return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}

    def _manifest(self, config: bytes, layers: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self._blob(config, CONFIG), "layers": layers}
        return self._blob(json.dumps(document).encode(), MANIFEST)


def tar_of(**members: str | bytes) -> bytes:
    """Return a tar of these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(data)
            member.mode = 0o755
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
