"""What is attested about an image is found, and lies of strangers harm nobody."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from typing import Any

import pytest

from boxship.images import indexes
from boxship.images.archives.outgoing import Outgoing
from boxship.images.reference import parse

CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
SPDX = "https://spdx.dev/Document"


class Attested:
    """An OCI layout of one image whose index attests ``statements`` (type, bytes) about it."""

    def __init__(self, layer: bytes, statements: list[tuple[str, bytes]], **reference: str) -> None:
        self.blobs: dict[str, bytes] = {}
        diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        self.layer = self.add(LAYER, gzip.compress(layer, mtime=0))
        config = self.add(CONFIG, self.config([diff_id], os="linux", architecture="amd64"))
        self.image = config["digest"]
        manifest = self.manifest(config, [self.layer])
        self.image_manifest = manifest["digest"]
        layers = [
            {**self.add(IN_TOTO, data), "annotations": {"in-toto.io/predicate-type": type}} for type, data in statements
        ]
        about = self.manifest(self.add(CONFIG, self.config([], os="unknown", architecture="unknown")), layers)
        about["platform"] = {"os": "unknown", "architecture": "unknown"}
        about["annotations"] = {
            "vnd.docker.reference.digest": reference.get("digest", manifest["digest"]),
            "vnd.docker.reference.type": reference.get("type", "attestation-manifest"),
        }
        manifest["platform"] = {"os": "linux", "architecture": "amd64"}
        self.index = self.add(INDEX, self.json(schemaVersion=2, mediaType=INDEX, manifests=[manifest, about]))

    def tar(self, name: str = "docker.io/library/said:1", *, legacy: bool = False) -> bytes:
        named = {**self.index, "annotations": {"io.containerd.image.name": name}} if name else self.index
        files = {f"blobs/{digest.replace(':', '/')}": data for digest, data in self.blobs.items()}
        files["index.json"] = self.json(schemaVersion=2, mediaType=INDEX, manifests=[named])
        files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
        if legacy:
            config, layer = (f"blobs/{digest.replace(':', '/')}" for digest in (self.image, self.layer["digest"]))
            item = {"Config": config, "RepoTags": ["said:1"], "Layers": [layer]}
            files["manifest.json"] = json.dumps([item]).encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    def add(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def manifest(self, config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
        return self.add(MANIFEST, self.json(schemaVersion=2, mediaType=MANIFEST, config=config, layers=layers))

    def config(self, diff_ids: list[str], **fields: str) -> bytes:
        return self.json(**fields, config={}, rootfs={"type": "layers", "diff_ids": diff_ids})

    @staticmethod
    def json(**fields: Any) -> bytes:
        return json.dumps(fields).encode()


def said(type: str = SPDX) -> bytes:
    return json.dumps({"_type": "x", "predicateType": type, "subject": [], "predicate": {"a": 1}}).encode()


def types(bench: Any, ref: str, **options: Any) -> list[str]:
    return [found.predicate_type for found in asyncio.run(bench.service.statements(ref, **options))]


@pytest.mark.parametrize("legacy", [False, True], ids=["layout", "docker-archive"])
def test_an_archive_brings_what_is_attested_about_its_one_image(bench, make_tar, legacy) -> None:
    image = Attested(make_tar(a=b"a"), [(SPDX, said()), ("other", said("other"))])
    bench.load(image.tar(legacy=legacy))
    assert types(bench, "said:1") == types(bench, image.image) == [SPDX, "other"]
    assert types(bench, "said:1", types=("other",)) == ["other"]
    assert types(bench, "said:1", platform="linux/amd64") == [SPDX, "other"]
    whole = Outgoing(bench.store, bench.content).select(parse("docker.io/library/said:1"), None)
    assert whole.top.digest == image.index["digest"] and len(whole.attestations) == 1
    (row,) = asyncio.run(bench.service.attestations("said:1", platform=None, types=("other",), verbatim=True))
    assert bytes(row.statement) == said("other")
    bench.remove("said:1")
    assert bench.is_empty()


@pytest.mark.parametrize(
    "statement",
    [b"", b"[]", b"{", b'{"predicateType": 1}', b'{"predicateType": "x", "predicateType": "y"}', b"[" * 5000, b"\xff"],
)
def test_what_is_no_statement_is_left_out(bench, make_tar, statement) -> None:
    image = Attested(make_tar(a=b"a"), [(SPDX, statement), (SPDX, said())])
    bench.load(image.tar())
    assert types(bench, "said:1") == [SPDX]


def test_a_statement_under_another_type_than_its_own_is_found_by_its_own_alone(bench, make_tar) -> None:
    bench.load(Attested(make_tar(a=b"a"), [(SPDX, said("other"))]).tar())
    assert types(bench, "said:1") == ["other"] and types(bench, "said:1", types=(SPDX,)) == []


@pytest.mark.parametrize("wrong", [{"digest": f"sha256:{'0' * 64}"}, {"type": "something-else"}])
def test_attestations_about_something_else_are_not_this_image_s(bench, make_tar, wrong) -> None:
    bench.load(Attested(make_tar(a=b"a"), [(SPDX, said())], **wrong).tar())
    assert types(bench, "said:1") == []


def test_an_index_that_is_no_document_keeps_no_image_of_a_docker_archive_out(bench, make_tar) -> None:
    image = Attested(make_tar(a=b"a"), [(SPDX, said())])
    image.blobs[image.index["digest"]] = b"{}"
    bench.load(image.tar(legacy=True))
    assert bench.service.resolve("said:1").id == image.image and types(bench, "said:1") == []


def test_an_index_without_a_name_goes_with_its_image_and_is_replaced_by_the_next(bench, make_tar) -> None:
    first, second = (Attested(make_tar(a=b"a"), [(type, said(type))]) for type in ("one", "two"))
    assert first.image == second.image
    for image in (first, second, second):
        bench.load(image.tar(name=""))
    assert types(bench, first.image) == ["two"]
    assert not bench.content.exists(first.index["digest"])
    with bench.store.read() as transaction:
        assert indexes.nameless(transaction, second.image) == [second.index["digest"]]
        assert indexes.names_of_variants(transaction) == {}
    rows = asyncio.run(bench.service.list(all=False, filters={"dangling": ["true"]}, shared_size=False, digests=False))
    assert [row.id for row in rows] == [second.image]
    saved = bench.save(second.image)
    assert second.blobs[second.index["digest"]] in saved
    bench.remove(second.image)
    assert bench.is_empty()
