from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.networking import link_parts


@pytest.mark.row("NET-12")
@pytest.mark.parametrize(
    ("text", "alias", "target"),
    [("db", "db", "db"), ("db:data", "data", "db"), ("/db:/web/data", "data", "db")],
)
def test_a_link_names_a_container_and_perhaps_an_alias(text, alias, target):
    assert link_parts(text) == (alias, target)


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a:b:c"])
def test_other_links_are_refused(text):
    with pytest.raises(InvalidInput, match="bad format for links"):
        link_parts(text)
