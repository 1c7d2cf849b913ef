"""What a container's process is, seen from inside and outside, field by field against a real dockerd's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system

RECORDED = json.loads((Path(__file__).parent / "dockerd_container.json").read_text())
"""Facts read in a container of dockerd 20.10.24 with runc 1.1.5 (`docker run IMAGE cat ...`) on cgroup v1."""


@pytest.fixture(scope="module")
def inside(engine: Engine) -> dict[str, str]:
    def cat(command: str) -> str:
        return engine.docker("run", "--rm", "busybox", "sh", "-c", command).stdout

    return {
        "status": cat("cat /proc/self/status"),
        "mounts": cat("cat /proc/self/mounts"),
        "fds": cat("exec ls /proc/self/fd"),
        "devices": cat("ls -1 /dev"),
    }


def fields(status: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


@pytest.mark.row("ISO-05", "ISO-06", "ISO-08")
@pytest.mark.parametrize(
    "field", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups"]
)
def test_process_status_is_the_reference_engines(inside: dict[str, str], field: str) -> None:
    ours, theirs = fields(inside["status"])[field], fields(RECORDED["status"])[field]
    if field == "Groups":  # the image's own /etc/group decides
        ours, theirs = ours.split()[0], theirs.split()[0]
    assert ours == theirs


@pytest.mark.row("ISO-08", "ISO-11")
def test_the_mount_table_is_the_reference_engines(inside: dict[str, str]) -> None:
    def table(text: str) -> dict[str, tuple[str, frozenset[str]]]:
        found = {}
        for line in text.splitlines():
            _, point, kind, options, *_ = line.split()
            kept = {o for o in options.split(",") if o in ("ro", "rw", "nosuid", "nodev", "noexec")}
            on_disk = point in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")  # of any kind, a tmpfs too
            found[point] = ("disk" if on_disk else kind, frozenset(kept))
        return found

    ours, theirs = table(inside["mounts"]), table(RECORDED["mounts"])
    masked_since = {"/proc/interrupts", "/proc/asound", "/proc/latency_stats", "/sys/devices/virtual/powercap"}
    theirs["/sys/fs/cgroup"] = ("tmpfs", frozenset({"ro", "nosuid", "nodev", "noexec"}))  # stricter here
    assert {point: row for point, row in ours.items() if point not in masked_since} == theirs


@pytest.mark.row("ISO-15")
def test_only_the_three_standard_descriptors_are_open(inside: dict[str, str]) -> None:
    assert inside["fds"].split() == ["0", "1", "2", "3"]  # 3 is the directory that ls itself reads


def test_the_devices_are_the_reference_engines(inside: dict[str, str]) -> None:
    assert inside["devices"].split() == RECORDED["devices"].split()


@pytest.mark.row("ISO-01", "ISO-02", "ISO-12")
def test_every_namespace_is_its_own_and_the_pid_differs_outside(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "apart", "busybox", "sleep", "100")
    pid = engine.api("GET", "/containers/apart/json")[1]["State"]["Pid"]
    for kind in ("mnt", "pid", "net", "uts", "ipc", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    assert engine.docker("exec", "apart", "cat", "/proc/1/comm").stdout == "sleep\n"
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    seen = engine.docker("exec", "apart", "readlink", "/proc/self/ns/mnt").stdout.strip()
    assert seen == os.readlink(f"/proc/{pid}/ns/mnt")


@pytest.mark.row("ISO-03")
@pytest.mark.parametrize(("flag", "kind"), [("--pid", "pid"), ("--uts", "uts"), ("--ipc", "ipc"), ("--network", "net")])
def test_a_namespace_of_the_host_is_shared_when_asked_for(engine: Engine, flag: str, kind: str) -> None:
    engine.docker("run", "-d", "--name", "shared", flag, "host", "busybox", "sleep", "100")
    pid = engine.api("GET", "/containers/shared/json")[1]["State"]["Pid"]
    host = engine.namespace.path if kind == "net" else f"/proc/self/ns/{kind}"
    assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(host)


@pytest.mark.row("ISO-03")
@pytest.mark.parametrize(("flag", "kind"), [("--pid", "pid"), ("--network", "net")])
def test_a_namespace_of_another_container_is_shared_when_asked_for(engine: Engine, flag: str, kind: str) -> None:
    engine.docker("run", "-d", "--name", "first", "busybox", "sleep", "100")
    engine.docker("run", "-d", "--name", "second", flag, "container:first", "busybox", "sleep", "100")
    pids = [engine.api("GET", f"/containers/{name}/json")[1]["State"]["Pid"] for name in ("first", "second")]
    assert os.readlink(f"/proc/{pids[0]}/ns/{kind}") == os.readlink(f"/proc/{pids[1]}/ns/{kind}")


@pytest.mark.row("ISO-08")
@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list"])
def test_masked_files_read_as_empty(engine: Engine, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    assert engine.docker("run", "--rm", "busybox", "head", "-c", "10", path).stdout == ""


def test_masked_directories_are_empty_and_sys_is_read_only(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "busybox", "ls", "/sys/firmware").stdout == ""
    result = engine.docker("run", "--rm", "busybox", "sh", "-c", "echo 1 > /proc/sys/kernel/panic", check=False)
    assert "Read-only file system" in result.stderr


@pytest.mark.row("ISO-09")
def test_a_read_only_root_refuses_writes_and_tmpfs_allows_them(engine: Engine) -> None:
    result = engine.docker("run", "--rm", "--read-only", "busybox", "touch", "/x", check=False)
    assert "touch: /x: Read-only file system" in result.stderr
    assert (
        engine.docker("run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "touch", "/scratch/x").returncode
        == 0
    )


@pytest.mark.row("ISO-04")
def test_privileged_has_what_the_host_has(engine: Engine) -> None:
    status = fields(engine.docker("run", "--rm", "--privileged", "busybox", "cat", "/proc/self/status").stdout)
    host = fields(Path("/proc/self/status").read_text())
    assert status["CapEff"] == host["CapEff"]
    assert status["Seccomp"] == "0"


@pytest.mark.row("RUN-37")
@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)"),
        ("1000:2000", "uid=1000(app) gid=2000(extra)"),
        ("12345", "uid=12345 gid=0(root)"),
    ],
)
def test_users_are_looked_up_in_the_container(engine: Engine, user: str, ids: str) -> None:
    assert engine.docker("run", "--rm", "-u", user, "busybox", "id").stdout.strip().startswith(ids)


@pytest.mark.row("RUN-37")
def test_an_unknown_user_is_named(engine: Engine) -> None:
    result = engine.docker("run", "--rm", "-u", "nobodyknows", "busybox", "id", check=False)
    assert "unable to find user nobodyknows: no matching entries in passwd file" in result.stderr
    assert result.returncode == 125


def test_a_working_directory_is_made_and_one_outside_the_root_refused(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "-w", "/made/here", "busybox", "pwd").stdout == "/made/here\n"
    for number in range(3, 12):
        result = engine.docker("run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "pwd", check=False)
        assert result.returncode != 0, result.stdout
