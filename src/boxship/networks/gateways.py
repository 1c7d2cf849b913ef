"""Which of a container's endpoints gives the default routes and the published ports (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boxship.networks.models import Endpoint


class Gateways(NamedTuple):
    """The endpoints of the default routes, one a family; None: no way out."""

    v4: Endpoint | None
    v6: Endpoint | None


def choose(endpoints: Sequence[Endpoint]) -> Gateways:
    """Choose as Docker: the highest priority first, then networks with both families, then the first name."""
    ranked = sorted(endpoints, key=lambda e: (-e.priority, not (e.gateway and e.gateway_v6), e.network))
    return Gateways(
        next((endpoint for endpoint in ranked if endpoint.gateway), None),
        next((endpoint for endpoint in ranked if endpoint.gateway_v6), None),
    )
