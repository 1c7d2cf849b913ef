"""The OCI documents: what is read, and what hostile ones get."""

import json

import pytest

from boxship.spec.oci import (
    DOCUMENT_LIMIT,
    Index,
    InvalidDocument,
    Manifest,
    chain_ids,
    digest_of,
    encode_config,
    parse_archive_manifest,
    parse_config,
    parse_layout,
    parse_manifest,
)
from boxship.spec.oci.manifest import DOCKER_INDEX, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

DIGEST = "sha256:" + "a" * 64


def manifest(**changes: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": 2},
        "layers": [{"mediaType": OCI_LAYER, "digest": DIGEST, "size": 3}],
    }
    return json.dumps({**document, **changes}).encode()


def config(**changes: object) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}, **changes}).encode()


def test_a_manifest_is_read() -> None:
    found = parse_manifest(manifest(), OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.layers[0].digest == DIGEST


def test_an_index_is_read() -> None:
    document = {"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1}]}
    found = parse_manifest(json.dumps(document).encode(), OCI_INDEX)
    assert isinstance(found, Index)


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        (manifest(manifests=[]), "", "both 'manifests' and"),
        (manifest(), OCI_INDEX, "announced as"),
        (manifest(mediaType=DOCKER_INDEX), "", "unexpected media type"),
        (manifest(mediaType="text/plain"), "", "unexpected media type"),
        (manifest(schemaVersion=1), "", "schema version"),
        (manifest(fsLayers=[]), "", "fsLayers"),
        (manifest(layers=None), "", "layers"),
        (manifest(config={"digest": "sha256:../../x", "size": 1}), "", "invalid checksum digest format"),
        (manifest(config={"digest": "sha256:abc", "size": 1}), "", "invalid checksum digest length"),
        (manifest(config={"digest": "md5:" + "a" * 32, "size": 1}), "", "unsupported digest algorithm"),
        (manifest(config={"digest": DIGEST, "size": -1}), "", "negative size"),
        (manifest(config={"digest": DIGEST, "size": 10**30}), "", "invalid manifest"),
        (b'{"schemaVersion":2,"layers":[],"layers":[]}', "", "duplicate key 'layers'"),
        (b'{"schemaVersion":NaN}', "", "NaN"),
        (b"[]", "", "not an object"),
        (b"\xff\xfe{}", "", "invalid manifest"),
        (b"[" * 100_000, "", "invalid manifest"),
        (b'{"a":' * 80 + b"1" + b"}" * 80, "", "nested deeper"),
        (b'{"a":"' + b"x" * DOCUMENT_LIMIT + b'"}', "", "more than the limit"),
    ],
)
def test_i4_an_ambiguous_or_broken_manifest_is_refused(data: bytes, media_type: str, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason):
        parse_manifest(data, media_type)


def test_a_config_of_docker_is_read_with_its_extra_fields() -> None:
    found = parse_config(
        config(
            docker_version="20.10",
            container="abc",
            config={"Cmd": ["sh"], "Env": None, "Entrypoint": "x", "ExposedPorts": {"80/tcp": {}, "1-3": {}}},
            history=[{"created_by": "a"}, {"empty_layer": True}],
            rootfs={"type": "layers", "diff_ids": [DIGEST]},
        )
    )
    assert found.config is not None
    assert found.config.cmd == ["sh"]
    assert found.diff_ids == [DIGEST]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rootfs": {"type": "base"}}, "unsupported rootfs type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}}, "invalid checksum digest"),
        ({"rootfs": {"type": "layers", "diff_ids": [DIGEST] * 126}}, "max depth exceeded"),
        ({"history": [{}]}, "too many non-empty layers"),
        ({"config": {"Entrypoint": {"a": 1}}}, "Entrypoint"),
        ({"config": {"Env": ["A=\0"]}}, "null byte"),
        ({"config": {"ExposedPorts": {"0-65535": {}}}}, "invalid exposed port"),
        ({"config": {"ExposedPorts": {"80/icmp": {}}}}, "invalid exposed port"),
        ({"config": {"ExposedPorts": {"80-20/tcp": {}}}}, "invalid exposed port"),
        ({"config": {"Volumes": {"/a/../../etc": {}}}}, "invalid volume"),
        ({"config": {"StopSignal": "; rm -rf /"}}, "invalid stop signal"),
        ({"config": {"Labels": {"a": 1}}}, "Labels"),
        ({"config": {"Healthcheck": {"Retries": 10**40}}}, "invalid image config"),
    ],
)
def test_i8_a_config_that_no_container_could_have_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason):
        parse_config(config(**changes))


def test_encoding_leaves_out_what_is_not_set() -> None:
    encoded = json.loads(encode_config(parse_config(config(config={"Cmd": ["sh"], "Hostname": ""}))))
    assert encoded["config"] == {"Cmd": ["sh"]}
    assert "history" not in encoded


def test_chain_ids_follow_the_specification() -> None:
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert chain_ids([first, second]) == [first, digest_of(f"{first} {second}".encode())]


def test_an_archive_manifest_needs_its_fields() -> None:
    (item,) = parse_archive_manifest(b'[{"Config":"c.json","RepoTags":null,"Layers":["l"]}]')
    assert item.layers == ["l"]
    with pytest.raises(InvalidDocument):
        parse_archive_manifest(b'[{"Layers":[]}]')


def test_a_layout_of_another_version_is_refused() -> None:
    parse_layout(b'{"imageLayoutVersion":"1.0.0"}')
    with pytest.raises(InvalidDocument, match=r"2\.0"):
        parse_layout(b'{"imageLayoutVersion":"2.0"}')
