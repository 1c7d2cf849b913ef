"""Disks that fill up or fail, few descriptors, two daemons, replaced files (F3, F4, F6, F9, F11, U1, U5)."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import mount
from harness import hostile
from harness.engine import SOURCE, Engine
from harness.registry_server import RegistryServer

pytestmark = pytest.mark.system

MIB = 1 << 20
DISK = 24 * MIB


@contextlib.contextmanager
def engine_on(disk: Path) -> Iterator[Engine]:
    """An engine with the image busybox whose data root is the filesystem mounted at ``disk``; unmounts that at the end."""
    engine = Engine()
    engine.data_root.symlink_to(disk)
    try:
        engine.start()
        said = hostile.bring(engine, "busybox", hostile.tar(hostile.busybox_without()), 'CMD ["sh"]')
        assert said.startswith("200") and "error" not in said, said
        yield engine
    finally:
        for filler in disk.glob("filler*"):
            filler.unlink()
        engine.close()
        mount.umount2(str(disk), mount.MNT_DETACH)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a filesystem of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount.mount("tmpfs", str(disk), "tmpfs", 0, f"size={DISK},mode=0710")
    with engine_on(disk) as engine:
        yield engine


def fill(place: Path) -> None:
    """Leave no byte free."""
    with (place / f"filler{os.urandom(4).hex()}").open("wb", buffering=0) as file:
        for size in (MIB, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def state(engine: Engine) -> dict[str, object]:
    return {
        "blobs": sorted(os.listdir(engine.data_root / "content/blobs/sha256")),
        "ingests": os.listdir(engine.data_root / "content/ingest"),
        "snapshots": sorted(os.listdir(engine.data_root / "overlay2")),
        "containers": sorted(os.listdir(engine.data_root / "containers")),
        "images": sorted(row["Id"] for row in engine.api("GET", "/images/json?all=1")[1]),
    }


def test_f3_an_import_that_does_not_fit_leaves_nothing(small_disk: Engine) -> None:
    engine = small_disk
    assert hostile.run(engine, "busybox", "true").code == 0
    before = state(engine)
    big = hostile.tar([hostile.entry(f"f{n}", os.urandom(MIB)) for n in range(40)])
    said = hostile.bring(engine, "big", big)
    assert "no space left on device" in said.lower(), said
    assert state(engine) == before
    said = hostile.load(engine, hostile.archive({}, [big], "big"))
    assert "no space left on device" in said.lower(), said
    hostile.until(lambda: state(engine) == before, lambda: (before, state(engine)), 10)
    assert hostile.run(engine, "busybox", "true").code == 0


def test_f3_zero_bytes_free(small_disk: Engine) -> None:
    """Running containers live, reads answer, new work fails with a reason, rm and prune work and give the space back."""
    engine = small_disk
    ids = [hostile.start(engine, "busybox", "sh", "-c", "while :; do echo line; sleep 0.05; done") for _ in range(3)]
    stopped = [hostile.create(engine, "busybox", "true") for _ in range(2)]
    before = state(engine)
    fill(engine.data_root)
    said = hostile.bring(engine, "more", hostile.tar([hostile.entry("x", os.urandom(MIB))]))
    assert "error" in said or not said.startswith("200"), said
    for path in ("/containers/json?all=1", "/images/json", f"/containers/{ids[0]}/json", "/info", "/system/df"):
        assert hostile.call(engine, "GET", path)[0] == 200, path
    result = hostile.run(engine, "busybox", "true")
    assert result.code in (0, None)
    fill(engine.data_root)
    assert all(hostile.inspect(engine, id)["State"]["Running"] for id in ids)
    assert hostile.exec_(engine, ids[0], "echo", "alive").text == "alive\n"
    # What fails may not leave anything behind either.
    assert set(state(engine)["containers"]) <= set(before["containers"])  # type: ignore[call-overload]
    for id in (*stopped, *ids):
        status, answer = hostile.call(engine, "DELETE", f"/containers/{id}?force=1&v=1")
        assert status == 204, answer
    assert engine.api("GET", "/containers/json?all=1")[1] == []
    assert state(engine)["containers"] == []
    status, answer = hostile.call(engine, "POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D")
    assert status == 200, answer
    hostile.until(lambda: state(engine)["blobs"] == [])
    assert engine.stop() == 0
    engine.start()  # on a disk that is still nearly full
    assert state(engine)["containers"] == []


def test_f3_a_full_disk_and_a_crash(small_disk: Engine) -> None:
    engine = small_disk
    id = hostile.start(engine, "busybox", "sleep", "1000")
    fill(engine.data_root)
    engine.kill()
    engine.start()
    assert hostile.inspect(engine, id)["State"]["Running"]
    assert hostile.call(engine, "DELETE", f"/containers/{id}?force=1")[0] == 204


def test_f3_commit_and_push_on_a_full_disk(small_disk: Engine) -> None:
    """Both say why they fail, or do their work; nothing is left, and both work when there is room again."""
    engine = small_disk
    id = hostile.start(engine, "busybox", "sh", "-c", "head -c 3000000 /dev/urandom > /new")
    hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
    registry = RegistryServer(prefix=engine.namespace.prefix())
    registry.start()
    try:
        name = f"localhost:{registry.port}/full"
        assert hostile.call(engine, "POST", f"/images/busybox/tag?repo={name}&tag=latest")[0] == 201
        before = state(engine)
        fill(engine.data_root)
        status, answer = hostile.call(engine, "POST", f"/commit?container={id}&repo=committed", {})
        assert (status, b"no space left on device" in answer.lower()) == (500, True), answer
        pushed = hostile.call(engine, "POST", f"/images/{name}/push?tag=latest")[1].decode()
        assert '"aux"' in pushed or "no space left on device" in pushed.lower() or "disk is full" in pushed, pushed
        assert "Traceback" not in engine.log_text()
        hostile.until(lambda: state(engine)["ingests"] == [], lambda: state(engine))
        after = state(engine)
        assert {key: after[key] for key in before if key != "blobs"} == {
            key: before[key] for key in before if key != "blobs"
        }
        for filler in engine.data_root.glob("filler*"):
            filler.unlink()
        assert hostile.call(engine, "POST", f"/commit?container={id}&repo=committed", {})[0] == 201
        assert '"aux"' in hostile.call(engine, "POST", f"/images/{name}/push?tag=latest")[1].decode()
        engine.docker("rmi", "committed", name)
        assert engine.boxship("system", "fsck").stdout == "nothing is wrong\n"
    finally:
        registry.close()


EXT4_IOC_SHUTDOWN = 0x8004587D  # fs/ext4/ext4.h: from now on every access to the disk is EIO


@pytest.fixture
def image_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted ext4 filesystem of its own in a file."""
    file, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    file.touch()
    os.truncate(file, 96 * MIB)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", str(file)], check=False, capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", str(file), str(disk)], check=False).returncode:
        pytest.skip("no ext4 on a loop device here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False, stderr=subprocess.DEVNULL)


def test_f4_a_disk_that_fails(image_disk: Path, tmp_path: Path) -> None:
    """EIO on every access: what runs goes on, looks are answered, changes fail with a reason; a new mount heals it."""
    with engine_on(image_disk) as engine:
        id = hostile.start(engine, "busybox", "sleep", "1000")
        gone = hostile.start(engine, "busybox", "sleep", "1000")
        before = state(engine)
        disk = os.open(image_disk, os.O_RDONLY)
        try:
            fcntl.ioctl(disk, EXT4_IOC_SHUTDOWN, struct.pack("I", 0))  # 0: what was written so far is kept
        finally:
            os.close(disk)
        for path in ("/containers/json?all=1", f"/containers/{id}/json", "/_ping"):
            assert hostile.call(engine, "GET", path)[0] == 200, path
        said = hostile.bring(engine, "more", hostile.tar([hostile.entry("x", b"x")]))
        assert not said.startswith("200") or "error" in said.lower(), said
        assert hostile.run(engine, "busybox", "true").code is None
        assert hostile.inspect(engine, id)["State"]["Running"]
        assert Path(f"/proc/{hostile.inspect(engine, id)['State']['Pid']}").exists()
        hostile.call(engine, "POST", f"/containers/{gone}/kill")
        hostile.until(lambda: not hostile.inspect(engine, gone)["State"]["Running"])
        for each in (id, gone):
            hostile.call(engine, "DELETE", f"/containers/{each}?force=1")
        engine.kill()
        for point in reversed(hostile.mounts(image_disk)):
            subprocess.run(["umount", "-l", point], check=True)
        hostile.until(lambda: not _shims(engine))
        subprocess.run(["mount", "-o", "loop", str(tmp_path / "image"), str(image_disk)], check=True)
        engine.start()
        assert hostile.run(engine, "busybox", "echo", "healed").text == "healed\n"
        hostile.remove(engine, id, gone)
        assert set(state(engine)["blobs"]) == set(before["blobs"])  # type: ignore[call-overload]
        assert state(engine)["containers"] == []


def _shims(engine: Engine) -> list[str]:
    """Return the shims that still live."""
    found = []
    for record in engine.exec_root.glob("shims/*/state.json"):
        pid = json.loads(record.read_text())["shim_pid"]
        if Path(f"/proc/{pid}").exists():
            found.append(f"{pid} {record}")
    return found


def test_f6_few_descriptors(engine: Engine) -> None:
    """With the table of descriptors full, connections wait or are refused; nothing breaks, and all works afterwards."""
    pid = hostile.daemon_pid(engine)
    id = hostile.start(engine, "busybox", "sleep", "1000")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 6, before[1]))
    held = []
    try:
        for _ in range(20):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(2)
            with contextlib.suppress(OSError):
                sock.connect(str(engine.socket))
                sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            held.append(sock)
        for _ in range(3):
            with contextlib.suppress(OSError, AssertionError, ValueError):
                call_quickly(engine, "POST", f"/containers/{id}/exec", {"Cmd": ["true"]})
        assert engine.process is not None
        assert engine.process.poll() is None
    finally:
        for sock in held:
            sock.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    hostile.until(lambda: _answers(engine))
    assert hostile.exec_(engine, id, "echo", "alive").text == "alive\n"
    assert hostile.run(engine, "busybox", "echo", "new").text == "new\n"
    hostile.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= used + 12, lambda: os.listdir(f"/proc/{pid}/fd"))


