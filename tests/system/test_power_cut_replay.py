"""The power goes at a flush of the disk while images, containers and volumes come and go (F2): what is there is whole, the rest
can be had again.

Few flushes of many; ``scripts/power-cut`` takes them all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.power_cuts import PowerCuts

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def power_cuts() -> Iterator[PowerCuts]:
    power_cuts = PowerCuts()
    yield power_cuts
    power_cuts.close()


@pytest.mark.row("IMG-24")
@pytest.mark.parametrize("stage", ["pull one", "remove one"])
def test_f2_images_are_whole_or_absent_after_a_cut_in_the_middle(power_cuts: PowerCuts, stage: str) -> None:
    cuts = [cut for cut in power_cuts.cuts(seeds=[1]) if cut.stage == stage]
    power_cuts.check(cuts[len(cuts) // 2])


@pytest.mark.parametrize("stage", ["pull one", "create", "remove volume", "prune"])
def test_f2_what_the_engine_has_answered_is_on_the_disk(power_cuts: PowerCuts, stage: str) -> None:
    power_cuts.check([cut for cut in power_cuts.cuts() if cut.stage == stage][-1])
