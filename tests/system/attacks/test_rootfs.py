"""Root filesystems and volumes that try to lead the runtime out (R1 to R7, R10, C4, C5)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import hostile
from harness.engine import Engine
from harness.hostile import busybox_without, directory, entry, link, tar

pytestmark = pytest.mark.system


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bring(engine: Engine, name: str, *without: str, add: list[object], changes: tuple[str, ...] = ()) -> None:
    said = hostile.bring(engine, name, tar([*busybox_without(*without), *add]), *changes)
    assert said.startswith("200") and "error" not in said, said


@pytest.mark.parametrize("way", ["entrypoint", "interpreter", "exec"])
def test_r1_self_exe_overwrite(engine: Engine, way: str) -> None:
    interpreter = Path(sys.executable).resolve()
    before = digest(interpreter)
    # What the program, if it ever became a copy of our interpreter, would do: write to its own file and its parent's.
    writer = "import os\nfor p in ('self', os.getppid()):\n    os.open(f'/proc/{p}/exe', os.O_WRONLY)\n"
    bring(engine, "selfexe", add=[entry("site.py", writer.encode()), entry("run", b"#!/proc/self/exe\n")])
    if way == "entrypoint":
        assert hostile.run(engine, "selfexe", "/proc/self/exe", "/site.py").code is None
    elif way == "interpreter":
        assert hostile.run(engine, "selfexe", "/run").code != 0
    else:
        id = hostile.start(engine, "selfexe", "sleep", "100")
        assert hostile.exec_(engine, id, "/proc/self/exe", "/site.py").code != 0
        assert hostile.exec_(engine, id, "/run").code != 0
    assert digest(interpreter) == before


def test_r1_the_entering_process_cannot_be_written_to(engine: Engine) -> None:
    interpreter = Path(sys.executable).resolve()
    before = digest(interpreter)
    # Looks at every process that enters, and keeps trying to open the file that it runs from for writing.
    hunter = (
        "while :; do for p in /proc/[0-9]*; do "
        "case $(readlink $p/exe) in /bin/*|'') ;; *) echo $p $(readlink $p/exe); echo x >> $p/exe && echo WROTE;; esac; "
        "done; done 2>/dev/null"
    )
    id = hostile.start(engine, "busybox", "sh", "-c", hunter)
    for _ in range(hostile.rounds(20)):
        hostile.exec_(engine, id, "true")
    assert "WROTE" not in hostile.output(engine, id)
    assert digest(interpreter) == before


def test_r2_workdir_fd(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "100")
    for number in range(3, 65):
        path = f"/proc/self/fd/{number}"
        # docker run -w /proc/self/fd/7 answers the same way with runc 1.1.12 and later.
        result = hostile.run(engine, "busybox", "ls", WorkingDir=path) if number < 24 else None
        assert result is None or result.code is None, (number, result)
        assert hostile.exec_(engine, id, "ls", WorkingDir=path).code is None, number


def test_r2_only_stdio_is_open(engine: Engine) -> None:
    listed = hostile.run(engine, "busybox", "ls", "/proc/self/fd")
    assert listed.text.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls itself reads
    id = hostile.start(engine, "busybox", "sleep", "100")
    assert hostile.exec_(engine, id, "ls", "/proc/self/fd").text.split() == ["0", "1", "2", "3"]
    assert sorted(os.listdir(f"/proc/{hostile.inspect(engine, id)['State']['Pid']}/fd")) == ["0", "1", "2"]


@pytest.mark.parametrize("target", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/self/attr/exec"])
def test_r3_masked_path_through_a_null_link(engine: Engine, target: str, tmp_path: Path) -> None:
    # In the image the engine's own /dev covers the link; on a volume at /dev it is what the runtime meets.
    bring(engine, "nulllink", add=[directory("dev"), link("dev/null", target)])
    assert hostile.run(engine, "nulllink", "sh", "-c", "cat /proc/keys; test -c /dev/null").code == 0
    fake = tmp_path / "dev"
    fake.mkdir()
    (fake / "null").symlink_to(target)
    (fake / "pts").mkdir()
    result = hostile.run(engine, "busybox", "true", host={"Binds": [f"{fake}:/dev"]})
    assert result.code is None, result
    assert "null" in result.text
    assert (fake / "null").is_symlink()


def test_r3_a_null_that_is_swapped_in_a_race_masks_nothing_else(engine: Engine) -> None:
    hostile.call(engine, "POST", "/volumes/create", {"Name": "shared-dev"})
    swap = (
        "cd /v; mkdir -p pts shm mqueue; while :; do ln -sfn /proc/sys/kernel/core_pattern n; mv -f n null; "
        "mknod m c 1 3 2>/dev/null; mv -f m null; done"
    )
    attacker = hostile.start(engine, "busybox", "sh", "-c", swap, host={"Binds": ["shared-dev:/v"]})
    try:
        for _ in range(hostile.rounds(12)):
            looked = hostile.run(
                engine,
                "busybox",
                "sh",
                "-c",
                "head -c 9 /proc/keys; head -c 9 /proc/timer_list",
                host={"Binds": ["shared-dev:/dev"]},
            )
            assert looked.code is None or looked.text == "", looked
    finally:
        hostile.remove(engine, attacker)
        hostile.call(engine, "DELETE", "/volumes/shared-dev?force=1")


@pytest.mark.parametrize("name", ["console", "pts", "ptmx"])
def test_r4_console_and_pts_links(engine: Engine, name: str, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as sentinel:
        for target in (str(sentinel / "file"), "/proc/sysrq-trigger", "/proc/self/attr/exec"):
            bring(engine, "console", add=[directory("dev"), link(f"dev/{name}", target)])
            result = hostile.run(engine, "console", "tty", Tty=True)
            assert result.code is None or result.text.strip() == "/dev/pts/0", result
            fake = tmp_path / "dev"
            fake.mkdir(exist_ok=True)
            (fake / name).unlink(missing_ok=True)
            (fake / name).symlink_to(target)
            result = hostile.run(engine, "busybox", "tty", Tty=True, host={"Binds": [f"{fake}:/dev"]})
            assert result.code is None or result.text.strip() in ("/dev/pts/0", "/dev/console"), result
            (fake / name).unlink(missing_ok=True)
            assert not hostile.mounts(sentinel)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_r5_kernel_filesystems_behind_links(engine: Engine, name: str, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as sentinel:
        # The layer between image and container puts a directory in the link's place.
        bring(engine, "fakeproc", add=[directory("fake"), link(name, "fake")])
        assert hostile.run(engine, "fakeproc", "sh", "-c", f"test -d /{name} && ! test -L /{name}").code == 0
        bring(engine, "outproc", add=[link(name, str(sentinel))])
        hostile.run(engine, "outproc", "true")
        assert not hostile.mounts(sentinel)


@pytest.mark.parametrize("place", ["/proc", "/proc/self/attr", "/proc/sys/net", "/proc/../proc/self"])
def test_r5_a_volume_over_procfs_is_refused(engine: Engine, place: str) -> None:
    # Docker with runc: "cannot be mounted because it is inside /proc" (or "not of type proc").
    before = Path("/proc/sys/net/ipv4/ping_group_range").read_text()
    for host in ({"Binds": [f"fakeproc:{place}"]}, {"Tmpfs": {place: ""}}):
        result = hostile.run(engine, "busybox", "true", host={**host, "Sysctls": {"net.ipv4.ping_group_range": "0 0"}})
        assert result.code is None, (place, result)
    assert Path("/proc/sys/net/ipv4/ping_group_range").read_text() == before


def test_r5_a_link_of_the_image_does_not_lead_a_volume_into_procfs(engine: Engine) -> None:
    bring(engine, "attrlink", add=[link("data", "/proc/self/attr"), link("sysctl", "/proc/sys/net/ipv4")])
    for place in ("/data", "/sysctl", "/sysctl/conf"):
        result = hostile.run(engine, "attrlink", "true", host={"Binds": [f"overproc:{place}"]})
        assert result.code is None, (place, result)
        assert "inside /proc" in result.text


def test_r6_a_dev_link_makes_nothing_outside(engine: Engine, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as sentinel:
        for target in (str(sentinel), f"../../../../../../../..{sentinel}", "/proc/1/root", "/"):
            bring(engine, "devlink", add=[link("dev", target)])
            result = hostile.run(engine, "devlink", "sh", "-c", "test -c /dev/null && test -d /dev/pts")
            assert result.code in (0, None), result
            assert not hostile.mounts(sentinel)


@contextlib.contextmanager
def swapping(engine: Engine, place: str, target: str) -> Iterator[None]:
    """Let a container swap ``place`` on the volume ``raced`` between a directory and a link, without pause."""
    script = f"cd /v; mkdir -p d; while :; do rm -f {place}; mv d {place}; mv {place} d; ln -sfn {target} {place}; done 2>/dev/null"
    id = hostile.start(engine, "busybox", "sh", "-c", script, host={"Binds": ["raced:/v"]})
    try:
        yield
    finally:
        hostile.remove(engine, id)


@pytest.mark.timeout(0)
def test_r7_mount_destination_race(engine: Engine, tmp_path: Path) -> None:
    hostile.call(engine, "POST", "/volumes/create", {"Name": "raced"})
    with hostile.unchanged(tmp_path / "sentinel") as sentinel, swapping(engine, "x", f"/../../../../../..{sentinel}"):
        body = {
            "Image": "busybox",
            "Cmd": ["true"],
            "HostConfig": {
                "Binds": ["raced:/m", "inner:/m/x/sub", f"{tmp_path}/given:/m/x/made/deep"],
                "Tmpfs": {"/m/x/t": ""},
            },
        }
        status, answer = hostile.call(engine, "POST", "/containers/create", body)
        assert status == 201, answer
        id = json.loads(answer)["Id"]
        started = 0
        for _ in range(hostile.rounds(80)):
            status, answer = hostile.call(engine, "POST", f"/containers/{id}/start")
            assert status in (204, 400, 500), answer
            if status == 204:
                started += 1
                hostile.call(engine, "POST", f"/containers/{id}/wait")
            assert not hostile.mounts(sentinel)
        hostile.remove(engine, id)
    hostile.call(engine, "DELETE", "/volumes/raced?force=1")
    hostile.call(engine, "DELETE", "/volumes/inner?force=1")


def test_r10_the_cgroup_tree_cannot_be_written(engine: Engine) -> None:
    script = (
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/mine 2>/dev/null && echo made $d; "
        "echo 1 2>/dev/null > $d/notify_on_release && echo wrote $d; done; true"
    )
    assert hostile.run(engine, "busybox", "sh", "-c", script).text == ""


def test_c4_copy_up_does_not_overwrite(engine: Engine) -> None:
    bring(engine, "copyup", add=[directory("data"), entry("data/file", b"image"), entry("data/new", b"image")])
    first = hostile.run(engine, "busybox", "sh", "-c", "echo mine > /v/file", host={"Binds": ["kept:/v"]})
    assert first.code == 0, first
    read = hostile.run(engine, "copyup", "sh", "-c", "cat /data/file; ls /data", host={"Binds": ["kept:/data"]})
    assert read.text == "mine\nfile\n"
    hostile.call(engine, "DELETE", "/volumes/kept?force=1")


def test_c4_copy_up_follows_no_link_out(engine: Engine, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as sentinel:
        bring(engine, "uplink", add=[link("data", f"../../../../../../../..{sentinel}"), link("abs", str(sentinel))])
        for place in ("/data", "/abs"):
            result = hostile.run(engine, "uplink", "ls", "-a", place, host={"Binds": [f"up:{place}"]})
            assert result.text == ".\n..\n", result
            hostile.call(engine, "DELETE", "/volumes/up?force=1")


@pytest.mark.parametrize("volume", ["/../../../etc", "../etc", "/a/../../etc", "relative", "/"])
def test_c5_image_volumes_with_path_tricks(engine: Engine, volume: str, tmp_path: Path) -> None:
    document = {"Volumes": {volume: {}}, "Cmd": ["cat", "/etc/passwd"]}
    said = hostile.load(engine, hostile.archive(document, [tar(busybox_without())], "voltrick"))
    if "error" in said or not said.startswith("200"):
        return
    result = hostile.run(engine, "voltrick")
    assert result.code is None or Path("/etc/passwd").read_text() != result.text


def test_c5_a_volume_is_a_directory_of_the_image_only(engine: Engine, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as sentinel:
        image = tar([*busybox_without(), link("out", str(sentinel)), link("up", f"../../../..{sentinel}")])
        said = hostile.load(engine, hostile.archive({"Volumes": {"/out": {}, "/up": {}}}, [image], "volout"))
        assert said.startswith("200") and "error" not in said, said
        result = hostile.run(engine, "volout", "sh", "-c", "ls -a /out /up; echo x > /out/file; echo y > /up/new")
        assert "deep" not in result.text
        assert not hostile.mounts(sentinel)
