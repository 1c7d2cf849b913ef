"""Image references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli.reference import parse, platform_json

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "name", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox", "busybox:1.36"),
        ("a/b", "docker.io/a/b", "a/b"),
        ("docker.io/library/x", "docker.io/library/x", "x"),
        ("index.docker.io/x", "docker.io/library/x", "x"),
        ("localhost/x:y", "localhost/x", "localhost/x:y"),
        ("h:5000/a/b__c-d.e", "h:5000/a/b__c-d.e", "h:5000/a/b__c-d.e"),
        (f"x@{DIGEST}", "docker.io/library/x", f"x@{DIGEST}"),
        (f"x:y@{DIGEST}", "docker.io/library/x", f"x:y@{DIGEST}"),
    ],
)
def test_a_reference_has_a_whole_and_a_familiar_name(text, name, familiar) -> None:
    reference = parse(text)
    assert (reference.name, reference.familiar) == (name, familiar)


def test_latest_is_the_tag_of_a_bare_name_only() -> None:
    assert parse("x").tagged().familiar == "x:latest"
    assert parse(f"x@{DIGEST}").tagged().familiar == f"x@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("a b", "invalid reference format"),
        ("", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x:in:valid", "invalid reference format"),
        ("x@sha256:12", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("ab" * 32, f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_what_is_no_reference_is_refused_in_dockers_words(text, problem) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == problem


@given(st.text(max_size=40))
def test_any_text_is_a_reference_that_reads_back_or_is_refused(text: str) -> None:
    try:
        reference = parse(text)
    except ValueError:
        return
    again = parse(reference.name + reference.suffix)
    assert (again.name, again.tag, again.digest) == (reference.name, reference.tag, reference.digest)


def test_a_platform_becomes_json() -> None:
    assert platform_json("Linux/arm/v7") == '{"architecture":"arm","os":"linux","variant":"v7"}'
