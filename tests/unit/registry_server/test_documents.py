from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.registry.server.documents import Reference, read_manifest
from boxship.registry.server.errors import RegistryError
from boxship.spec.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def manifest(**changes: Any) -> bytes:
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": OTHER, "size": 2}
    config = {"mediaType": "application/x.config", "digest": DIGEST, "size": 1}
    document = {"schemaVersion": 2, "config": config, "layers": [layer], **changes}
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def test_a_manifest_refers_to_config_and_layers() -> None:
    found = read_manifest(manifest(), OCI_MANIFEST)
    assert found.references == [Reference("blob", DIGEST, 1, True), Reference("blob", OTHER, 2, True)]
    assert (found.artifact_type, found.subject) == ("application/x.config", "")


def test_an_index_refers_to_manifests() -> None:
    item = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1}
    data = manifest(config=None, layers=None, manifests=[item])
    assert read_manifest(data, OCI_INDEX).references == [Reference("manifest", DIGEST, 1, True)]
    assert read_manifest(data, OCI_INDEX, whole_indexes=False).references == [Reference("manifest", DIGEST, 1, False)]


def test_the_media_type_is_sent_stated_or_known_by_the_form() -> None:
    assert read_manifest(manifest(), "").media_type == OCI_MANIFEST
    assert read_manifest(manifest(mediaType=DOCKER_MANIFEST), "").media_type == DOCKER_MANIFEST
    assert read_manifest(manifest(), f"{OCI_MANIFEST}; charset=utf-8").media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (manifest(), "application/json"),
        (manifest(), OCI_INDEX),
        (manifest(mediaType=DOCKER_MANIFEST), OCI_MANIFEST),
        (manifest(manifests=[]), OCI_MANIFEST),
        (manifest(config=None), OCI_MANIFEST),
        (manifest(layers=None), OCI_MANIFEST),
        (manifest(schemaVersion=1), OCI_MANIFEST),
        (manifest(fsLayers=[]), OCI_MANIFEST),
        (manifest(config={"digest": "../../etc/passwd", "size": 1}), OCI_MANIFEST),
        (manifest(config={"digest": DIGEST, "size": -1}), OCI_MANIFEST),
        (manifest(subject={"digest": "x", "size": 1}), OCI_MANIFEST),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, type: str) -> None:
    with pytest.raises(RegistryError, match="MANIFEST_INVALID"):
        read_manifest(data, type)


@given(st.binary(max_size=200))
def test_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    with pytest.raises(RegistryError, match="MANIFEST_INVALID"):
        read_manifest(data, "")
