"""Sources from elsewhere: what a download is called."""

from __future__ import annotations

import pytest

from boxship.build.sources import name_of


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://x/a/b.tar?c=/d#/e", "b.tar"),
        ("http://x/a%2Fb", "b"),
        ("http://x/a/..", ""),
        ("http://x/%2e%2e", ""),
        ("http://x/a%2f%2e%2e", ""),
        ("http://x/.", ""),
        ("http://x/a%00b", ""),
        ("http://x/", ""),
        ("http://x", ""),
    ],
)
def test_b5_a_download_has_a_name_in_its_directory_or_none(url: str, name: str) -> None:
    assert name_of(url) == name
