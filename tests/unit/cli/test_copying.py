"""Docker's rules of what ``cp`` puts where."""

import pytest

from boxship.cli import copying
from boxship.cli.copying import CopyError, Side


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("c:/x", ("c", "/x")),
        ("c:", ("c", "")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("../a:b", ("", "../a:b")),
        ("plain", ("", "plain")),
        ("c:/a:b", ("c", "/a:b")),
    ],
)
def test_an_argument_names_a_container_before_its_first_colon(argument: str, expected: tuple[str, str]) -> None:
    assert copying.split_argument(argument) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", ("/a", "b")),
        ("/a/b/", ("/a", "b")),
        ("/a/b/.", ("/a/b", ".")),
        ("/a", ("/", "a")),
        ("/", ("/", "/")),
        ("/.", ("/", ".")),
        ("a", (".", "a")),
        ("a/../b", (".", "b")),
        ("", (".", ".")),
    ],
)
def test_a_path_is_a_directory_and_an_entry(path: str, expected: tuple[str, str]) -> None:
    assert copying.split_entry(path) == expected


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (Side("/s/f", exists=True, is_directory=False), Side("/d", exists=True, is_directory=True), ("/d", None)),
        (Side("/s/d", exists=True, is_directory=True), Side("/d", exists=True, is_directory=True), ("/d", None)),
        (
            Side("/s/f", exists=True, is_directory=False),
            Side("/d/g", exists=True, is_directory=False),
            ("/d", ("f", "g")),
        ),
        (
            Side("/s/f", exists=True, is_directory=False),
            Side("/d/g", exists=False, is_directory=False),
            ("/d", ("f", "g")),
        ),
        (
            Side("/s/d", exists=True, is_directory=True),
            Side("/d/n", exists=False, is_directory=False),
            ("/d", ("d", "n")),
        ),
        (
            Side("/s/d/.", exists=True, is_directory=True),
            Side("/d/n", exists=False, is_directory=False),
            ("/d", (".", "n")),
        ),
        (
            Side("/s/d", exists=True, is_directory=True),
            Side("/d/n/", exists=False, is_directory=False),
            ("/d", ("d", "n")),
        ),
        (
            Side("/s/real", exists=True, is_directory=False, rebase_name="link"),
            Side("/d/n", exists=False, is_directory=False),
            ("/d", ("link", "n")),
        ),
    ],
)
def test_a_copy_goes_into_a_directory_or_takes_a_new_name(
    source: Side, destination: Side, expected: tuple[str, tuple[str, str] | None]
) -> None:
    assert copying.plan(source, destination) == expected


@pytest.mark.parametrize(
    ("is_directory", "destination", "text"),
    [
        (True, Side("/d/f", exists=True, is_directory=False), "cannot copy directory"),
        (False, Side("/d/n/", exists=False, is_directory=False), "no such directory"),
        (False, Side("/d/n/.", exists=False, is_directory=False), "no such directory"),
    ],
)
def test_what_does_not_go_together_is_refused(is_directory: bool, destination: Side, text: str) -> None:
    with pytest.raises(CopyError, match=text):
        copying.plan(Side("/s/x", exists=True, is_directory=is_directory), destination)


def test_a_copy_that_followed_a_link_keeps_the_links_name() -> None:
    assert copying.rebase_name("/a/link", "/b/real") == ("/b/real", "link")
    assert copying.rebase_name("/a/link/.", "/b/real") == ("/b/real/.", "")
    assert copying.rebase_name("/a/link/", "/b/real") == ("/b/real/", "link")
    assert copying.rebase_name("/a/same", "/b/same") == ("/b/same", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("dir/sub/dir", "dir", "new", "new/sub/dir"),
        ("./", ".", "new", "new/"),
        ("/bin", "/", "root", "root/bin"),
    ],
)
def test_rebase_replaces_the_first_name(name: str, old: str, new: str, expected: str) -> None:
    assert copying.rebase(name, old, new) == expected
