"""The daemon goes and comes back; the shim goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boxship.linux import cgroup as cgroups
from boxship.linux import pidfd as pidfds
from boxship.wire import jsonlog

pytestmark = pytest.mark.system


@pytest.mark.row("ENG-05")
def test_a_new_daemon_meets_a_running_shim(host):
    container = host.container("sh", "-c", "while read line; do echo got $line; done", stdio={"stdin": True})
    control = container.launch()
    pid = control.event("running")["pid"]
    host.stack.close()
    host.launcher.close()  # the launcher ends with its daemon, the shim does not

    control = container.connect()
    status = control.request("status")
    assert (status["pid"], status["state"]) == (pid, "running")
    client = control.attach(stdin=True)
    client.send(b"on\n")
    assert client.read_until(b"got on\n")
    answer, client = control.exec("echo", "hi")
    assert answer["ok"]
    assert client.read() == (b"hi\n", b"")
    assert control.request("kill", signal=9)["ok"]
    assert control.event("exited")["code"] == 137


def test_an_end_that_nobody_saw_is_on_record(host, tmp_path):
    fifo = tmp_path / "fifo"
    container = host.container("sh", "-c", "cat /fifo; echo last words; exit 9")
    os.mkfifo(fifo)
    container.start_document["spec"]["mounts"].append(
        {"destination": "/fifo", "type": "bind", "source": str(fifo), "options": ["bind"]}
    )
    container.launch().event("running")
    container.control.close()
    with open(fifo, "w"):
        pass
    container.wait_shim()
    assert json.loads((container.state_dir / "exit.json").read_text())["code"] == 9
    assert b"last words" in container.log.read_bytes()
    assert not (container.state_dir / "shim.sock").exists()


def test_several_daemon_connections_get_the_events(host):
    container = host.container("sleep", "1000")
    container.launch().event("running")
    others = [container.connect() for _ in range(3)]
    for other in others:
        other.request("status")
    others[0].close()
    container.control.request("kill", signal=15, all=True)
    container.control.request("kill", signal=9, all=True)
    for control in (container.control, *others[1:]):
        assert control.event("exited")["code"] == 137
        control.wait_closed()


def test_garbage_on_a_control_connection_hurts_only_itself(host):
    container = host.container("sleep", "1000")
    container.launch().event("running")
    bad = container.connect()
    bad.sock.sendall(b"\xff" * 100)
    bad.wait_closed()
    assert container.control.request("status")["state"] == "running"


def test_a_daemon_that_reads_nothing_does_not_hold_the_shim_up(host):
    container = host.container("sleep", "1000")
    container.launch().event("running")
    deaf = container.connect()
    deaf.request("status")
    container.control.request("kill", signal=9)
    container.control.wait_closed()
    container.wait_shim()


def test_a_killed_shim_takes_the_container_with_it(host, wait_for):
    container = host.container("sleep", "1000", uid=1000)
    pid = container.launch().event("running")["pid"]
    pidfd = os.pidfd_open(pid)
    os.kill(container.shim_pid, signal.SIGKILL)
    container.wait_shim()
    assert pidfds.wait(pidfd, 30.0), "the container runs on without its shim"
    os.close(pidfd)
    # What a daemon then cleans up, by the record.
    state = json.loads((container.state_dir / "state.json").read_text())
    assert state["pid"] == pid
    assert not (container.state_dir / "exit.json").exists()
    subprocess.run(["umount", state["rootfs"]], check=True)
    cgroups.open_cgroup(state["cgroup"]).remove()
    (container.state_dir / "shim.sock").unlink()


def test_shims_hold_nothing_of_the_daemon(host):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    container = host.container("sleep", "1000")
    container.launch().event("running")
    for pid in (host.launcher_pid, container.shim_pid):
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert f"pipe:[{os.fstat(writer).st_ino}]" not in links
    links = {fd: os.readlink(f"/proc/{container.shim_pid}/fd/{fd}") for fd in ("0", "1", "2")}
    assert set(links.values()) == {"/dev/null"}
    assert os.readlink(f"/proc/{container.shim_pid}/cwd") == "/"
    assert Path(f"/proc/{container.shim_pid}/comm").read_text() == "boxship-shim\n"
    os.close(reader)
    os.close(writer)


def uss(pid: int) -> int:
    """Memory in KiB that would be free if the process ended."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private"))


def test_an_idle_shim_has_little_memory_of_its_own(host, record_property):
    containers = [host.container("sleep", "1000") for _ in range(3)]
    for container in containers:
        container.launch().event("running")
        container.control.request("status")
    own = [uss(container.shim_pid) for container in containers]
    record_property("uss_kib", own)
    record_property("launcher_kib", uss(host.launcher_pid))
    print(f"USS of idle shims: {own} KiB; launcher: {uss(host.launcher_pid)} KiB")
    assert max(own) < 1536  # what is seen is 1330, or 1100 before the first request


def test_the_launcher_imports_only_what_a_start_needs():
    code = "import sys; from boxship.shim import launcher; print(*sys.modules)"
    source = str(Path(sys.modules["boxship"].__file__).parent.parent)
    modules = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {source!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"typing", "dataclasses", "asyncio", "logging", "subprocess", "pathlib", "tempfile", "inspect", "msgspec"}
    assert heavy.isdisjoint(modules)
    own = [name for name in modules if name.startswith("boxship")]
    print(f"{len(modules)} modules, {len(own)} of them ours")


@pytest.mark.row("LOG-04")
def test_rotated_logs_hold_every_line_in_order(host):
    container = host.container("seq", "1", "20000", log={"max_size": 100_000, "max_file": 100})
    assert container.run()["code"] == 0
    files = sorted(
        container.log.parent.glob("log.json*"),
        key=lambda path: -int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0,
    )
    assert len(files) > 5
    assert all(100_000 <= path.stat().st_size < 100_200 for path in files[:-1])
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    assert [int(record.log) for record in jsonlog.parse_lines(lines)] == list(range(1, 20001))
