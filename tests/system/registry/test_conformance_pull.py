"""Distribution specification 1.1, "Pull": each requirement of its text, by section. Runs against any registry."""

from __future__ import annotations

import pytest

from harness.registry_server import OCI_MANIFEST, Client, digest_of

pytestmark = pytest.mark.system

MISSING = "sha256:" + "0" * 64


class TestPullingManifests:
    """Section "Pulling manifests"."""

    @pytest.mark.row("REG-06")
    def test_get_by_tag_gives_what_was_pushed(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert answer.status == 200
        assert digest_of(answer.body) == pushed["digest"]

    def test_get_by_digest_gives_what_was_pushed(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        answer = registry.call(
            "GET", f"/v2/{repository}/manifests/{pushed['digest']}", headers={"Accept": OCI_MANIFEST}
        )
        assert (answer.status, digest_of(answer.body)) == (200, pushed["digest"])

    def test_content_type_is_the_pushed_one_without_parameters(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert answer.headers["Content-Type"] == OCI_MANIFEST

    def test_success_carries_the_digest(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert answer.headers["Docker-Content-Digest"] == pushed["digest"]

    @pytest.mark.parametrize("reference", ["absent", MISSING])
    def test_a_manifest_that_is_not_there_is_404(self, registry: Client, repository: str, reference: str) -> None:
        registry.push_image(repository, "v1")
        answer = registry.call("GET", f"/v2/{repository}/manifests/{reference}")
        assert (answer.status, answer.codes) == (404, ["MANIFEST_UNKNOWN"])

    def test_a_repository_that_is_not_there_is_404(self, registry: Client, repository: str) -> None:
        assert registry.call("GET", f"/v2/{repository}/manifests/v1").status == 404

    def test_a_tag_may_have_128_characters_of_its_alphabet(self, registry: Client, repository: str) -> None:
        tag = "_" + "aZ0.-_" * 21 + "x"
        registry.push_image(repository, tag)
        assert registry.call("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": OCI_MANIFEST}).status == 200

    @pytest.mark.parametrize("tag", ["a" * 129, ".hidden", "-dash", "a%20b", "a+b"])
    def test_other_tags_are_refused(self, registry: Client, repository: str, tag: str) -> None:
        body = b"{}"
        answer = registry.call("PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": OCI_MANIFEST})
        assert 400 <= answer.status < 500


class TestPullingBlobs:
    """Section "Pulling blobs"."""

    def test_get_gives_the_blob(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"content")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}")
        assert (answer.status, answer.body) == (200, b"content")

    def test_success_carries_the_digest(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"content")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}")
        assert answer.headers["Docker-Content-Digest"] == blob["digest"]

    def test_a_blob_that_is_not_there_is_404(self, registry: Client, repository: str) -> None:
        registry.push_blob(repository, b"content")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{MISSING}")
        assert (answer.status, answer.codes) == (404, ["BLOB_UNKNOWN"])

    def test_a_blob_of_another_repository_is_404(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        assert registry.call("GET", f"/v2/{repository}-other/blobs/{blob['digest']}").status == 404

    @pytest.mark.parametrize(
        ("range", "expected", "content_range"),
        [
            ("bytes=0-4", b"01234", "bytes 0-4/10"),
            ("bytes=4-", b"456789", "bytes 4-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=8-100", b"89", "bytes 8-9/10"),
        ],
    )
    def test_a_range_gives_206_and_the_part(
        self, registry: Client, repository: str, range: str, expected: bytes, content_range: str
    ) -> None:
        blob = registry.push_blob(repository, b"0123456789")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}", headers={"Range": range})
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["Content-Range"] == content_range

    def test_a_range_beyond_the_end_gives_416(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"0123456789")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}", headers={"Range": "bytes=10-"})
        assert answer.status == 416
        assert answer.headers["Content-Range"] == "bytes */10"

    def test_a_blob_of_sha512_is_pulled_by_it(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"longer digest", "sha512")
        answer = registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}")
        assert (answer.status, answer.body) == (200, b"longer digest")
        assert answer.headers["Docker-Content-Digest"] == blob["digest"]


class TestCheckingIfContentExists:
    """Section "Checking if content exists in the registry"."""

    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_head_of_a_manifest(self, registry: Client, repository: str, by: str) -> None:
        pushed = registry.push_image(repository, "v1")
        reference = "v1" if by == "tag" else pushed["digest"]
        answer = registry.call("HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": OCI_MANIFEST})
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Docker-Content-Digest"] == pushed["digest"]
        assert answer.headers["Content-Length"] == str(pushed["size"])

    def test_head_of_a_blob(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, b"content")
        answer = registry.call("HEAD", f"/v2/{repository}/blobs/{blob['digest']}")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Docker-Content-Digest"] == blob["digest"]
        assert answer.headers["Content-Length"] == "7"

    @pytest.mark.parametrize("path", ["manifests/absent", f"manifests/{MISSING}", f"blobs/{MISSING}"])
    def test_head_of_what_is_not_there_is_404(self, registry: Client, repository: str, path: str) -> None:
        registry.push_image(repository, "v1")
        assert registry.call("HEAD", f"/v2/{repository}/{path}").status == 404
