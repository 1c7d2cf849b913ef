"""Authorization plugins see each request and each answer, and what they do not allow does not happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.authz import AuthorizationPlugin
from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.row("ENG-28")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that asks the plugin ``guard``."""
    engine = Engine(options=["--plugin-wait=0", "--authorization-plugin=guard"])
    guard = AuthorizationPlugin(engine.plugins, "guard")
    guard.listen()
    engine.guard = guard  # type: ignore[attr-defined]
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()
        guard.close()


@pytest.fixture
def guard(engine: Engine) -> AuthorizationPlugin:
    guard: AuthorizationPlugin = engine.guard  # type: ignore[attr-defined]
    guard.forbids, guard.secret = False, []
    guard.calls.clear()
    return guard


def test_the_plugin_sees_requests_and_answers(engine: Engine, guard: AuthorizationPlugin) -> None:
    engine.docker("volume", "create", "--label", "a=b", "data")
    (request,) = guard.asked("AuthZReq", "/volumes/create")
    assert (request["RequestMethod"], request["RequestBody"]["Name"]) == ("POST", "data")
    assert request["RequestHeaders"]["Content-Type"] == "application/json"
    (answer,) = guard.asked("AuthZRes", "/volumes/create")
    assert (answer["ResponseStatusCode"], answer["ResponseBody"]["Labels"]) == (201, {"a": "b"})
    engine.docker("volume", "rm", "data")
    assert "guard" in engine.docker("info", "-f", "{{.Plugins.Authorization}}").stdout
    engine.docker("volume", "inspect", "nosuch", check=False)
    assert guard.asked("AuthZRes", "/volumes/nosuch")[0]["ResponseStatusCode"] == 404


def test_a_request_that_is_denied_is_not_carried_out(engine: Engine, guard: AuthorizationPlugin) -> None:
    guard.forbids = True
    denied = engine.docker("run", "--privileged", "busybox", "true", check=False)
    assert denied.returncode == 125
    assert "authorization denied by plugin guard: nobody is privileged here" in denied.stderr
    status, answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Privileged": True}})
    assert (status, "denied by plugin guard" in answer["message"]) == (403, True)
    assert engine.docker("ps", "-aq").stdout == ""
    one = engine.docker("run", "-d", "busybox", "sleep", "999").stdout.strip()
    assert engine.docker("exec", "-i", one, "cat", input="on").stdout == "on"
    engine.docker("rm", "-f", one)


def test_an_answer_that_is_denied_is_not_shown(engine: Engine, guard: AuthorizationPlugin) -> None:
    engine.docker("volume", "create", "--label", "key=hunter2", "vault")
    guard.secret = [b"hunter2"]
    denied = engine.docker("volume", "inspect", "vault", check=False)
    assert "authorization denied by plugin guard: that is a secret" in denied.stderr
    assert "hunter2" not in denied.stdout + denied.stderr
    engine.docker("volume", "rm", "vault")


def test_credentials_are_not_shown(engine: Engine, guard: AuthorizationPlugin) -> None:
    engine.api("POST", "/auth", {"username": "u", "password": "hunter2", "serveraddress": "127.0.0.1:1"})
    (request,) = guard.asked("AuthZReq", "/auth")
    assert "RequestBody" not in request


@pytest.mark.parametrize("answer", [b"nonsense", b"{}", b'{"Allow": "yes"}', b'{"Allow": true, "Err": "ill"}'])
def test_without_a_clear_yes_nothing_is_allowed(engine: Engine, guard: AuthorizationPlugin, answer: bytes) -> None:
    guard.raw["AuthZPlugin.AuthZReq"] = answer
    status, said = engine.api("GET", "/version")
    del guard.raw["AuthZPlugin.AuthZReq"]
    assert status in (403, 500)
    assert "plugin guard" in said["message"]


def test_without_the_plugin_nothing_is_allowed(engine: Engine, guard: AuthorizationPlugin) -> None:
    guard.close()
    status, said = engine.api("GET", "/version")
    guard.listen()
    assert (status, said["message"]) == (500, 'plugin guard failed with error: plugin "guard" not found')
    assert engine.api("GET", "/version")[0] == 200