def _answers(engine: Engine) -> bool:
    with contextlib.suppress(OSError):
        return hostile.call(engine, "GET", "/_ping")[0] == 200
    return False


def call_quickly(engine: Engine, method: str, path: str, body: object) -> None:
    with contextlib.closing(hostile.connect(engine)) as connection:
        connection.sock.settimeout(1)
        connection.request(method, path, json.dumps(body), hostile.JSON)
        connection.getresponse().read()


def test_f6_starts_fail_cleanly_without_descriptors(engine: Engine) -> None:
    pid = hostile.daemon_pid(engine)
    assert hostile.run(engine, "busybox", "true").code == 0
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    snapshots = sorted(os.listdir(engine.data_root / "overlay2"))
    for room in range(1, 12):
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + room, before[1]))
        try:
            with contextlib.suppress(OSError, ValueError, AssertionError):
                call_quickly(engine, "POST", "/containers/create?name=tight", {"Image": "busybox", "Cmd": ["true"]})
                call_quickly(engine, "POST", "/containers/tight/start", None)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        hostile.until(lambda: _answers(engine))
        hostile.call(engine, "DELETE", "/containers/tight?force=1")
    # Undoing needs descriptors too; what could not be undone goes at the next start at the latest.
    assert engine.stop() == 0
    engine.start()
    assert sorted(os.listdir(engine.data_root / "overlay2")) == snapshots
    assert hostile.run(engine, "busybox", "echo", "new").text == "new\n"


