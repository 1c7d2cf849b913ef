"""Two hundred containers come and go in eight clients: nothing is left of them anywhere."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_two_hundred_containers_in_eight_clients_leave_nothing(fresh_engine: Engine) -> None:
    engine = fresh_engine
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda _: cycle(engine, 4), range(8)))  # pools are filled, threads started, modules loaded
        settle(engine)
        before = counts(engine)
        list(clients.map(lambda _: cycle(engine, 25), range(8)))
    settle(engine)
    after = counts(engine)
    memory_before, memory_after = before.pop("memory"), after.pop("memory")
    # The store keeps up to eight idle readers, so the peak of parallel calls shows; two hundred leaks would show more.
    assert after.pop("descriptors") <= before.pop("descriptors") + 16
    assert after == before
    assert memory_after < memory_before + 8 * 1024, f"{memory_before} KiB grew to {memory_after} KiB"


def cycle(engine: Engine, times: int) -> None:
    for _ in range(times):
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}}
        status, created = engine.api("POST", "/containers/create", body)
        assert status == 201, created
        id = created["Id"]
        status, answer = engine.api("POST", f"/containers/{id}/start")
        assert status == 204, answer
        status, answer = engine.api("POST", f"/containers/{id}/wait")
        assert (status, answer["StatusCode"]) == (200, 0)
        status, answer = engine.api("DELETE", f"/containers/{id}?force=1")
        assert status == 204, answer


def settle(engine: Engine) -> None:
    """Wait, bounded, until two looks a moment apart see the same: what runs in the background has ended."""
    until = time.monotonic() + 20
    last: dict[str, int] = {}
    while time.monotonic() < until:
        now = counts(engine)
        now.pop("memory")
        if now == last and now["shims"] == 0:
            return
        last = now
        time.sleep(0.5)


def counts(engine: Engine) -> dict[str, int]:
    assert engine.process is not None
    daemon = _daemon_pid(engine)
    status = Path(f"/proc/{daemon}/status").read_text()
    info = engine.api("GET", "/info")[1]
    rules = engine.namespace.run("nft", "-j", "list", "ruleset").stdout
    links = json.loads(engine.namespace.run("ip", "-json", "link").stdout)
    return {
        "descriptors": len(os.listdir(f"/proc/{daemon}/fd")),
        "tasks": info["NGoroutines"],
        "mounts": sum(str(engine.root) in line for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroups": len(engine.cgroups()),
        "namespaces": len(os.listdir(engine.exec_root / "netns")),
        "links": len(links),
        "rules": len(rules),
        "shims": len(os.listdir(engine.exec_root / "shims")),
        "containers": len(os.listdir(engine.data_root / "containers")),
        "snapshots": len(os.listdir(engine.data_root / "overlay2")),
        "memory": int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))),
    }


def _daemon_pid(engine: Engine) -> int:
    return int((engine.root / "boxshipd.pid").read_text())
