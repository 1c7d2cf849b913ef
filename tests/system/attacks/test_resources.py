"""Containers that use up what there is, and exits in storms (R14, R15, F8, F9)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boxship.linux.cgroup import open_cgroup
from harness import hostile
from harness.engine import Engine

pytestmark = pytest.mark.system

SLOW = 15.0  # seconds that no answer may take while something bad goes on: far above the usual, far below a hang


@contextlib.contextmanager
def others_live(engine: Engine) -> Iterator[None]:
    """Check all through the block that another container and the engine answer."""
    other = hostile.start(engine, "busybox", "sleep", "1000")
    stop = threading.Event()
    slow: list[object] = []

    def look() -> None:
        while not stop.wait(0.1):
            for method, path in (
                ("GET", "/containers/json?all=1"),
                ("GET", f"/containers/{other}/json"),
                ("GET", "/_ping"),
            ):
                began = time.monotonic()
                status = hostile.call(engine, method, path)[0]
                if status != 200 or time.monotonic() - began > SLOW:
                    slow.append((path, status, time.monotonic() - began))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
        assert hostile.exec_(engine, other, "echo", "alive").text == "alive\n"
        assert hostile.run(engine, "busybox", "echo", "new").text == "new\n"
    finally:
        stop.set()
        looking.join()
    assert not slow
    hostile.remove(engine, other)


def bounded(work: Callable[[], object]) -> object:
    began = time.monotonic()
    found = work()
    assert time.monotonic() - began < SLOW
    return found


def test_r14_fork_bomb(engine: Engine) -> None:
    with others_live(engine):
        script = "sh -c 'while :; do sh -c \"sleep 1000 & sleep 1000\" & done'; exec sleep 1000"
        bomb = hostile.start(engine, "busybox", "sh", "-c", script, host={"PidsLimit": 60, "NanoCpus": 500_000_000})
        cgroup = open_cgroup(f"/boxship/{bomb}")
        # A shell that cannot fork gives up, so how many are left differs; that the limit held them is what counts.
        places = cgroup.paths()
        hits = Path(places.get("pids") or next(iter(places.values())), "pids.events")
        hostile.until(lambda: hits.read_text().split()[:2] != ["max", "0"], hits.read_text)
        assert len(cgroup.pids()) <= 60
        bounded(lambda: hostile.call(engine, "GET", f"/containers/{bomb}/top"))
        bounded(lambda: hostile.remove(engine, bomb))
    assert not Path(f"/sys/fs/cgroup/pids/boxship/{bomb}").exists()


def test_r14_exec_into_a_container_without_free_pids(engine: Engine) -> None:
    id = hostile.start(
        engine,
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo full; wait",
        host={"PidsLimit": 10},
    )
    hostile.until(lambda: "full" in hostile.output(engine, id))
    # The kernel lets a process move into a full cgroup, so the exec runs (with runc too), but has no children.
    assert "can't fork" in hostile.exec_(engine, id, "sh", "-c", "sleep 1 & wait").text
    assert len(open_cgroup(f"/boxship/{id}").pids()) <= 11
    assert hostile.inspect(engine, id)["State"]["Running"]
    bounded(lambda: hostile.remove(engine, id))


def test_r14_memory_bomb(engine: Engine) -> None:
    with others_live(engine):
        limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
        id = hostile.start(engine, "busybox", "sh", "-c", "x=a; while :; do x=$x$x; done", host=limits)
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
        state = hostile.inspect(engine, id)["State"]
        assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
        assert engine.process is not None
        assert engine.process.poll() is None


def test_r14_zombie_flood(engine: Engine) -> None:
    # Each child leaves an orphan, which becomes a zombie of PID 1: sleep never reaps.
    script = "i=0; while [ $i -lt 150 ]; do sh -c 'sleep 0.02 &'; i=$((i+1)); done; echo done; exec sleep 1000"
    with others_live(engine):
        id = hostile.start(engine, "busybox", "sh", "-c", script, host={"PidsLimit": 400})
        hostile.until(lambda: "done" in hostile.output(engine, id))
        assert hostile.exec_(engine, id, "echo", "in").text == "in\n"
        bounded(lambda: hostile.remove(engine, id))


def test_r14_zombies_of_execs_are_reaped(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000")
    shim = hostile.shim_state(engine, id)["shim_pid"]
    for _ in range(20):
        hostile.exec_(engine, id, "sh", "-c", "sleep 0.01 & exit 3")
    hostile.until(lambda: len(hostile.children(shim)) == 1, lambda: hostile.children(shim))


def test_r14_many_mounts(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mount -t tmpfs none /tmp || break; i=$((i+1)); done; echo $i; sleep 1000"
    with others_live(engine):
        id = hostile.start(
            engine, "busybox", "sh", "-c", script, host={"CapAdd": ["SYS_ADMIN"], "SecurityOpt": ["seccomp=unconfined"]}
        )
        hostile.until(lambda: "1500" in hostile.output(engine, id))
        assert len(Path("/proc/self/mountinfo").read_text().splitlines()) < 1000  # none reached the host
        bounded(lambda: hostile.remove(engine, id))


def test_r14_large_environments(engine: Engine) -> None:
    with others_live(engine):
        body = [f"V{n}={'x' * 64}" for n in range(900)]
        result = hostile.run(engine, "busybox", "sh", "-c", "env | wc -l", Env=body)
        assert int(result.text) > 900
        large = hostile.run(engine, "busybox", "sh", "-c", "echo ${#BIG}", Env=[f"BIG={'x' * 65536}"])
        assert large.text == "65536\n"
        over = hostile.run(engine, "busybox", "true", Env=[f"BIG={'x' * (200 << 10)}"])  # beyond what execve takes
        assert over.code is None
        assert "argument list too long" in over.text.lower()


def test_r14_many_files(engine: Engine) -> None:
    with others_live(engine):
        script = "mkdir /d && cd /d && i=0; while [ $i -lt 1500 ]; do : > f$i; i=$((i+1)); done; echo ok"
        id = hostile.start(engine, "busybox", "sh", "-c", script)
        hostile.until(lambda: "ok" in hostile.output(engine, id))
        bounded(lambda: hostile.call(engine, "GET", f"/containers/{id}/changes"))
        bounded(lambda: hostile.remove(engine, id))


def test_r15_exit_storm(engine: Engine) -> None:
    """Containers that end at once, in four clients: each exit code is its own."""
    count = hostile.rounds(60)

    def one(number: int) -> tuple[int, object]:
        return number % 251, hostile.run(engine, "busybox", "sh", "-c", f"exit {number % 251}").code

    with ThreadPoolExecutor(4) as clients:
        wrong = [pair for pair in clients.map(one, range(count)) if pair[0] != pair[1]]
    assert not wrong


def test_r15_exec_exit_storm(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000")

    def one(number: int) -> tuple[int, object]:
        return number % 251, hostile.exec_(engine, id, "sh", "-c", f"exit {number % 251}").code

    with ThreadPoolExecutor(4) as clients:
        wrong = [pair for pair in clients.map(one, range(hostile.rounds(60))) if pair[0] != pair[1]]
    assert not wrong


@pytest.mark.parametrize("number", [1, 2, 9, 11, 15])
def test_r15_signal_deaths_are_told(engine: Engine, number: int) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000")
    os.kill(hostile.inspect(engine, id)["State"]["Pid"], signal.SIGKILL if number == 9 else number)
    if number in (9, 11):  # PID 1 has no default actions, but a fault and a kill from outside end it
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"] or number == 11, seconds=5)
    state = hostile.inspect(engine, id)["State"]
    assert state["Running"] or state["ExitCode"] == 128 + number


def test_r15_kills_race_with_exits_and_hit_no_stranger(engine: Engine) -> None:
    """A signal for a container whose process has just ended: nobody else gets it, however pids are reused."""
    bystanders = [hostile.start(engine, "busybox", "sleep", "1000") for _ in range(3)]
    found: Counter[int] = Counter()

    def one(number: int) -> None:
        id = hostile.start(engine, "busybox", "sh", "-c", "exit 5")
        status = hostile.call(engine, "POST", f"/containers/{id}/kill?signal=KILL")[0]
        assert status in (204, 409), status
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
        found[hostile.inspect(engine, id)["State"]["ExitCode"]] += 1
        hostile.remove(engine, id)

    with ThreadPoolExecutor(4) as clients:
        list(clients.map(one, range(hostile.rounds(40))))
    assert set(found) <= {5, 137}, found
    assert all(hostile.inspect(engine, id)["State"]["Running"] for id in bystanders)


def test_r15_a_reused_pid_is_not_taken_for_the_container(fresh_engine: Engine) -> None:
    """The records of a killed shim name pids; when others have them by now they are left alone."""
    engine = fresh_engine
    id = hostile.start(engine, "busybox", "sleep", "1000")
    engine.kill()
    record = hostile.shim_state(engine, id)
    os.kill(record["shim_pid"], signal.SIGKILL)
    hostile.until(lambda: not Path(f"/proc/{record['pid']}").exists())
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        path = engine.exec_root / "shims" / id / "state.json"
        path.write_text(json.dumps({**record, "pid": stranger.pid, "shim_pid": stranger.pid}))
        engine.start()
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
        assert hostile.call(engine, "DELETE", f"/containers/{id}?force=1")[0] == 204
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_f8_frozen_container(engine: Engine) -> None:
    """Frozen behind the engine's back: everything about others stays quick, its own removal is bounded and finishes."""
    with others_live(engine):
        id = hostile.start(engine, "busybox", "sh", "-c", "while :; do sleep 0.1; done")
        cgroup = open_cgroup(f"/boxship/{id}")
        cgroup.freeze()
        try:
            bounded(lambda: hostile.inspect(engine, id))
            bounded(lambda: hostile.call(engine, "GET", f"/containers/{id}/stats?stream=0&one-shot=1"))
            bounded(lambda: hostile.call(engine, "GET", f"/containers/{id}/top"))
            bounded(lambda: hostile.call(engine, "GET", f"/containers/{id}/logs?stdout=1"))
            began = time.monotonic()
            status, answer = hostile.call(engine, "DELETE", f"/containers/{id}?force=1")
            assert time.monotonic() - began < 45
            assert status in (204, 500), answer
        finally:
            if Path(f"/sys/fs/cgroup/freezer/boxship/{id}").exists():
                cgroup.thaw()
        hostile.until(
            lambda: hostile.call(engine, "GET", f"/containers/{id}/json")[0] == 404 or hostile.remove(engine, id)
        )


def test_f8_exec_into_a_frozen_container_does_not_block_the_engine(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000")
    cgroup = open_cgroup(f"/boxship/{id}")
    cgroup.freeze()
    waiting = threading.Thread(target=lambda: hostile.exec_(engine, id, "true"))
    try:
        waiting.start()
        with others_live(engine):
            pass
    finally:
        cgroup.thaw()
    waiting.join(30)
    assert not waiting.is_alive()
    hostile.remove(engine, id)


def test_f8_a_stopped_shim_holds_up_its_own_container_only(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000")
    shim = hostile.shim_state(engine, id)["shim_pid"]
    os.kill(shim, signal.SIGSTOP)
    try:
        with others_live(engine):
            bounded(lambda: hostile.inspect(engine, id))
    finally:
        os.kill(shim, signal.SIGCONT)
    hostile.remove(engine, id)
