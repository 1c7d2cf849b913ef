"""Distribution specification 1.1, "Content Management": each requirement, by section. Runs against any registry."""

from __future__ import annotations

import pytest

from harness.registry_server import OCI_MANIFEST, Client, digest_of

pytestmark = pytest.mark.system


class TestDeletingTags:
    """Section "Deleting tags"."""

    def test_the_tag_goes_and_the_manifest_stays(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        assert registry.call("DELETE", f"/v2/{repository}/manifests/v1").status == 202
        accept = {"Accept": OCI_MANIFEST}
        assert registry.call("GET", f"/v2/{repository}/manifests/v1", headers=accept).status == 404
        assert registry.call("GET", f"/v2/{repository}/manifests/{pushed['digest']}", headers=accept).status == 200

    def test_other_tags_of_the_manifest_stay(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        registry.push_image(repository, "latest")
        assert registry.call("DELETE", f"/v2/{repository}/manifests/v1").status == 202
        assert registry.call("GET", f"/v2/{repository}/tags/list").json["tags"] == ["latest"]

    def test_an_unknown_tag_is_404(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        assert registry.call("DELETE", f"/v2/{repository}/manifests/v2").status == 404


class TestDeletingManifests:
    """Section "Deleting Manifests"."""

    def test_the_manifest_goes_with_its_tags(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        path = f"/v2/{repository}/manifests/{pushed['digest']}"
        assert registry.call("DELETE", path).status == 202
        assert registry.call("GET", path).status == 404
        assert registry.call("GET", f"/v2/{repository}/manifests/v1").status == 404

    def test_an_unknown_manifest_is_404(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        assert registry.call("DELETE", f"/v2/{repository}/manifests/{digest_of(b'none')}").status == 404

    def test_another_repository_keeps_its_own(self, registry: Client, repository: str) -> None:
        pushed = registry.push_image(repository, "v1")
        registry.push_image(f"{repository}-other", "v1")
        registry.call("DELETE", f"/v2/{repository}/manifests/{pushed['digest']}")
        head = registry.call("HEAD", f"/v2/{repository}-other/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert head.status == 200


class TestDeletingBlobs:
    """Section "Deleting Blobs"."""

    def test_the_blob_goes(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        path = f"/v2/{repository}/blobs/{blob['digest']}"
        assert registry.call("DELETE", path).status == 202
        assert registry.call("GET", path).status == 404

    def test_an_unknown_blob_is_404(self, registry: Client, repository: str) -> None:
        answer = registry.call("DELETE", f"/v2/{repository}/blobs/{digest_of(b'none')}")
        assert (answer.status, answer.codes) == (404, ["BLOB_UNKNOWN"])

    def test_another_repository_keeps_its_own(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        registry.push_blob(f"{repository}-other", repository.encode())
        registry.call("DELETE", f"/v2/{repository}/blobs/{blob['digest']}")
        assert registry.call("GET", f"/v2/{repository}-other/blobs/{blob['digest']}").body == repository.encode()

    def test_a_deleted_blob_is_pushed_again(self, registry: Client, repository: str) -> None:
        blob = registry.push_blob(repository, repository.encode())
        registry.call("DELETE", f"/v2/{repository}/blobs/{blob['digest']}")
        registry.push_blob(repository, repository.encode())
        assert registry.call("GET", f"/v2/{repository}/blobs/{blob['digest']}").body == repository.encode()
