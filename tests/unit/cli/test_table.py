"""Tables of text."""

from __future__ import annotations

import pytest

from boxship.cli.commands.containers.ps import ports_text
from boxship.cli.table import align, ellipsis, short_id


@pytest.mark.row("CLI-13")
def test_columns_are_at_least_ten_wide_and_three_apart() -> None:
    rows = [["A", "HEADING", "LAST"], ["twelve chars", "x", ""]]
    assert align(rows) == "A              HEADING   LAST\ntwelve chars   x         \n"


def test_text_is_cut_with_an_ellipsis() -> None:
    assert [ellipsis(text, 5) for text in ("four", "fives", "sixsix")] == ["four", "fives", "sixs…"]


@pytest.mark.row("CLI-10")
def test_short_ids_have_twelve_digits() -> None:
    assert short_id("sha256:" + "ab" * 32) == short_id("ab" * 32) == "abababababab"


@pytest.mark.row("NET-18", "RUN-22")
def test_neighbouring_ports_are_joined() -> None:
    ports = [{"IP": "0.0.0.0", "PrivatePort": p, "PublicPort": p, "Type": "tcp"} for p in (82, 80, 81, 90)]
    assert ports_text(ports) == "0.0.0.0:80-82->80-82/tcp, 0.0.0.0:90->90/tcp"
    assert ports_text([{"PrivatePort": 80, "Type": "tcp"}]) == "80/tcp"
    assert ports_text([{"IP": "::", "PrivatePort": 1, "PublicPort": 2, "Type": "udp"}]) == "[::]:2->1/udp"
