"""Rows API of the feature table: the calls themselves, without any command line between."""

from __future__ import annotations

import http.client
import json
import re
import socket
import tarfile
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def ask(engine: Engine) -> Ask:
    """Send one request and return status, headers in small letters, and body."""

    def asking(
        method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("v1")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(str(engine.socket))
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        found = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    return asking


def create(ask: Ask, name: str, *command: str, **fields: Any) -> str:
    """Create a container and return its id."""
    status, _, body = ask("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": command, **fields})
    assert status == 201, body
    document = json.loads(body)
    assert document.keys() == {"Id", "Warnings"}
    return str(document["Id"])


@pytest.mark.row("API-01", "API-02")
def test_versions_are_served_or_refused(ask: Ask) -> None:
    assert ask("GET", "/containers/json")[0] == ask("GET", "/v1.41/containers/json")[0] == 200
    assert ask("GET", "/v1.24/containers/json")[0] == 200
    for version, text in (
        ("1.99", r"client version 1\.99 is too new\. Maximum supported API version is 1\.\d+"),
        ("1.0", r"client version 1\.0 is too old\. Minimum supported API version is 1\.24"),
    ):
        status, _, body = ask("GET", f"/v{version}/containers/json")
        assert status == 400
        assert re.match(text, json.loads(body)["message"])


@pytest.mark.row("API-03")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_tells_of_the_engine(ask: Ask, method: str) -> None:
    status, headers, body = ask(method, "/_ping")
    assert (status, body) == (200, b"OK" if method == "GET" else b"")
    assert re.fullmatch(r"1\.\d+", headers["api-version"])
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] in ("true", "false")
    assert {"builder-version", "swarm", "cache-control"} <= headers.keys()


@pytest.mark.row("API-04")
def test_system_calls_answer(ask: Ask) -> None:
    assert json.loads(ask("GET", "/version")[2])["Components"][0]["Name"] == "Engine"
    assert json.loads(ask("GET", "/info")[2])["OSType"] == "linux"
    usage = json.loads(ask("GET", "/v1.44/system/df?type=image")[2])
    assert usage["Images"][0]["RepoTags"] == ["busybox:latest"]
    assert ask("GET", "/system/df?type=bogus")[0] == 400
    assert ask("GET", "/events?since=1&until=2")[0] == 200
    assert ask("GET", "/events?since=1&until=2&filters=%7B%22bogus%22%3A%5B%221%22%5D%7D")[0] == 400


@pytest.mark.row("API-05", "API-06", "API-07")
def test_a_container_from_create_to_removal(ask: Ask) -> None:
    id = create(ask, "life", "sleep", "100")
    assert ask("POST", "/containers/create?name=life", {"Image": "busybox"})[0] == 409
    status, headers, body = ask("POST", "/containers/create", {"Image": "nosuch"})
    assert (status, json.loads(body)) == (404, {"message": "No such image: nosuch:latest"})
    assert headers["content-type"].startswith("application/json")
    assert json.loads(ask("GET", "/containers/json")[2]) == []
    assert [row["Id"] for row in json.loads(ask("GET", "/containers/json?all=1&limit=1&size=1")[2])] == [id]
    assert ask("POST", f"/containers/{id}/start")[::2] == (204, b"")
    assert ask("POST", "/containers/life/start")[::2] == (304, b"")
    assert json.loads(ask("GET", "/containers/life/json")[2])["State"]["Running"] is True
    for call in ("pause", "unpause", "rename?name=other", "restart?t=0"):
        name = "other" if call.startswith("restart") else "life"
        assert ask("POST", f"/containers/{name}/{call}")[0] == 204, call
    assert ask("POST", "/containers/other/resize?h=10&w=10")[0] in (200, 409, 500)
    assert ask("POST", "/containers/other/update", {"Memory": 64 << 20, "MemorySwap": -1})[0] == 200
    assert ask("DELETE", "/containers/other")[0] == 409
    waited: list[tuple[int, Any]] = []
    waiting = threading.Thread(
        target=lambda: waited.append(ask("POST", "/containers/other/wait?condition=removed")[::2])
    )
    waiting.start()
    assert ask("POST", "/containers/other/kill?signal=KILL")[0] == 204
    assert json.loads(ask("POST", "/containers/other/wait")[2])["StatusCode"] == 137
    assert ask("POST", "/containers/other/stop?t=1")[0] == 304
    assert ask("POST", "/containers/other/kill")[0] == 409
    assert ask("DELETE", "/containers/other?v=1&force=1")[::2] == (204, b"")
    waiting.join(20)
    assert [(status, json.loads(body)["StatusCode"]) for status, body in waited] == [(200, 137)]
    assert ask("GET", "/containers/other/json")[0] == 404
    assert ask("POST", "/containers/nosuch/wait?condition=bogus")[0] in (400, 404)


@pytest.mark.row("API-09", "API-10")
def test_logs_and_execs_are_framed(ask: Ask, engine: Engine) -> None:
    id = create(ask, "talk", "sh", "-c", "echo out; sleep 100")
    ask("POST", f"/containers/{id}/start")
    status, _, body = ask(
        "POST", f"/containers/{id}/exec", {"Cmd": ["sh", "-c", "echo e; exit 3"], "AttachStdout": True}
    )
    exec_id = json.loads(body)["Id"]
    assert status == 201
    assert ask("POST", f"/exec/{exec_id}/start", {"Detach": False})[2] == b"\x01\0\0\0\0\0\0\x02e\n"
    found = json.loads(ask("GET", f"/exec/{exec_id}/json")[2])
    assert (found["ExitCode"], found["Running"], found["ContainerID"]) == (3, False, id)
    assert ask("POST", f"/exec/{exec_id}/start", {})[0] == 409
    logs = ask("GET", f"/containers/{id}/logs?stdout=1&tail=1")[2]
    assert logs == b"\x01\0\0\0\0\0\0\x04out\n"
    status, _, body = ask("GET", f"/containers/{id}/logs")
    assert (status, json.loads(body)["message"]) == (400, "Bad parameters: you must choose at least one stream")


@pytest.mark.row("API-11")
def test_top_changes_export(ask: Ask) -> None:
    id = create(ask, "busy", "sh", "-c", "echo > /tmp/new; rm /etc/group; exec sleep 100")
    ask("POST", f"/containers/{id}/start")
    titles = json.loads(ask("GET", f"/containers/{id}/top?ps_args=-o+pid,comm")[2])["Titles"]
    assert titles == ["PID", "COMMAND"]
    changes: list[dict[str, Any]] = []
    while len(changes) < 4:
        changes = json.loads(ask("GET", f"/containers/{id}/changes")[2]) or []
    kinds = {change["Path"]: change["Kind"] for change in changes}
    assert kinds == {"/tmp": 0, "/tmp/new": 1, "/etc": 0, "/etc/group": 2}
    with tarfile.open(fileobj=BytesIO(ask("GET", f"/containers/{id}/export")[2])) as tar:
        assert {"tmp/new", ".dockerenv", "bin/busybox"} <= {name.removeprefix("./") for name in tar.getnames()}
