"""Distribution specification 1.1, "Push": each requirement of its text, by section. Runs against any registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.registry_server import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Client, digest_of

pytestmark = pytest.mark.system

OCTETS = {"Content-Type": "application/octet-stream"}
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
FIRST, SECOND = b"a" * 2000, b"b" * 1500


def begin(registry: Client, repository: str, **query: str) -> str:
    answer = registry.call("POST", f"/v2/{repository}/blobs/uploads/", **query)
    assert answer.status == 202
    return answer.headers["Location"]


def chunk(registry: Client, location: str, data: bytes, start: int) -> Any:
    headers = {**OCTETS, "Content-Range": f"{start}-{start + len(data) - 1}", "Content-Length": str(len(data))}
    return registry.call("PATCH", location, data, headers)


def stored(registry: Client, repository: str, digest: str) -> bytes:
    answer = registry.call("GET", f"/v2/{repository}/blobs/{digest}")
    assert answer.status == 200
    return answer.body


def manifest_of(registry: Client, repository: str, media_type: str = OCI_MANIFEST, **fields: Any) -> dict[str, Any]:
    config = registry.push_blob(repository, b"{}")
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {**config, "mediaType": OCI_CONFIG},
        "layers": [registry.push_blob(repository, b"layer")],
        **fields,
    }


class TestPushingABlobMonolithically:
    """Section "Pushing a blob monolithically"."""

    def test_post_then_put(self, registry: Client, repository: str) -> None:
        digest = digest_of(FIRST)
        answer = registry.call("PUT", begin(registry, repository), FIRST, OCTETS, digest=digest)
        assert answer.status == 201
        assert registry.call("GET", answer.headers["Location"]).body == FIRST

    def test_two_sessions_have_two_locations(self, registry: Client, repository: str) -> None:
        assert begin(registry, repository) != begin(registry, repository)

    def test_single_post(self, registry: Client, repository: str) -> None:
        digest = digest_of(SECOND)
        answer = registry.call("POST", f"/v2/{repository}/blobs/uploads/", SECOND, OCTETS, digest=digest)
        if answer.status == 202:  # a registry MAY refuse this way
            answer = registry.call("PUT", answer.headers["Location"], SECOND, OCTETS, digest=digest)
        assert answer.status == 201
        assert registry.call("GET", answer.headers["Location"]).body == SECOND

    def test_single_post_with_the_wrong_digest_is_refused(self, registry: Client, repository: str) -> None:
        answer = registry.call("POST", f"/v2/{repository}/blobs/uploads/", FIRST, OCTETS, digest=digest_of(SECOND))
        assert answer.status in (400, 202)

    def test_put_with_the_wrong_digest_is_400_and_keeps_nothing(self, registry: Client, repository: str) -> None:
        wrong = digest_of(b"something else" + repository.encode())
        answer = registry.call("PUT", begin(registry, repository), FIRST, OCTETS, digest=wrong)
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        assert registry.call("HEAD", f"/v2/{repository}/blobs/{wrong}").status == 404

    @pytest.mark.parametrize("digest", ["sha256:xyz", "md5:d41d8cd98f00b204e9800998ecf8427e", "nonsense", "sha256:"])
    def test_a_digest_that_is_none_is_400(self, registry: Client, repository: str, digest: str) -> None:
        assert registry.call("PUT", begin(registry, repository), FIRST, OCTETS, digest=digest).status == 400

    def test_an_empty_blob(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"")
        assert stored(registry, repository, blob["digest"]) == b""

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_both_algorithms(self, registry: Client, repository: str, algorithm: str) -> None:
        location = begin(registry, repository, **{"digest-algorithm": algorithm})
        digest = digest_of(FIRST, algorithm)
        answer = registry.call("PUT", location, FIRST, OCTETS, digest=digest)
        assert (answer.status, stored(registry, repository, digest)) == (201, FIRST)

    def test_an_unknown_algorithm_is_400(self, registry: Client, repository: str) -> None:
        answer = registry.call("POST", f"/v2/{repository}/blobs/uploads/", **{"digest-algorithm": "md5"})
        assert answer.status == 400


class TestPushingABlobInChunks:
    """Section "Pushing a blob in chunks"."""

    def test_two_chunks_and_an_empty_put(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        assert (first.status, first.headers["Range"]) == (202, "0-1999")
        second = chunk(registry, first.headers["Location"], SECOND, len(FIRST))
        assert (second.status, second.headers["Range"]) == (202, "0-3499")
        digest = digest_of(FIRST + SECOND)
        done = registry.call("PUT", second.headers["Location"], digest=digest)
        assert (done.status, registry.call("GET", done.headers["Location"]).body) == (201, FIRST + SECOND)

    def test_the_last_chunk_with_the_put(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        headers = {**OCTETS, "Content-Range": f"2000-{1999 + len(SECOND)}"}
        digest = digest_of(FIRST + SECOND)
        done = registry.call("PUT", first.headers["Location"], SECOND, headers, digest=digest)
        assert (done.status, stored(registry, repository, digest)) == (201, FIRST + SECOND)

    def test_chunks_of_sha512(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository, **{"digest-algorithm": "sha512"}), FIRST, 0)
        digest = digest_of(FIRST + SECOND, "sha512")
        done = registry.call("PUT", first.headers["Location"], SECOND, OCTETS, digest=digest)
        assert (done.status, stored(registry, repository, digest)) == (201, FIRST + SECOND)

    def test_a_stream_without_length_or_range(self, registry: Client, repository: str) -> None:
        def pieces() -> Iterator[bytes]:
            yield FIRST
            yield SECOND

        answer = registry.call("PATCH", begin(registry, repository), pieces(), OCTETS)
        assert (answer.status, answer.headers["Range"]) == (202, "0-3499")
        digest = digest_of(FIRST + SECOND)
        done = registry.call("PUT", answer.headers["Location"], digest=digest)
        assert (done.status, stored(registry, repository, digest)) == (201, FIRST + SECOND)

    def test_a_first_chunk_that_does_not_begin_at_0_is_416(self, registry: Client, repository: str) -> None:
        assert chunk(registry, begin(registry, repository), SECOND, len(FIRST)).status == 416

    def test_a_chunk_out_of_order_is_416_and_changes_nothing(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        assert chunk(registry, first.headers["Location"], SECOND, 5000).status == 416
        status = registry.call("GET", first.headers["Location"])
        assert (status.status, status.headers["Range"]) == (204, "0-1999")
        second = chunk(registry, status.headers["Location"], SECOND, len(FIRST))
        digest = digest_of(FIRST + SECOND)
        assert registry.call("PUT", second.headers["Location"], digest=digest).status == 201

    def test_a_chunk_sent_twice_is_416(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        assert chunk(registry, first.headers["Location"], FIRST, 0).status == 416

    def test_a_last_chunk_out_of_order_is_416(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        headers = {**OCTETS, "Content-Range": "3000-4499"}
        done = registry.call("PUT", first.headers["Location"], SECOND, headers, digest=digest_of(FIRST + SECOND))
        assert done.status == 416

    @pytest.mark.parametrize("range", ["0-", "-5", "abc", "5-2", "0-1-2"])
    def test_a_range_that_is_none_is_refused(self, registry: Client, repository: str, range: str) -> None:
        headers = {**OCTETS, "Content-Range": range}
        answer = registry.call("PATCH", begin(registry, repository), b"abcdef", headers)
        assert 400 <= answer.status < 500

    def test_a_length_that_is_not_the_range_s_is_refused(self, registry: Client, repository: str) -> None:
        headers = {**OCTETS, "Content-Range": "0-99", "Content-Length": "6"}
        assert 400 <= registry.call("PATCH", begin(registry, repository), b"abcdef", headers).status < 500

    def test_the_status_of_an_upload(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        status = registry.call("GET", first.headers["Location"])
        assert (status.status, status.headers["Range"]) == (204, "0-1999")
        assert "Location" in status.headers

    def test_bytes_that_do_not_make_the_digest_are_400(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        answer = registry.call("PUT", first.headers["Location"], digest=digest_of(SECOND + repository.encode()))
        assert answer.status == 400

    def test_an_upload_is_cancelled(self, registry: Client, repository: str) -> None:
        first = chunk(registry, begin(registry, repository), FIRST, 0)
        assert registry.call("DELETE", first.headers["Location"]).status == 204
        answer = registry.call("GET", first.headers["Location"])
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])

    def test_an_unknown_upload_is_404(self, registry: Client, repository: str) -> None:
        location = begin(registry, repository)
        assert registry.call("DELETE", location).status == 204
        assert registry.call("PATCH", location, b"x", OCTETS).status == 404

    def test_an_upload_belongs_to_its_repository(self, registry: Client, repository: str) -> None:
        location = begin(registry, repository).replace(repository, f"{repository}-other")
        assert registry.call("PATCH", location, b"x", OCTETS).status == 404


class TestMountingABlob:
    """Section "Mounting a blob from another repository"."""

    def test_a_blob_of_another_repository_is_mounted(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        target = f"{repository}-target"
        answer = registry.call("POST", f"/v2/{target}/blobs/uploads/", mount=blob["digest"], **{"from": repository})
        assert answer.status == 201
        assert registry.call("GET", answer.headers["Location"]).body == repository.encode()
        assert stored(registry, target, blob["digest"]) == repository.encode()

    def test_what_is_not_there_is_uploaded(self, registry: Client, repository: str) -> None:
        digest = digest_of(repository.encode())
        registry.push_blob(repository, b"something")
        answer = registry.call("POST", f"/v2/{repository}-target/blobs/uploads/", mount=digest, **{"from": repository})
        assert answer.status == 202
        done = registry.call("PUT", answer.headers["Location"], repository.encode(), OCTETS, digest=digest)
        assert done.status == 201

    def test_without_a_source_it_is_mounted_or_uploaded(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        answer = registry.call("POST", f"/v2/{repository}-target/blobs/uploads/", mount=blob["digest"])
        assert answer.status in (201, 202)
        assert "Location" in answer.headers

    def test_from_another_repository_than_that_with_the_blob_it_is_uploaded(
        self, registry: Client, repository: str
    ) -> None:
        blob = registry.push_blob(repository, repository.encode())
        answer = registry.call(
            "POST", f"/v2/{repository}-target/blobs/uploads/", mount=blob["digest"], **{"from": f"{repository}-none"}
        )
        assert answer.status == 202


class TestPushingManifests:
    """Section "Pushing Manifests"."""

    def put(self, registry: Client, repository: str, reference: str, document: Any, **query: str) -> Any:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        type = document.get("mediaType", OCI_MANIFEST) if isinstance(document, dict) else OCI_MANIFEST
        return registry.call("PUT", f"/v2/{repository}/manifests/{reference}", body, {"Content-Type": type}, **query)

    def test_success_is_201_with_location_and_digest(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository)
        answer = self.put(registry, repository, "v1", document)
        digest = digest_of(json.dumps(document).encode())
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        pulled = registry.call("GET", answer.headers["Location"], headers={"Accept": OCI_MANIFEST})
        assert pulled.body == json.dumps(document).encode()

    def test_bytes_are_kept_exactly(self, registry: Client, repository: str) -> None:
        body = json.dumps(manifest_of(registry, repository), indent=7).encode() + b"\n\n"
        assert self.put(registry, repository, "v1", body).status == 201
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert answer.body == body

    def test_a_tag_moves(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        second = registry.push_image(repository, "v1", [b"another"])
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert digest_of(answer.body) == second["digest"]

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_by_digest(self, registry: Client, repository: str, algorithm: str) -> None:
        document = manifest_of(registry, repository)
        digest = digest_of(json.dumps(document).encode(), algorithm)
        answer = self.put(registry, repository, digest, document)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        pulled = registry.call("GET", f"/v2/{repository}/manifests/{digest}", headers={"Accept": OCI_MANIFEST})
        assert pulled.headers["Docker-Content-Digest"] == digest

    def test_by_a_digest_with_tags(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository)
        digest = digest_of(json.dumps(document).encode())
        answer = self.put(registry, repository, f"{digest}?tag=one&tag=two", document)
        assert answer.status == 201
        assert answer.headers.get_all("OCI-Tag") == ["one", "two"]
        for tag in ("one", "two"):
            head = registry.call("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": OCI_MANIFEST})
            assert head.headers["Docker-Content-Digest"] == digest

    def test_by_the_wrong_digest_is_400(self, registry: Client, repository: str) -> None:
        answer = self.put(registry, repository, digest_of(b"other"), manifest_of(registry, repository))
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])

    def test_a_blob_that_is_not_there_is_refused(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository)
        document["layers"].append({"mediaType": OCI_LAYER, "digest": digest_of(repository.encode()), "size": 4})
        answer = self.put(registry, repository, "v1", document)
        if answer.status != 201:  # a registry MAY take it
            assert answer.status in (400, 404)
            assert set(answer.codes) == {"MANIFEST_BLOB_UNKNOWN"}

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"schemaVersion": 2}', b'{"schemaVersion": 9}', b"\xff\xfe"])
    def test_what_is_no_manifest_is_400(self, registry: Client, repository: str, body: bytes) -> None:
        answer = self.put(registry, repository, "v1", body)
        assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])

    def test_a_type_that_the_document_denies_is_refused(self, registry: Client, repository: str) -> None:
        body = json.dumps(manifest_of(registry, repository)).encode()
        headers = {"Content-Type": DOCKER_MANIFEST}
        assert 400 <= registry.call("PUT", f"/v2/{repository}/manifests/v1", body, headers).status < 500

    def test_a_manifest_of_four_mebibytes_is_taken(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository, annotations={"padding": ""})
        padding = 4 * 1024 * 1024 - len(json.dumps(document))
        document["annotations"]["padding"] = "x" * padding
        assert self.put(registry, repository, "v1", document).status == 201

    def test_a_manifest_that_is_too_large_is_413(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository, annotations={"padding": "x" * 4 * 1024 * 1024})
        assert self.put(registry, repository, "v1", document).status in (201, 413)

    @pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
    def test_an_index(self, registry: Client, repository: str, media_type: str) -> None:
        image = registry.push_image(repository, "amd64")
        platform = {"os": "linux", "architecture": "amd64"}
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [{**image, "platform": platform}]}
        registry.push_manifest(repository, "all", document)
        answer = registry.call("GET", f"/v2/{repository}/manifests/all", headers={"Accept": media_type})
        assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)

    def test_docker_s_schema_2(self, registry: Client, repository: str) -> None:
        self_described = manifest_of(registry, repository, DOCKER_MANIFEST)
        registry.push_manifest(repository, "v1", self_described)
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": DOCKER_MANIFEST})
        assert (answer.status, answer.headers["Content-Type"]) == (200, DOCKER_MANIFEST)

    def test_a_layer_that_is_not_distributable_may_be_missing(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository)
        document["layers"].append(
            {
                "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "digest": digest_of(b"elsewhere"),
                "size": 9,
                "urls": ["https://example.invalid/layer"],
            }
        )
        assert self.put(registry, repository, "v1", document).status == 201

    def test_an_artifact_with_a_type_and_an_empty_config(self, registry: Client, repository: str) -> None:
        empty = {**registry.push_blob(repository, b"{}"), "mediaType": OCI_EMPTY}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.thing",
            "config": empty,
            "layers": [empty],
        }
        assert self.put(registry, repository, "thing", document).status == 201

    def test_a_descriptor_with_its_data(self, registry: Client, repository: str) -> None:
        document = manifest_of(registry, repository)
        document["config"]["data"] = "e30="
        assert self.put(registry, repository, "v1", document).status == 201


class TestPushingManifestsWithSubject:
    """Section "Pushing Manifests with Subject"."""

    def test_the_answer_says_that_the_subject_was_understood(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        body = json.dumps(manifest_of(registry, repository, subject=image)).encode()
        path = f"/v2/{repository}/manifests/{digest_of(body)}"
        answer = registry.call("PUT", path, body, {"Content-Type": OCI_MANIFEST})
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, image["digest"])

    def test_the_subject_may_come_later(self, registry: Client, repository: str) -> None:
        subject = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"to come"), "size": 7}
        document = manifest_of(registry, repository, subject=subject)
        registry.push_manifest(repository, "", document)
        found = registry.call("GET", f"/v2/{repository}/referrers/{subject['digest']}").json
        assert [item["digest"] for item in found["manifests"]] == [digest_of(json.dumps(document).encode())]
