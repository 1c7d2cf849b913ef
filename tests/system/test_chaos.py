"""The engine is killed at random moments under load; after each restart store, disk and kernel agree.

``BOXSHIP_CHAOS_ROUNDS`` and ``BOXSHIP_CHAOS_SEED`` make it long (see scripts/chaos); the suite runs a short slice.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system

ROUNDS = int(os.environ.get("BOXSHIP_CHAOS_ROUNDS", "6"))
SEED = int(os.environ.get("BOXSHIP_CHAOS_SEED", "1"))
COMMANDS = (["true"], ["sleep", "1000"], ["sh", "-c", "sleep 0.1; exit 3"], ["nosuch"])


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_store_disk_and_kernel_agree_after_kills_at_random_moments(fresh_engine: Engine) -> None:
    engine = fresh_engine
    chance = random.Random(SEED)
    for number in range(ROUNDS):
        stop = threading.Event()
        clients = [threading.Thread(target=work, args=(engine, random.Random(chance.random()), stop)) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(chance.uniform(0.1, 0.8))
        engine.kill()
        stop.set()
        for client in clients:
            client.join()
        engine.start()
        disagreements = examine(engine)
        until = time.monotonic() + 15  # what the restart does in the background
        while disagreements and time.monotonic() < until:
            time.sleep(0.1)
            disagreements = examine(engine)
        assert not disagreements, f"round {number}, seed {SEED}: {disagreements}\n{engine.log_text()[-3000:]}"
        assert engine.docker("run", "--rm", "busybox", "echo", "alive").stdout == "alive\n"


def work(engine: Engine, chance: random.Random, stop: threading.Event) -> None:
    """Create, start, stop, restart and remove containers until told to end or the engine is gone."""
    mine: list[str] = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        while not stop.is_set():
            if not mine or chance.random() < 0.4:
                body = {
                    "Image": "busybox",
                    "Cmd": chance.choice(COMMANDS),
                    "HostConfig": {"AutoRemove": chance.random() < 0.2, "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
                }
                mine.append(engine.api("POST", "/containers/create", body)[1]["Id"])
            id = chance.choice(mine)
            match chance.randrange(5):
                case 0 | 1:
                    engine.api("POST", f"/containers/{id}/start")
                case 2:
                    engine.api("POST", f"/containers/{id}/stop?t=0")
                case 3:
                    engine.api("POST", f"/containers/{id}/restart?t=0")
                case _:
                    engine.api("DELETE", f"/containers/{id}?force=1")
                    mine.remove(id)


def examine(engine: Engine) -> list[str]:
    """Return where the engine's word, its files and the kernel differ."""
    rows = engine.api("GET", "/containers/json?all=1")[1]
    states = {row["Id"]: row["State"] for row in rows}
    alive = {id for id, state in states.items() if state == "running"}
    found = []
    for id in alive:
        pid = engine.api("GET", f"/containers/{id}/json")[1]["State"]["Pid"]
        if not os.path.exists(f"/proc/{pid}"):
            found.append(f"{id[:12]} should run as {pid}")
    found += _differs("directories", set(os.listdir(engine.data_root / "containers")), set(states))
    found += _differs("shims", _listening(engine), alive)
    mounts = re.findall(r"/overlay2/([0-9a-f]+)/merged", Path("/proc/self/mountinfo").read_text())
    ours = set(os.listdir(engine.data_root / "overlay2"))
    found += _differs("number of mounts", {str(len(ours & set(mounts)))}, {str(len(alive))})
    found += _differs("cgroups", {Path(path).name for path in engine.cgroups()}, alive)
    rules = engine.namespace.run("nft", "list", "ruleset").stdout
    addresses = set(re.findall(r": (172\.17\.\d+\.\d+) \. 80", rules))
    published = {row["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for row in rows if row["Id"] in alive}
    found += _differs("published addresses", addresses, published)
    return found


def _listening(engine: Engine) -> set[str]:
    return {path.parent.name for path in (engine.exec_root / "shims").glob("*/shim.sock")}


def _differs(what: str, found: set[str], expected: set[str]) -> list[str]:
    return [f"{what}: {sorted(found ^ expected)}"] if found != expected else []
