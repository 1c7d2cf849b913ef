from __future__ import annotations

import pytest

from boxship.networks.gateways import choose
from boxship.networks.models import Endpoint


def endpoint(network: str, v4: str = "1", v6: str = "", priority: int = 0) -> Endpoint:
    return Endpoint(
        network=network, network_id=network, endpoint_id=network, gateway=v4, gateway_v6=v6, priority=priority
    )


@pytest.mark.parametrize(
    ("endpoints", "v4", "v6"),
    [
        ([], None, None),
        ([endpoint("internal", v4="")], None, None),
        ([endpoint("b"), endpoint("a")], "a", None),
        ([endpoint("a"), endpoint("b", priority=1)], "b", None),
        ([endpoint("a"), endpoint("b", v6="2")], "b", "b"),
        ([endpoint("a", priority=1), endpoint("b", v6="2")], "a", "b"),
        ([endpoint("a", priority=-1), endpoint("b")], "b", None),
        ([endpoint("a", v4="", v6="2"), endpoint("b")], "b", "a"),
    ],
)
def test_the_way_out_is_chosen_by_priority_families_and_name(endpoints, v4, v6):
    chosen = choose(endpoints)
    assert (chosen.v4 and chosen.v4.network, chosen.v6 and chosen.v6.network) == (v4, v6)
