"""Checkpoints are refused, each request in its own words, and nothing is started in their place."""

from types import SimpleNamespace

import pytest

DISABLED = "This experimental feature is disabled by default"


@pytest.fixture
def containers(recorder):
    return recorder(inspect=SimpleNamespace(name="/web"), start=True)


@pytest.mark.row("RUN-50")
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "checkpoints"), ("POST", "checkpoints"), ("DELETE", "checkpoints/one")],
)
def test_without_experimental_mode_there_are_no_checkpoints(ask, containers, method, target):
    answer = ask(method, f"/containers/web/{target}", containers=containers)
    assert answer.status == 501
    assert answer.body["message"].startswith(DISABLED)


@pytest.mark.row("RUN-50")
def test_in_experimental_mode_the_container_is_named(ask, containers):
    backends = {"containers": containers, "experimental": True}
    assert ask("GET", "/containers/web/checkpoints", **backends).body == []
    created = ask("POST", "/containers/web/checkpoints", json={"CheckpointID": "one"}, **backends)
    message = "Cannot checkpoint container web: checkpoints are not supported by this engine"
    assert (created.status, created.body) == (501, {"message": message})
    removed = ask("DELETE", "/containers/web/checkpoints/one", **backends)
    assert (removed.status, removed.body) == (404, {"message": "checkpoint one does not exist for container web"})


@pytest.mark.row("RUN-50")
@pytest.mark.parametrize(("experimental", "status"), [(False, 400), (True, 501)])
def test_a_start_from_a_checkpoint_starts_nothing(ask, containers, experimental, status):
    answer = ask("POST", "/containers/web/start?checkpoint=one", containers=containers, experimental=experimental)
    assert answer.status == status
    assert containers.calls == []
    assert ask("POST", "/containers/web/start", containers=containers).status == 204
