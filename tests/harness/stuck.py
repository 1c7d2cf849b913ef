"""Containers that do not get on: one frozen, one in an uninterruptible sleep, one whose output nobody takes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.engine import Engine
from harness.fuse import SilentFilesystem
from harness.waiting import until

FROZEN, ASLEEP, FULL = NAMES = ("frozen", "asleep", "full")


@contextlib.contextmanager
def stuck_containers(engine: Engine) -> Iterator[SilentFilesystem]:
    """Run the three containers of ``NAMES``; when done let go what holds them and remove them.

    ``asleep`` waits in state D for a file system that never answers, and an unanswered ``kill`` of it is under way. The
    shim of ``full`` is stopped while its container writes and writes.
    """
    filesystem = SilentFilesystem(engine.root / "silent")
    shim = 0
    killer: threading.Thread | None = None
    try:
        engine.docker("run", "-d", "--name", FROZEN, "busybox", "sleep", "100000")
        engine.docker("pause", FROZEN)
        engine.docker(
            "run", "-d", "--name", ASLEEP, "-v", f"{filesystem.path}:/silent", "busybox", "cat", "/silent/file"
        )
        assert filesystem.unanswered.wait(20)
        pid = engine.api("GET", f"/containers/{ASLEEP}/json")[1]["State"]["Pid"]
        killer = threading.Thread(target=engine.api, args=("POST", f"/containers/{ASLEEP}/kill"))
        killer.start()
        until(lambda: process_state(pid) == "D")
        id = engine.docker("run", "-d", "--name", FULL, "busybox", "yes").stdout.strip()
        state = json.loads((engine.exec_root / "shims" / id / "state.json").read_text())
        shim = state["shim_pid"]
        os.kill(shim, signal.SIGSTOP)
        until(lambda: process_state(state["pid"]) == "S")
        yield filesystem
    finally:
        if shim:
            os.kill(shim, signal.SIGCONT)
        filesystem.close()
        if killer is not None:
            killer.join()
        for name in NAMES:
            engine.api("DELETE", f"/containers/{name}?force=1")


@contextlib.contextmanager
def pending(engine: Engine, calls: Sequence[tuple[str, str, object]]) -> Iterator[None]:
    """Keep requests under way that will not be answered soon; their answers do not matter."""

    def ask(method: str, path: str, body: object) -> None:
        with contextlib.suppress(OSError):
            engine.api(method, path, body)

    threads = [threading.Thread(target=ask, args=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(0)


def hopeless_calls(engine: Engine, filesystem: SilentFilesystem, count: int) -> list[tuple[str, str, object]]:
    """Return requests that meet the stuck containers, and ``count`` creates and starts each that meet the file system.

    From here on that answers nothing at all.
    """
    exec_id = engine.api("POST", f"/containers/{FULL}/exec", {"Cmd": ["true"]})[1]["Id"]
    calls: list[tuple[str, str, object]] = [
        ("POST", f"/exec/{exec_id}/start", {"Detach": True}),
        ("POST", f"/containers/{FULL}/kill?signal=TERM", None),
        ("POST", f"/containers/{ASLEEP}/pause", None),
        ("GET", f"/containers/{ASLEEP}/top?ps_args=aux", None),
        ("DELETE", f"/containers/{ASLEEP}?force=1", None),
        *(("GET", f"/containers/{name}/stats?stream=0", None) for name in NAMES),
    ]
    for number in range(count):
        source = f"{filesystem.path}/{number}"
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": [f"{source}:/x"]}}
        id = engine.api("POST", f"/containers/create?name=start{number}", body)[1]["Id"]
        calls.append(("POST", f"/containers/{id}/start", None))
        mount = {"Type": "bind", "Source": source, "Target": "/x"}
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [mount]}}
        calls.append(("POST", f"/containers/create?name=create{number}", body))
    filesystem.fall_silent()
    return calls


def process_state(pid: int) -> str:
    """Return the letter of proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def timed_run(engine: Engine, name: str) -> float:
    """Create, start and await a container; return the seconds. It is removed after that."""
    begun = time.perf_counter()
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "bridge"}}
    status, answer = engine.api("POST", f"/containers/create?name={name}", body)
    assert status == 201, answer
    assert engine.api("POST", f"/containers/{name}/start")[0] == 204
    assert engine.api("POST", f"/containers/{name}/wait")[1]["StatusCode"] == 0
    taken = time.perf_counter() - begun
    assert engine.api("DELETE", f"/containers/{name}")[0] == 204
    return taken
