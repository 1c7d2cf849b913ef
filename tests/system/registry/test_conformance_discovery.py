"""Distribution specification 1.1, "Content Discovery" and "API": each requirement, by section. Runs against any registry."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.registry_server import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Client, digest_of

pytestmark = pytest.mark.system


def follow(registry: Client, path: str, key: str) -> list[list[str]]:
    """Return the pages of a list."""
    pages = []
    while path:
        answer = registry.call("GET", path)
        assert answer.status == 200
        pages.append(answer.json[key])
        link = answer.headers.get("Link", "")
        found = re.fullmatch(r'<([^>]*)>; *rel="next"', link)
        parts = urlsplit(found[1]) if found else None
        path = f"{parts.path}?{parts.query}" if parts else ""
        assert len(pages) < 100
    return pages


class TestListingTags:
    """Section "Listing Tags"."""

    def test_all_tags_in_order(self, registry: Client, repository: str) -> None:
        for tag in ("v2", "latest", "v1", "v10"):
            registry.push_image(repository, tag)
        answer = registry.call("GET", f"/v2/{repository}/tags/list")
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json == {"name": repository, "tags": ["latest", "v1", "v10", "v2"]}

    def test_a_repository_without_tags_has_none(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        registry.call("DELETE", f"/v2/{repository}/manifests/v1")
        answer = registry.call("GET", f"/v2/{repository}/tags/list")
        assert answer.status == 404 or not answer.json["tags"]

    def test_an_unknown_repository_is_404(self, registry: Client, repository: str) -> None:
        answer = registry.call("GET", f"/v2/{repository}/tags/list")
        assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])

    def test_n_limits_and_link_leads_on(self, registry: Client, repository: str) -> None:
        for tag in "abcde":
            registry.push_image(repository, tag)
        assert follow(registry, f"/v2/{repository}/tags/list?n=2", "tags") == [["a", "b"], ["c", "d"], ["e"]]

    def test_the_last_page_has_no_link(self, registry: Client, repository: str) -> None:
        for tag in "ab":
            registry.push_image(repository, tag)
        assert "Link" not in registry.call("GET", f"/v2/{repository}/tags/list", n="2").headers

    def test_n_0_gives_none_and_no_link(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "a")
        answer = registry.call("GET", f"/v2/{repository}/tags/list", n="0")
        assert (answer.status, answer.json["tags"]) == (200, [])
        assert "Link" not in answer.headers

    def test_last_continues_behind_it_whether_it_exists_or_not(self, registry: Client, repository: str) -> None:
        for tag in "acd":
            registry.push_image(repository, tag)
        assert registry.call("GET", f"/v2/{repository}/tags/list", last="b").json["tags"] == ["c", "d"]
        assert registry.call("GET", f"/v2/{repository}/tags/list", last="c", n="1").json["tags"] == ["d"]


class TestListingReferrers:
    """Section "Listing Referrers"."""

    def refer(self, registry: Client, repository: str, subject: dict[str, Any], type: str, **fields: Any) -> str:
        empty = {**registry.push_blob(repository, b"{}"), "mediaType": OCI_EMPTY}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": type,
            "config": empty,
            "layers": [empty],
            "subject": subject,
            **fields,
        }
        digest: str = registry.push_manifest(repository, "", document)["digest"]
        return digest

    def test_what_nothing_refers_to_has_an_empty_list(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        answer = registry.call("GET", f"/v2/{repository}/referrers/{digest_of(b'nothing')}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
        assert (answer.json["schemaVersion"], answer.json["mediaType"], answer.json["manifests"]) == (2, OCI_INDEX, [])

    def test_an_invalid_digest_is_400(self, registry: Client, repository: str) -> None:
        assert registry.call("GET", f"/v2/{repository}/referrers/nonsense").status == 400

    def test_descriptors_have_type_and_annotations(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        digest = self.refer(registry, repository, image, "application/x.signature", annotations={"by": "me"})
        (item,) = registry.call("GET", f"/v2/{repository}/referrers/{image['digest']}").json["manifests"]
        assert (item["digest"], item["mediaType"]) == (digest, OCI_MANIFEST)
        assert (item["artifactType"], item["annotations"]) == ("application/x.signature", {"by": "me"})
        head = registry.call("HEAD", f"/v2/{repository}/manifests/{digest}", headers={"Accept": OCI_MANIFEST})
        assert item["size"] == int(head.headers["Content-Length"])

    def test_without_a_type_the_config_s_is_taken(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        registry.push_image(repository, "signed", [b"other"], subject=image)
        (item,) = registry.call("GET", f"/v2/{repository}/referrers/{image['digest']}").json["manifests"]
        assert item["artifactType"] == "application/vnd.oci.image.config.v1+json"

    def test_an_index_refers_too(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "artifactType": "application/x.set",
            "manifests": [image],
            "subject": image,
        }
        registry.push_manifest(repository, "", document)
        (item,) = registry.call("GET", f"/v2/{repository}/referrers/{image['digest']}").json["manifests"]
        assert (item["mediaType"], item["artifactType"]) == (OCI_INDEX, "application/x.set")

    def test_the_filter_is_applied_and_said(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        wanted = self.refer(registry, repository, image, "application/x.wanted")
        self.refer(registry, repository, image, "application/x.other")
        answer = registry.call("GET", f"/v2/{repository}/referrers/{image['digest']}?artifactType=application/x.wanted")
        if "OCI-Filters-Applied" in answer.headers:
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            assert [item["digest"] for item in answer.json["manifests"]] == [wanted]
        else:
            assert len(answer.json["manifests"]) == 2

    def test_a_deleted_referrer_is_not_listed(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        digest = self.refer(registry, repository, image, "application/x.signature")
        assert registry.call("DELETE", f"/v2/{repository}/manifests/{digest}").status == 202
        assert registry.call("GET", f"/v2/{repository}/referrers/{image['digest']}").json["manifests"] == []

    def test_pages_are_linked(self, registry: Client, repository: str) -> None:
        image = registry.push_image(repository, "v1")
        digests = {self.refer(registry, repository, image, f"application/x.{number}") for number in range(3)}
        pages = follow(registry, f"/v2/{repository}/referrers/{image['digest']}?n=2", "manifests")
        assert {item["digest"] for page in pages for item in page} == digests


class TestListingRepositories:
    """The catalogue: not in the specification, in every registry."""

    def test_a_pushed_repository_is_listed(self, registry: Client, repository: str) -> None:
        registry.push_image(repository, "v1")
        pages = follow(registry, "/v2/_catalog?n=50", "repositories")
        assert repository in [name for page in pages for name in page]

    def test_n_limits_and_link_leads_on(self, registry: Client) -> None:
        top = f"zz-{os.urandom(4).hex()}"
        for name in ("a", "b", "c"):
            registry.push_image(f"{top}/{name}", "v1")
        pages = follow(registry, f"/v2/_catalog?n=2&last={top}", "repositories")
        assert pages[0] == [f"{top}/a", f"{top}/b"]
        assert pages[1][0] == f"{top}/c"


class TestEndpoints:
    """Sections "Endpoints", "Determining Support" and "Error Codes"."""

    def test_the_version_check_is_200(self, registry: Client) -> None:
        assert registry.call("GET", "/v2/").status == 200

    def test_errors_are_documents_of_codes(self, registry: Client, repository: str) -> None:
        answer = registry.call("GET", f"/v2/{repository}/manifests/absent")
        (error,) = answer.json["errors"]
        assert re.fullmatch("[A-Z_]+", error["code"])
        assert isinstance(error.get("message", ""), str)

    @pytest.mark.parametrize("name", ["Upper/case", "a//b", "-a", "a-", "a_-b", "a" * 256, "a/../b", "a..b", "a/_b"])
    def test_other_names_are_refused(self, registry: Client, name: str) -> None:
        assert 400 <= registry.call("GET", f"/v2/{name}/tags/list").status < 500

    @pytest.mark.parametrize("name", ["a", "a/b/c/d", "a.b", "a_b", "a__b", "a---b", "0", "a/blobs/uploads/b"])
    def test_names_of_the_grammar_are_taken(self, registry: Client, name: str) -> None:
        name = f"{name}-{os.urandom(4).hex()}"
        registry.push_image(name, "v1")
        assert registry.call("GET", f"/v2/{name}/tags/list").json["tags"] == ["v1"]
