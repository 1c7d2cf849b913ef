"""Shim and starter are killed while a container starts: nothing may run on unsupervised, and nothing may be left."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import cgroup as cgroups

pytestmark = pytest.mark.system

DEADLINE = 30.0


class Held:
    """A container whose start waits in a hook until the test lets go."""

    def __init__(self, container, directory: Path, point: str) -> None:
        self.container = container
        # Both ends open in both fifos: no opening waits, and only this test's end ends the reading.
        self._fds = []
        for name in ("held", "go"):
            os.mkfifo(directory / name)
            self._fds.append(os.open(directory / name, os.O_RDWR))
        program, prefix = "/bin/sh", str(directory)
        if point == "startContainer":
            prefix = "/hold"
            mount = {"destination": prefix, "type": "bind", "source": str(directory), "options": ["bind"]}
            container.start_document["spec"]["mounts"].append(mount)
        script = f"echo held > {prefix}/held; read line < {prefix}/go"
        hook = {"path": program, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
        container.start_document["spec"]["hooks"] = {point: [hook]}
        self.control = container.launch()
        ready, _, _ = select.select([self._fds[0]], [], [], DEADLINE)
        assert ready, "the start does not come to the hook"

    def go_on(self) -> None:
        os.write(self._fds[1], b"go\n")

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    @property
    def starter(self) -> int:
        return next(pid for pid in children(self.container.shim_pid) if comm(pid) == "boxship-start")

    def processes(self) -> list[int]:
        """Everything that the start has made: descendants of the shim, and what is in the cgroup."""
        found = cgroups.open_cgroup(self.container.start_document["cgroup"]["path"]).pids()
        waiting = [self.container.shim_pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children(pid)
        return found


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.fixture(params=["createRuntime", "startContainer"])
def held(request, host, tmp_path) -> Iterator[Held]:
    directory = tmp_path / "hold"
    directory.mkdir()
    held = Held(host.container("sleep", "1000"), directory, request.param)
    yield held
    held.close()


def test_a_start_whose_hook_ends_goes_on(held):
    held.go_on()
    assert held.control.event("running")["pid"] > 0
    assert held.control.request("kill", signal=9)["ok"]
    held.control.wait_closed()


@pytest.mark.parametrize("victim", ["shim", "starter"])
def test_a_killed_start_leaves_nothing(held, victim):
    pidfds = [os.pidfd_open(pid) for pid in held.processes()]
    assert len(pidfds) > 2
    os.kill(held.container.shim_pid if victim == "shim" else held.starter, signal.SIGKILL)
    held.control.wait_closed()
    if victim == "starter":
        failed = held.control.events[-1]
        assert (failed["event"], failed["code"]) == ("failed", 128)
    assert held.container.left_behind() == []
    assert sorted(path.name for path in held.container.state_dir.iterdir()) == []
    poller = select.poll()
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    while pidfds:
        ended = poller.poll(DEADLINE * 1000)
        assert ended, "a process of the start runs on"
        for pidfd, _ in ended:
            poller.unregister(pidfd)
            os.close(pidfd)
            pidfds.remove(pidfd)
