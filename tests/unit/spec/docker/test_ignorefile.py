"""``.dockerignore``: what Docker's reference and its matcher say of each pattern."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.spec.docker.ignorefile import InvalidPattern, Patterns


@pytest.mark.row("BLD-07")
@pytest.mark.parametrize(
    ("text", "left_out", "kept"),
    [
        # the examples of the Dockerfile reference
        ("# comment\n*/temp*\n", ["somedir/temporary.txt", "somedir/temp"], ["temp", "a/b/temp"]),
        ("*/*/temp*", ["somedir/subdir/temporary.txt"], ["somedir/temp", "a/b/c/temp"]),
        ("temp?", ["tempa", "tempb", "tempa/below"], ["temp", "tempab", "x/tempa"]),
        ("**/*.go", ["a.go", "x/y/a.go"], ["a.goo"]),
        ("*.md\n!README.md", ["a.md"], ["README.md", "x/a.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["a.md", "README-secret.md"], ["README.md", "README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README-secret.md", "README.md"]),
        ("/foo/bar", ["foo/bar"], ["foo/baz"]),
        ("foo/bar/", ["foo/bar", "foo/bar/x"], ["bar"]),
        # lines
        ("\ufeffa\r\n  b  \n\n#c\n \n", ["a", "b"], ["#c", "c"]),
        (" #x", ["#x"], []),
        ("! a\nb\n!  b/c", ["b"], ["b/c"]),
        ("./a/../b//c", ["b/c"], ["a"]),
        ("docs\n!docs/README.md", ["docs/x", "docs"], ["docs/README.md"]),
        ("!fileutils.go\n*.go", ["fileutils.go"], []),
        ("**\n!util/docker/web", ["util", "x"], ["util/docker/web/foo"]),
        ("**\n!util/docker/web\nutil/docker/web/foo", ["util/docker/web/foo"], ["util/docker/web/bar"]),
        # wildcards
        ("**", ["file", "dir/file"], ["."]),
        ("**/", ["file", "dir/file/"], []),
        ("dir/**", ["dir/file", "dir/dir2/file"], ["dir", "dirfile"]),
        ("**/dir", ["dir", "a/dir", "dir/file"], ["adir"]),
        ("**/dir2/*", ["dir/dir2/file", "dir/dir2/x/y"], ["dir2"]),
        ("**file", ["file", "dir/file", "dir/afile"], ["filea"]),
        ("**/**/*.txt", ["file.txt", "dir/dir/file.txt"], ["file.txt2"]),
        ("a**/*.txt", ["a/file.txt", "a/dir/dir/file.txt"], ["b/file.txt"]),
        ("a/*.txt**", ["a/file.txt"], ["a/file"]),
        ("a*b*c*d*e*/f", ["axbxcxdxe/f", "axbxcxdxexxx/f"], ["axbxcxdxe/xxx/f", "axbxcxdxexxx/fff"]),
        ("a*b?c*x", ["abxbbxdbxebxczzx"], ["abxbbxdbxebxczzy"]),
        ("a[b-d]e", ["ace"], ["ae", "aae"]),
        ("a[^b-d]e", ["aze"], ["ace"]),
        ("[\\]a]", ["]", "a"], ["b"]),
        ("[x\\-]", ["x", "-"], ["z"]),
        ("[a-ž]*", ["ä"], ["A"]),
        ("a?b", ["a☺b"], ["a/b", "ab"]),
        ("a\\*b", ["a*b"], ["ab", "axb"]),
        ("a.|)$(}+{bc", ["a.|)$(}+{bc"], ["abc"]),
        ("[[&&a]", ["[", "&", "a"], ["b"]),
    ],
)
def test_a_pattern_leaves_out_what_docker_leaves_out(text: str, left_out: list[str], kept: list[str]) -> None:
    patterns = Patterns.parse(text.encode())
    assert [path for path in left_out if not patterns.matches(path)] == []
    assert [path for path in kept if patterns.matches(path)] == []


@pytest.mark.parametrize(
    "text", ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "\\", "[z-a]", "[a-"]
)
def test_a_pattern_that_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(InvalidPattern, match="syntax error in pattern"):
        Patterns.parse(text.encode())


def test_an_exception_from_nothing_is_refused() -> None:
    with pytest.raises(InvalidPattern, match=re.escape('illegal exclusion pattern: "!"')):
        Patterns.parse(b"a\n!\n")


@pytest.mark.parametrize(
    ("text", "directory", "expected"),
    [
        ("node_modules", "node_modules", False),
        ("*\n!src", "src", True),
        ("*\n!src/main", "src", True),
        ("*\n!src/main", "lib", False),
        ("*\n!s*/main", "src", True),
        ("*\n!**/main.c", "lib/deep", True),
        ("*\n!src/main", "src/main/deep", True),
        ("*\n!src/main", "src/other", False),
    ],
)
def test_a_directory_is_passed_over_only_when_no_exception_reaches_below_it(
    text: str, directory: str, expected: bool
) -> None:
    assert Patterns.parse(text.encode()).may_contain(directory) is expected


def test_many_wildcards_take_no_exponential_time() -> None:
    patterns = Patterns.parse(b"*a" * 300 + b"b\n" + b"**/a/" * 300 + b"b\n")
    assert not patterns.matches("a" * 2000 + "/a" * 10)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.text(alphabet="ab/.*!", max_size=12))
def test_any_bytes_are_patterns_or_are_refused(data: bytes, path: str) -> None:
    try:
        patterns = Patterns.parse(data)
    except InvalidPattern:
        return
    patterns.matches(path)
    patterns.may_contain(path)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", "**/", "[ab]"]), min_size=4, max_size=9),
    st.text(alphabet="ab/", min_size=1, max_size=9),
)
def test_patterns_with_many_wildcards_mean_what_their_regular_expression_means(pieces: list[str], path: str) -> None:
    text = "a*".join(["", *pieces])
    wild = {"*": "[^/]*", "?": "[^/]"}
    regex, rest = "", "/".join(part for part in text.split("/") if part)
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            regex += "(.*/)?" if rest else ".*"
        elif rest.startswith("[ab]"):
            rest, regex = rest[4:], regex + "[ab]"
        else:
            rest, regex = rest[1:], regex + wild.get(rest[0], rest[0])
    path = "/".join(part for part in path.split("/") if part)
    steps = path.split("/")
    expected = any(re.fullmatch(regex, "/".join(steps[: end + 1])) for end in range(len(steps)))
    absolute = text.startswith("/")
    assert path == "" or absolute or Patterns.parse(text.encode()).matches(path) == expected
