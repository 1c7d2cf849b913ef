"""Two containers that race for a port, and what is left of it when the winner ends; scripts/port-fights has a thousand races."""

from __future__ import annotations

import pytest

from harness.engine import Engine
from harness.port_fights import Fights

pytestmark = pytest.mark.system


@pytest.mark.row("NET-18")
def test_n5_of_two_that_race_for_a_port_one_gets_it_each_time(engine: Engine) -> None:
    fights = Fights(engine)
    for number in range(50):
        fights.race(number)
    fights.clear()
    assert fights.outcomes == {"killed by request": 20, "killed from outside": 25, "lost to the host": 5}
