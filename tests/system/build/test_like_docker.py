"""Dockerfiles after the patterns of popular images, compared file by file with what a real dockerd makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import builds
from harness.dockerd import Dockerd
from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LIVE = ("12-jenkins", "23-arg-scopes", "29-links-and-modes", "32-copy-overwrites")  # beside a dockerd each time


@pytest.fixture(scope="module")
def base(engine: Engine) -> dict[str, Any]:
    return builds.files(engine, builds.BASE)


def test_there_are_forty_dockerfiles_and_each_has_a_record() -> None:
    assert len(builds.CASES) >= 40
    assert sorted(builds.recorded()) == builds.CASES


@pytest.mark.parametrize("case", builds.CASES)
def test_an_image_is_that_of_the_real_builder(engine: Engine, base: dict[str, Any], case: str, tmp_path: Path) -> None:
    name = f"case-{case}"
    builds.build(engine, builds.context(case, tmp_path, peer=False), name)
    found, expected = builds.observe(engine, name, base), builds.recorded()[case]
    if builds.has_older_words(case):
        del found["history"], expected["history"]
    assert found == expected


@pytest.mark.parametrize("case", LIVE)
def test_the_record_is_what_a_real_builder_does(dockerd: Dockerd, case: str, tmp_path: Path) -> None:
    name = f"case-{case}"
    builds.build(dockerd, builds.context(case, tmp_path, peer=True), name)
    assert builds.observe(dockerd, name, builds.files(dockerd, builds.BASE)) == builds.recorded()[case]
