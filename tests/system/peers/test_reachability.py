"""Who reaches whom, by address and by name, on all kinds of networks: as Docker's rules say, and as a live dockerd has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox
from harness.reachability import ALIASES, CONTAINERS, OLDER, Town, may_reach, may_resolve

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["boxship", "dockerd"])
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    engine: Engine | Dockerd
    try:
        # dockerd 20.10 has rules of IPv6 as an experiment only.
        engine = Engine() if request.param == "boxship" else Dockerd(["--experimental", "--ip6tables"])
        engine.start()
    except RuntimeError as exc:
        if request.param == "boxship":
            raise
        pytest.skip(str(exc))
    try:
        import_busybox(engine)
        town = Town(engine, is_dockerd=request.param == "dockerd")
        yield town
        town.close()
    finally:
        engine.close()


@pytest.mark.row("NET-02", "NET-03", "NET-04", "NET-07", "NET-28", "NET-34", "NET-35")
def test_exactly_what_docker_allows_is_reached(town: Town) -> None:
    expected = {
        source: {probe for probe in town.probes() if may_reach(source, probe[0], probe[1])} for source in CONTAINERS
    }
    found = town.reached()
    if town.is_dockerd:
        for source in OLDER:
            for each in (found, expected):
                each[source] = {probe for probe in each[source] if probe[0] != "the host" and ":" not in probe[2]}
    assert {name: found[name] ^ expected[name] for name in CONTAINERS if found[name] != expected[name]} == {}


@pytest.mark.row("NET-10", "NET-32")
def test_names_and_aliases_lead_there_and_nowhere_else(town: Town) -> None:
    expected: dict[str, dict[str, list[str]]] = {source: {} for source in CONTAINERS}
    for source in CONTAINERS:
        for place in town.places:
            known = place.container in CONTAINERS and may_resolve(source, place.container)
            if known and place.network in CONTAINERS[source]:
                for name in filter(None, (place.container, ALIASES.get(place.container))):
                    expected[source][name] = sorted(place.addresses)
    found = town.names([*CONTAINERS, *ALIASES.values()])
    for name, networks in CONTAINERS.items():
        if len(networks) > 1:  # which of its own addresses it is told first is left open
            for each in (found, expected):
                each[name].pop(name, None)
    assert found == expected
