"""Containers that do not get on cost nobody else anything.

The deadlines here are generous: what is proven is that nothing waits for a stuck container. ``scripts/responsiveness`` measures.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from harness.engine import Engine
from harness.stuck import (
    ASLEEP,
    FROZEN,
    FULL,
    NAMES,
    hopeless_calls,
    pending,
    process_state,
    stuck_containers,
    timed_run,
)
from harness.waiting import until

pytestmark = pytest.mark.system

SOON = 5.0  # seconds


@pytest.mark.timeout(120)
def test_stuck_containers_and_requests_to_them_hold_up_nobody_else(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "other", "busybox", "sleep", "100")
    with stuck_containers(engine) as filesystem, pending(engine, hopeless_calls(engine, filesystem, 4)):
        begun = time.monotonic()
        states = {row["Names"][0].strip("/"): row["State"] for row in engine.api("GET", "/containers/json?all=1")[1]}
        assert {name: states[name] for name in NAMES} == {FROZEN: "paused", ASLEEP: "running", FULL: "running"}
        for name in ("other", *NAMES):
            assert engine.api("GET", f"/containers/{name}/json")[0] == 200
            status, sample = engine.api("GET", f"/containers/{name}/stats?stream=false")
            assert (status, sample["pids_stats"]["current"]) == (200, 1)
            assert engine.api("GET", f"/containers/{name}/top")[0] == 200
        now = int(time.time())
        assert engine.api("GET", f"/events?since={now - 100}&until={now}")[0] == 200
        assert [len(engine.api("GET", "/boxship/stats")[1]), time.monotonic() - begun < SOON] == [4, True]
        assert timed_run(engine, "another") < SOON
        assert engine.docker("exec", "other", "echo", "hi").stdout == "hi\n"


@pytest.mark.timeout(60)
def test_a_restarted_daemon_keeps_a_container_whose_shim_does_not_answer(fresh_engine: Engine) -> None:
    engine = fresh_engine
    id = engine.docker(
        "run", "-d", "--name", "one", "busybox", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"
    )
    record = json.loads((engine.exec_root / "shims" / id.stdout.strip() / "state.json").read_text())
    os.kill(record["shim_pid"], signal.SIGSTOP)
    until(lambda: process_state(record["shim_pid"]) == "T")
    try:
        engine.kill()
        engine.start()
        state = engine.api("GET", "/containers/one/json")[1]["State"]
        assert (state["Status"], state["Pid"]) == ("running", record["pid"])
        assert process_state(record["pid"]) in "SR"
    finally:
        os.kill(record["shim_pid"], signal.SIGCONT)
    engine.docker("stop", "one")
    assert engine.api("GET", "/containers/one/json")[1]["State"]["ExitCode"] == 7
