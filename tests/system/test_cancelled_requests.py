"""Clients that go away while the engine works for them: what was begun is ended, nothing is torn, the next request fits."""

from __future__ import annotations

import socket

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system


def begin(engine: Engine, method: str, path: str) -> None:
    """Send a request and go away without its answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(engine.socket))
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.timeout(180)
def test_a_removal_waits_for_a_start_that_nobody_waits_for(engine: Engine) -> None:
    for round in range(15):
        name = f"left{round}"
        id = engine.docker("create", "--name", name, "busybox", "sleep", "1000").stdout.strip()
        begin(engine, "POST", f"/containers/{name}/start")
        status, answer = engine.api("DELETE", f"/containers/{name}?force=1")
        assert status == 204, answer
        directory = engine.data_root / "containers" / id
        until(lambda directory=directory: not directory.exists())
        assert engine.api("GET", f"/containers/{id}/json")[0] == 404
    assert "cannot go from" not in engine.log_text()
    assert engine.docker("ps", "-aq").stdout == ""
