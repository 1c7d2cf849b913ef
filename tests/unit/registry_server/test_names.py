from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import Target, check_digest, check_name, check_reference, check_tag, parse_path


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/a/manifests/v1", Target("manifest", "a", "v1")),
        ("/v2/a/b/blobs/sha256:x", Target("blob", "a/b", "sha256:x")),
        ("/v2/a/blobs/uploads/", Target("uploads", "a", "")),
        ("/v2/a/blobs/uploads", Target("uploads", "a", "")),
        ("/v2/a/blobs/uploads/0f", Target("upload", "a", "0f")),
        ("/v2/a/blobs/uploads/blobs/x", Target("blob", "a/blobs/uploads", "x")),
        ("/v2/tags/list/tags/list", Target("tags", "tags/list", "")),
        ("/v2/a/referrers/sha256:x", Target("referrers", "a", "sha256:x")),
        ("/v2/a", None),
        ("/v2/a/manifests/", None),
        ("/v2//manifests/x", None),
    ],
)
def test_paths_mean_what_the_specification_says(path: str, target: Target | None) -> None:
    assert parse_path(path) == target


@pytest.mark.parametrize(
    "name", ["", "A", "a/", "/a", "a//b", "..", "a/../b", "a b", "a\n", "é", "a" * 256, "a..b", "_a"]
)
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="NAME_INVALID"):
        check_name(name)


@given(st.text(max_size=300))
def test_a_name_that_passes_has_no_way_out_of_a_directory(name: str) -> None:
    try:
        check_name(name)
    except RegistryError:
        return
    assert name
    assert all(part and part.strip(".") for part in name.split("/"))
    assert name.isascii() and "\0" not in name and "\\" not in name


@given(st.text(max_size=140))
def test_a_reference_is_a_tag_a_digest_or_refused(text: str) -> None:
    try:
        check_reference(text)
    except RegistryError as exc:
        assert exc.status == 400
    else:
        assert "/" not in text and text not in (".", "..")


def test_tags_end_at_128_characters() -> None:
    assert check_tag("a" * 128)
    with pytest.raises(RegistryError, match="TAG_INVALID"):
        check_tag("a" * 129)


@pytest.mark.parametrize("digest", ["sha256:", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha512:" + "0" * 64, "0" * 64])
def test_digests_that_name_nothing_here_are_refused(digest: str) -> None:
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        check_digest(digest)
