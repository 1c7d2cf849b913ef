"""Checkpoints over the API: what of a request reaches the engine, and what a daemon without experimental features refuses."""

import pytest

from boxship.base.errors import NotFound

DISABLED = "This experimental feature is disabled by default"


@pytest.fixture
def containers(recorder):
    return recorder(start=True)


@pytest.mark.row("RUN-50")
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "checkpoints"), ("POST", "checkpoints"), ("DELETE", "checkpoints/one")],
)
def test_without_experimental_mode_there_are_no_checkpoints(ask, recorder, method, target):
    saved = recorder()
    answer = ask(method, f"/containers/web/{target}", checkpoints=saved)
    assert answer.status == 501
    assert answer.body["message"].startswith(DISABLED)
    assert saved.calls == []


@pytest.mark.row("RUN-50")
def test_a_list_holds_names(ask, recorder):
    saved = recorder(list=["one", "two"])
    answer = ask("GET", "/containers/web/checkpoints?dir=/backup", checkpoints=saved, experimental=True)
    assert (answer.status, answer.body) == (200, [{"Name": "one"}, {"Name": "two"}])
    assert saved.calls == [("list", ("web",), {"directory": "/backup"})]


@pytest.mark.row("RUN-50")
@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"CheckpointID": "one"}, {"directory": "", "exit": False}),
        ({"CheckpointID": "one", "CheckpointDir": "/backup", "Exit": True}, {"directory": "/backup", "exit": True}),
    ],
)
def test_a_create_passes_its_body(ask, recorder, body, options):
    saved = recorder(create=None)
    answer = ask("POST", "/containers/web/checkpoints", json=body, checkpoints=saved, experimental=True)
    assert answer.status == 201
    assert saved.calls == [("create", ("web", "one"), options)]


@pytest.mark.row("RUN-50")
def test_a_removal_passes_its_query(ask, recorder):
    saved = recorder(remove=None)
    answer = ask("DELETE", "/containers/web/checkpoints/one?dir=/backup", checkpoints=saved, experimental=True)
    assert answer.status == 204
    assert saved.calls == [("remove", ("web", "one"), {"directory": "/backup"})]


@pytest.mark.row("RUN-50")
def test_a_start_from_a_checkpoint_without_experimental_mode_starts_nothing(ask, recorder, containers):
    saved = recorder(restore=True)
    answer = ask("POST", "/containers/web/start?checkpoint=one", containers=containers, checkpoints=saved)
    assert (answer.status, answer.body) == (400, {"message": "checkpoint is only supported in experimental mode"})
    assert containers.calls == saved.calls == []
    assert ask("POST", "/containers/web/start", containers=containers).status == 204


@pytest.mark.row("RUN-50")
@pytest.mark.parametrize(("started", "status"), [(True, 204), (False, 304)])
def test_a_start_from_a_checkpoint_restores(ask, recorder, containers, started, status):
    saved = recorder(restore=started)
    target = "/containers/web/start?checkpoint=one&checkpoint-dir=/backup"
    answer = ask("POST", target, containers=containers, checkpoints=saved, experimental=True)
    assert answer.status == status
    assert saved.calls == [("restore", ("web", "one"), {"directory": "/backup"})]
    assert containers.calls == []


@pytest.mark.row("RUN-50")
def test_a_start_from_a_checkpoint_that_is_not_there_starts_nothing(ask, recorder, containers):
    missing = NotFound("checkpoint one does not exist for container /web")
    saved = recorder(restore=missing)
    answer = ask(
        "POST", "/containers/web/start?checkpoint=one", containers=containers, checkpoints=saved, experimental=True
    )
    assert (answer.status, answer.body) == (404, {"message": str(missing)})
    assert containers.calls == []