def test_f9_a_full_log_disk_does_not_hold_a_container_up(engine: Engine) -> None:
    """Records are dropped and counted, the container runs on, and logs go on once there is room."""
    id = hostile.create(
        engine, "busybox", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo over; sleep 1; echo end"
    )
    directory = engine.data_root / "containers" / id
    kept = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    mount.mount("tmpfs", str(directory), "tmpfs", 0, "size=1m,mode=0710")
    try:
        for name, data in kept.items():
            (directory / name).write_bytes(data)
        assert hostile.call(engine, "POST", f"/containers/{id}/start")[0] == 204
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
        assert hostile.inspect(engine, id)["State"]["ExitCode"] == 0
        record = json.loads((engine.exec_root / "shims" / id / "exit.json").read_text())
        assert record["log_dropped"] > 0
        for line in (directory / f"{id}-json.log").read_bytes().splitlines():
            json.loads(line)  # whole records only
    finally:
        mount.umount2(str(directory), mount.MNT_DETACH)
    hostile.remove(engine, id)


def test_f11_two_daemons_on_one_root(fresh_engine: Engine) -> None:
    engine = fresh_engine
    id = hostile.start(engine, "busybox", "sleep", "1000")

    def second() -> None:
        other = Engine(namespace=engine.namespace)
        other.root.joinpath("data").symlink_to(engine.data_root)
        try:
            with pytest.raises(RuntimeError, match="is used by another boxshipd"):
                other.start()
        finally:
            other.process = None
            shutil.rmtree(other.root)

    second()
    engine.kill()
    engine.start()  # the dead one's lock and pid file are no obstacle
    second()
    assert hostile.inspect(engine, id)["State"]["Running"]
    pid_file = engine.root / "boxshipd.pid"
    engine.kill()
    pid_file.write_text(f"{os.getpid()}\n")  # a stale file whose pid has another owner by now
    try:
        engine.start()
    except RuntimeError as exc:
        assert "boxshipd.pid" in str(exc)  # what to delete is said, as dockerd does
        engine.process = None
        pid_file.unlink()
        engine.start()
    assert hostile.exec_(engine, id, "echo", "alive").text == "alive\n"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_u1_daemon_gone_and_back(fresh_engine: Engine, how: str) -> None:
    """Ten times over: no container restarts, no log line lost, exit codes of meanwhile right, execs and inputs live on."""
    engine = fresh_engine
    (engine.root / "daemon.json").write_text('{"live-restore": true}')
    engine.stop()
    engine.start()
    counter = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 10000; done; exit 9"
    logger = hostile.start(engine, "busybox", "sh", "-c", counter)
    idle = hostile.start(engine, "busybox", "sleep", "1000", host={"RestartPolicy": {"Name": "always"}})
    pid = hostile.inspect(engine, idle)["State"]["Pid"]
    attached = subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "exec", "-i", idle, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=engine.client_environment(),
    )
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write(b"first\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == b"first\n"
    for number in range(5):
        brief = hostile.start(engine, "busybox", "sh", "-c", f"usleep 100000; exit {20 + number}")
        if how == "kill":
            engine.kill()
        else:
            assert engine.stop() == 0
        attached.stdin.write(b"%d\n" % number)
        attached.stdin.flush()
        assert attached.stdout.readline() == b"%d\n" % number
        engine.start()
        hostile.until(lambda brief=brief: not hostile.inspect(engine, brief)["State"]["Running"])
        assert hostile.inspect(engine, brief)["State"]["ExitCode"] == 20 + number
        found = hostile.inspect(engine, idle)
        assert (found["State"]["Pid"], found["RestartCount"]) == (pid, 0)
    hostile.until(lambda: not hostile.inspect(engine, logger)["State"]["Running"])
    assert hostile.inspect(engine, logger)["State"]["ExitCode"] == 9
    assert hostile.output(engine, logger).split() == [str(n) for n in range(300)]
    attached.stdin.close()
    assert attached.wait(20) == 0
    attached.stdout.close()


def test_u5_package_files_replaced_under_a_running_daemon(tmp_path: Path) -> None:
    """All of the package is moved away: whatever has not been imported yet would fail now."""
    package = tmp_path / "installed"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    engine = Engine()
    engine.environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        engine.start()
        said = hostile.bring(engine, "busybox", hostile.tar(hostile.busybox_without()), 'CMD ["sh"]')
        assert "error" not in said, said
        before = hostile.start(engine, "busybox", "sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done")
        package.rename(tmp_path / "away")
        check_everything(engine, before)
        assert "ModuleNotFoundError" not in engine.log_text()
        assert "ImportError" not in engine.log_text()
        # And the next version's daemon takes over what the old one's shims hold.
        running = hostile.start(engine, "busybox", "cat", OpenStdin=True)
        assert engine.process is not None
        engine.process.send_signal(signal.SIGKILL)
        engine.process.wait(10)
        engine.process = None
        engine.environment = {}
        engine.start()
        assert hostile.exec_(engine, running, "echo", "adopted").text == "adopted\n"
    finally:
        engine.environment = {}
        engine.close()


def check_everything(engine: Engine, before: str) -> None:
    """Use what a daemon can do, above all what it has not done so far."""
    assert hostile.exec_(engine, before, "echo", "exec").text == "exec\n"
    assert hostile.exec_(engine, before, "tty", Tty=True).code == 0
    assert hostile.run(engine, "busybox", "echo", "new").text == "new\n"
    host = {
        "PortBindings": {"80/tcp": [{"HostPort": "8090"}]},
        "Binds": ["v5:/v"],
        "Tmpfs": {"/t": ""},
        "Memory": 64 * MIB,
    }
    full = hostile.run(engine, "busybox", "id", "-u", User="app", Tty=True, host=host)
    assert full.text.strip() == "1000"
    log = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "4k", "max-file": "3", "compress": "true"}}}
    assert hostile.run(engine, "busybox", "sh", "-c", "for i in $(seq 2000); do echo $i; done", host=log).code == 0
    calls: list[tuple[str, str, object]] = [
        ("GET", f"/containers/{before}/top", None),
        ("GET", f"/containers/{before}/stats?stream=0&one-shot=1", None),
        ("GET", f"/containers/{before}/changes", None),
        ("GET", f"/containers/{before}/export", None),
        ("GET", f"/containers/{before}/logs?stdout=1&timestamps=1", None),
        ("POST", f"/containers/{before}/pause", None),
        ("POST", f"/containers/{before}/unpause", None),
        ("POST", f"/containers/{before}/update", {"Memory": 64 * MIB, "MemorySwap": 128 * MIB}),
        ("POST", f"/containers/{before}/rename?name=moved", None),
        ("POST", "/networks/create", {"Name": "n5"}),
        ("GET", "/networks", None),
        ("POST", "/volumes/create", {"Name": "made"}),
        ("GET", "/volumes", None),
        ("GET", "/system/df", None),
        ("GET", "/info", None),
        ("GET", "/version", None),
        ("GET", "/events?since=1&until=2", None),
        ("GET", "/images/busybox/json", None),
        ("GET", "/images/busybox/get", None),
        ("GET", "/images/busybox/history", None),
        ("POST", "/images/busybox/tag?repo=other&tag=x", None),
        ("GET", "/v1.24/containers/json?all=1", None),
        ("POST", f"/containers/{before}/stop?t=5", None),
        ("POST", f"/containers/{before}/restart?t=1", None),
        ("POST", "/containers/prune", None),
        ("POST", "/images/prune", None),
        ("POST", "/volumes/prune", None),
    ]
    for method, path, body in calls:
        status, answer = hostile.call(engine, method, path, body)
        assert status < 500 or status == 501, (path, status, answer[:500])
    assert "error" not in hostile.load(engine, hostile.archive({}, [hostile.tar([hostile.entry("x", b"x")])], "loaded"))
    assert "error" not in hostile.bring(engine, "imported", gzip.compress(hostile.tar([hostile.entry("y", b"y")])))
    assert engine.docker("run", "--rm", "-i", "busybox", "cat", input="through").stdout == "through"
