"""Namespaces: new, joined, shared with the host (fault R12)."""

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

Shell = Callable[..., Any]
KERNEL_NAMES = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid", "cgroup": "cgroup", "mount": "mnt"}
PRINT = "for n in net ipc uts pid cgroup mnt user; do readlink /proc/self/ns/$n; done"


def own(name: str) -> str:
    return os.readlink(f"/proc/self/ns/{name}")


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A process in namespaces of its own."""
    process = subprocess.Popen(
        ["unshare", "-n", "-i", "-u", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()


@pytest.mark.row("ISO-01")
@pytest.mark.parametrize("shared", [(), *itertools.combinations(("network", "ipc", "pid", "cgroup"), 2), ("uts",)])
def test_r12_exactly_the_namespaces_that_were_asked_for_are_new(
    shell: Shell, spec: dict[str, Any], shared: tuple[str, ...]
) -> None:
    spec["linux"]["namespaces"] = [{"type": name} for name in KERNEL_NAMES if name not in shared]
    if "uts" in shared:
        del spec["hostname"]
    # sysfs shows devices of the network namespace, procfs processes of the pid namespace: both work when shared
    names = [*KERNEL_NAMES.values(), "user"]
    inside = dict(zip(("net", "ipc", "uts", "pid", "cgroup", "mnt", "user"), shell(PRINT).lines, strict=True))
    same = {name for name in names if inside[name] == own(name)}
    assert same == {"user", *(KERNEL_NAMES[name] for name in shared)}


@pytest.mark.row("ISO-03")
@pytest.mark.parametrize("name", ["network", "ipc", "uts"])
def test_a_namespace_is_joined_by_path(shell: Shell, spec: dict[str, Any], neighbour: int, name: str) -> None:
    path = f"/proc/{neighbour}/ns/{KERNEL_NAMES[name]}"
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] == name:
            entry["path"] = path
    assert shell(f"readlink /proc/self/ns/{KERNEL_NAMES[name]}").lines == [os.readlink(path)]


@pytest.mark.row("ISO-03")
def test_a_pid_namespace_is_joined_by_path(shell: Shell, spec: dict[str, Any]) -> None:
    """``--pid container:X``: the second container's program is not PID 1 and sees the first one's."""
    first = subprocess.Popen(
        ["unshare", "-p", "-f", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert first.stdout is not None
    first.stdout.readline()
    with open(f"/proc/{first.pid}/task/{first.pid}/children") as file:
        child = int(file.read())
    try:
        for entry in spec["linux"]["namespaces"]:
            if entry["type"] == "pid":
                entry["path"] = f"/proc/{child}/ns/pid"
        result = shell("echo $$; cat /proc/1/cmdline | tr '\\0' ' '")
    finally:
        os.kill(child, signal.SIGKILL)
        first.stdout.close()
        first.wait()
    assert int(result.lines[0]) > 1
    assert result.lines[1].strip() == "sleep 1000"


@pytest.mark.row("ISO-02")
def test_the_program_is_pid_1_inside_and_another_outside(shell: Shell) -> None:
    result = shell("echo $$; grep NSpid /proc/self/status")
    assert result.lines[0] == "1"
    assert result.host_pid > 1


def test_a_path_that_is_no_namespace_is_refused(shell: Shell, spec: dict[str, Any]) -> None:
    spec["linux"]["namespaces"][1]["path"] = "/etc/passwd"
    assert "failed to join network namespace: invalid argument" in shell("true").error
    spec["linux"]["namespaces"][1]["path"] = "/nonexistent"
    assert "lstat /nonexistent: no such file or directory" in shell("true").error


def test_a_namespace_listed_twice_is_refused(shell: Shell, spec: dict[str, Any]) -> None:
    spec["linux"]["namespaces"].append({"type": "pid"})
    assert 'namespace "pid" listed more than once' in shell("true").error


@pytest.mark.row("ISO-01")
def test_a_user_namespace_maps_its_root_to_another_user(
    shell: Shell, spec: dict[str, Any], rootfs: Path, tmp_path: Path
) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o001)
    spec["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = mapping
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]
    script = "id -u; cat /proc/self/uid_map; ulimit -n; readlink /proc/self/ns/user"
    first = shell(f"echo $$; {script}")
    assert first.error is None
    assert [line.split() for line in first.lines[:4]] == [["1"], ["0"], ["0", "100000", "65536"], ["64"]]
    assert first.lines[4] != own("user")
    second = shell("sleep 1000", execs=[{**spec["process"], "args": ["sh", "-c", script]}])
    assert [line.split() for line in second.lines[:3]] == [["0"], ["0", "100000", "65536"], ["64"]]


def test_a_time_namespace_shifts_the_clocks(shell: Shell, spec: dict[str, Any]) -> None:
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 10_000_000}}
    uptime = float(shell("cat /proc/uptime").lines[0].split()[0])
    assert uptime > 10_000_000


@pytest.mark.row("ISO-12")
def test_nsenter_enters_a_running_container(program: Path, rootfs: Path, spec: dict[str, Any], tmp_path: Path) -> None:
    import json

    spec["root"]["path"] = str(rootfs)
    spec["process"]["args"] = ["sleep", "1000"]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    base = [program, "--root", str(tmp_path / "state")]
    id = f"enter-{os.getpid()}"
    subprocess.run([*base, "run", "-d", "-b", tmp_path, id], check=True, timeout=30, stdin=subprocess.DEVNULL)
    try:
        pid = json.loads(subprocess.run([*base, "state", id], capture_output=True, check=True).stdout)["pid"]
        done = subprocess.run(
            ["nsenter", "-t", str(pid), "-m", "-u", "-n", "-i", "-p", "hostname"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == spec["hostname"]
    finally:
        subprocess.run([*base, "delete", "-f", id], check=True, timeout=30)
