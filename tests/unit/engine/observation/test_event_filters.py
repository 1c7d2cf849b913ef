"""Filters of events, as dockerd 20.10 answers for the same events."""

from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.observation.event_filters import check, matches
from boxship.spec.docker.system import EventActor, EventMessage


def event(type: str, action: str, id: str, /, **attributes: str) -> EventMessage:
    return EventMessage(
        type=type, action=action, actor=EventActor(id=id, attributes=attributes), time=1, time_nano=1_000_000_000
    )


EXEC = event("container", "exec_start: sh -c true", "abc", image="host:5000/img:1", name="web", l="1", m="2")
VOLUME = event("volume", "create", "web-data", driver="local")
NETWORK = event("network", "connect", "a2ca", name="webnet", type="bridge", container="abc")
IMAGE = event("image", "tag", "sha256:12", name="app:1")
RELOAD = event("daemon", "reload", "R4QI", name="host1")


@pytest.mark.parametrize(
    ("message", "filters", "found"),
    [
        (EXEC, {}, True),
        (EXEC, {"type": ["container"]}, True),
        (EXEC, {"type": ["image", "container"]}, True),
        (EXEC, {"type": ["image"]}, False),
        (EXEC, {"event": ["exec_start"]}, True),
        (EXEC, {"event": ["exec_start: sh -c true"]}, True),
        (EXEC, {"event": ["exec"]}, False),
        (EXEC, {"event": ["exec", "health_status"]}, True),
        (EXEC, {"event": ["die"]}, False),
        (VOLUME, {"event": ["cre"]}, False),
        (VOLUME, {"event": ["cre", "health_status"]}, True),
        (EXEC, {"container": ["web"]}, True),
        (EXEC, {"container": ["we"]}, True),
        (EXEC, {"container": ["ab"]}, True),
        (EXEC, {"container": ["eb"]}, False),
        (EXEC, {"container": ["other", "web"]}, True),
        (EXEC, {"container": ["web"], "event": ["die"]}, False),
        (EXEC, {"image": ["host:5000/img:1"]}, True),
        (EXEC, {"image": ["host:5000/img"]}, True),
        (EXEC, {"image": ["host"]}, False),
        (EXEC, {"label": ["l=1"]}, True),
        (EXEC, {"label": ["l"]}, True),
        (EXEC, {"label": ["l=1", "m=2"]}, True),
        (EXEC, {"label": ["l=1", "m=3"]}, False),
        (EXEC, {"label": ["none"]}, False),
        (EXEC, {"scope": ["local"]}, True),
        (EXEC, {"scope": ["swarm"]}, False),
        (VOLUME, {"volume": ["web"]}, True),
        (VOLUME, {"container": ["web"]}, True),
        (VOLUME, {"image": ["web"]}, False),
        (VOLUME, {"image": ["web-data"]}, True),
        (NETWORK, {"network": ["web"]}, True),
        (NETWORK, {"container": ["abc"]}, False),
        (IMAGE, {"image": ["app"]}, True),
        (IMAGE, {"image": ["sha256:12"]}, True),
        (IMAGE, {"image": ["sha256:1"]}, False),
        (RELOAD, {"daemon": ["host"]}, True),
        (RELOAD, {"daemon": ["x"]}, False),
    ],
)
def test_an_event_passes_the_filters_that_docker_lets_it_pass(
    message: EventMessage, filters: dict[str, list[str]], found: bool
) -> None:
    assert matches(message, filters) is found


def test_an_unknown_filter_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="invalid filter 'bogus'"):
        check({"type": ["container"], "bogus": ["1"]})
