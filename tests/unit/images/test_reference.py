"""References as Docker reads them."""

import pytest

from boxship.images.reference import InvalidReference, is_id, parse, parse_tagged

ID = "0123456789abcdef" * 4


@pytest.mark.row("IMG-18")
@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("library/nginx", "docker.io/library/nginx", "nginx"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx:a", "docker.io/library/nginx:a", "nginx:a"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/my-image", "localhost:5000/my-image", "localhost:5000/my-image"),
        ("registry.example.com/a/b/c:t", "registry.example.com/a/b/c:t", "registry.example.com/a/b/c:t"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        ("Foo/bar", "Foo/bar", "Foo/bar"),
        ("a__b--c.d_e", "docker.io/library/a__b--c.d_e", "a__b--c.d_e"),
        (f"a@sha256:{ID}", f"docker.io/library/a@sha256:{ID}", f"a@sha256:{ID}"),
        (f"a:t@sha256:{ID}", f"docker.io/library/a:t@sha256:{ID}", f"a:t@sha256:{ID}"),
        ("a:" + "x" * 128, "docker.io/library/a:" + "x" * 128, "a:" + "x" * 128),
        (ID[:12], f"docker.io/library/{ID[:12]}", ID[:12]),
    ],
)
def test_a_reference_is_normalised_and_shown_short(text: str, full: str, familiar: str) -> None:
    found = parse(text)
    assert (str(found), found.familiar) == (full, familiar)


@pytest.mark.row("IMG-18")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ubuntu", "invalid reference format: repository name (library/Ubuntu) must be lowercase"),
        ("user/App:1", "invalid reference format: repository name (user/App) must be lowercase"),
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:" + "x" * 129, "invalid reference format"),
        ("a:.x", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("../a", "invalid reference format"),
        ("http://a/b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("a:\u0661", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("a@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("a@md5:" + "a" * 32, "unsupported digest algorithm"),
        (ID, f"invalid repository name ({ID}), cannot specify 64-byte hexadecimal strings"),
        ("x" * 300, "repository name must not be more than 255 characters"),
        ("x/" * 100_000, "invalid reference format"),
    ],
)
def test_a_bad_reference_gets_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert str(caught.value) == message


def test_the_default_tag_is_latest_unless_there_is_a_tag_or_digest() -> None:
    assert parse("a").with_default_tag().tag == "latest"
    assert parse("a:1").with_default_tag().tag == "1"
    assert parse(f"a@sha256:{ID}").with_default_tag().tag is None


def test_repository_and_tag_come_apart_or_together() -> None:
    assert parse_tagged("a", "1").familiar == "a:1"
    assert parse_tagged("a:2", "").familiar == "a:2"
    assert parse_tagged("a", "").familiar == "a:latest"
    with pytest.raises(InvalidReference, match="refusing to create a tag with a digest reference"):
        parse_tagged(f"a@sha256:{ID}", "")
    with pytest.raises(InvalidReference, match="invalid tag format"):
        parse_tagged("a", "x y")


def test_only_whole_ids_are_ids() -> None:
    assert is_id(ID)
    assert is_id(f"sha256:{ID}")
    assert not is_id(ID[:12])
