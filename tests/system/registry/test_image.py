"""The registry as a container: ``docker run -d -p 5000:5000 --name registry registry:2`` as the books have it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.engine import SOURCE, Engine
from harness.waiting import until

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[2]
PUSH = """
from harness.registry_server import Client
client = Client("http://127.0.0.1:5000")
client.push_image("my/image", "v1", [b"x" * 100_000])
print(client.call("GET", "/v2/my/image/tags/list").body.decode())
"""


@pytest.mark.row("REG-06")
def test_the_image_is_made_of_this_installation_and_serves() -> None:
    engine = Engine()
    try:
        engine.start()
        engine.boxship("image", "bootstrap", "-q", "registry:2")
        engine.docker("run", "-d", "-p", "5000:5000", "--name", "registry", "registry:2")
        until(lambda: "listening on" in engine.docker("logs", "registry").stderr, 60)
        pushed = engine.namespace.run(
            sys.executable, "-c", PUSH, env={"PYTHONPATH": f"{TESTS}:{SOURCE}", "PATH": "/usr/bin"}
        )
        assert pushed.stdout.strip() == '{"name":"my/image","tags":["v1"]}'
        engine.docker("restart", "registry")
        volumes = engine.docker("inspect", "-f", "{{(index .Mounts 0).Destination}}", "registry").stdout
        assert volumes.strip() == "/var/lib/registry"
        done = engine.docker("run", "--rm", "registry:2", "garbage-collect", "/etc/docker/registry/config.yml")
        assert "blobs: 0" in done.stdout
        until(lambda: engine.docker("logs", "registry").stderr.count("listening on") == 2, 60)
        engine.docker("stop", "registry")
        assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "registry").stdout.strip() == "0"
    finally:
        engine.close()
