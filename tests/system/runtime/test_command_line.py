"""``boxship-runtime`` on bundles: by hand, side by side with runc, and under podman."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.linux import mountinfo

pytestmark = pytest.mark.system

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bundle(tmp_path: Path, rootfs: Path, spec: dict[str, Any]) -> Callable[..., Path]:
    """Write the bundle with a program: ``bundle("sleep", "1")``."""

    def write(*args: str) -> Path:
        spec["root"]["path"] = str(rootfs)
        spec["process"]["args"] = list(args)
        (tmp_path / "config.json").write_text(json.dumps(spec))
        return tmp_path

    return write


@pytest.fixture
def id(program: Path, tmp_path: Path) -> Iterator[str]:
    """A container ID; what is left of the container goes in the end, and must have taken its cgroup along."""
    id = f"cli-{os.getpid()}"
    yield id
    subprocess.run([program, "--root", tmp_path / "state", "delete", "-f", id], check=True, timeout=30)
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{id}"))
    assert not list((tmp_path / "state").glob("*"))


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory with a short name: podman refuses a run root of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="bxp", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def run(program: Path, tmp_path: Path) -> Run:
    """Call the program: ``run("state", id)``."""

    def call(*args: object, input: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [program, "--root", tmp_path / "state", *map(str, args)]
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **stdin)  # type: ignore[call-overload]

    return call


def status(run: Run, id: str) -> str:
    return str(json.loads(run("state", id).stdout)["status"])


@pytest.mark.row("ENG-22")
def test_a_bundle_runs_to_its_end_and_nothing_stays(run: Run, bundle: Callable[..., Path], id: str) -> None:
    done = run("run", "--bundle", bundle("sh", "-c", "cat; echo err >&2; exit 42"), id, input="through\n")
    assert (done.returncode, done.stdout, done.stderr) == (42, "through\n", "err\n")
    assert run("state", id).returncode == 1


@pytest.mark.row("ENG-21")
def test_the_life_of_a_container_in_single_steps(
    run: Run, bundle: Callable[..., Path], id: str, tmp_path: Path, program: Path
) -> None:
    directory = bundle("sh", "-c", "echo started > /started; sleep 1000")
    # what the container keeps open must not be a pipe of ours, or the call would wait for the container
    with open(tmp_path / "output", "w") as output:
        subprocess.run(
            [program, "--root", tmp_path / "state", "create", "-b", directory, "--pid-file", tmp_path / "pid", id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
            timeout=30,
        )
    state = json.loads(run("state", id).stdout)
    assert state["status"] == "created"
    assert state["pid"] == int((tmp_path / "pid").read_text())
    assert not (tmp_path / "rootfs/started").exists()
    assert run("create", "-b", directory, id).returncode == 1
    assert run("start", id).returncode == 0
    assert status(run, id) == "running"
    assert "cannot start an already running container" in run("start", id).stderr
    done = run("exec", id, "sh", "-c", "until [ -e /started ]; do :; done; cat /started; exit 7")
    assert (done.returncode, done.stdout) == (7, "started\n")
    assert run("exec", id, "nosuch").returncode == 255
    assert state["pid"] in json.loads(run("ps", "--format", "json", id).stdout)
    assert [each["id"] for each in json.loads(run("list", "-f", "json").stdout)] == [id]
    assert json.loads(run("events", "--stats", id).stdout)["data"]["pids"]["current"] >= 1
    assert run("pause", id).returncode == 0
    assert status(run, id) == "paused"
    assert "paused container" in run("exec", id, "true").stderr
    assert run("resume", id).returncode == 0
    assert "is not stopped: running" in run("delete", id).stderr
    assert run("kill", id, "KILL").returncode == 0
    assert run("delete", "--force", id).returncode == 0
    assert "container does not exist" in run("state", id).stderr


@pytest.mark.row("ISO-01")
def test_a_runtime_in_a_chroot_gives_its_containers_the_only_root(
    bundle: Callable[..., Path], id: str, tmp_path: Path, program: Path
) -> None:
    changed_root = tmp_path / "chroot"
    changed_root.mkdir()
    script = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
    enter = ["unshare", "--mount", "sh", "-c", script, changed_root, program, "--root", tmp_path / "state"]
    directory = bundle("sleep", "1000")
    with open(tmp_path / "output", "w") as output:
        subprocess.run(
            [*enter, "run", "-d", "-b", directory, "--pid-file", tmp_path / "pid", id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
            timeout=30,
        )
    done = subprocess.run([*enter, "exec", id, "ls", "/"], capture_output=True, text=True, timeout=30, check=False)
    assert set(done.stdout.split()) == {"bin", "dev", "etc", "proc", "root", "sys", "tmp"}, done.stderr
    mounts = Path(f"/proc/{(tmp_path / 'pid').read_text()}/mountinfo").read_text()
    assert str(changed_root) not in mounts


@pytest.mark.row("RUN-46")
def test_a_failed_create_leaves_nothing(run: Run, bundle: Callable[..., Path], id: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("--log", log, "--log-format", "json", "run", "-b", bundle("nosuch"), id)
    assert done.returncode == 1
    assert json.loads(log.read_text())["msg"] == (
        "boxship-runtime run failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH'
    )


def test_limits_of_the_configuration_are_applied(
    run: Run, bundle: Callable[..., Path], spec: dict[str, Any], id: str
) -> None:
    spec["linux"]["resources"]["pids"] = {"limit": 17}
    done = run("run", "-b", bundle("sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max"), id)
    assert done.stdout.strip() == "17"


def test_poststart_and_poststop_hooks_run(
    run: Run, bundle: Callable[..., Path], spec: dict[str, Any], id: str, tmp_path: Path
) -> None:
    log = tmp_path / "hooks"
    hook = [{"path": "/bin/sh", "args": ["sh", "-c", f"(cat; echo) >> {log}"]}]
    spec["hooks"] = {"poststart": hook, "poststop": hook}
    assert run("run", "-b", bundle("true"), id).returncode == 0
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == [id, id]
    assert json.loads(log.read_text().splitlines()[1])["status"] == "stopped"


def test_preserved_descriptors_reach_the_program(
    program: Path, bundle: Callable[..., Path], id: str, tmp_path: Path
) -> None:
    directory = bundle("sh", "-c", "cat <&3; [ -e /proc/self/fd/4 ] && echo more")
    given = tmp_path / "given"
    given.write_text("given\n")
    script = f'exec "$0" --root "$1" run --preserve-fds 1 -b "$2" "$3" 3<{given} 4</etc/passwd'
    done = subprocess.run(
        ["sh", "-c", script, program, tmp_path / "state", directory, id],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert done.stdout == "given\n"


REPORT = "; echo ---; ".join(
    (
        "grep -E '^(Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status",
        "cat /proc/self/mountinfo",
        "for n in net ipc uts pid cgroup mnt; do readlink /proc/self/ns/$n | cut -d: -f1; done",
        "ls /proc/self/fd",
        "ls -l /dev | tr -s ' ' | cut -d' ' -f1-6,10-",
        "pwd; id; env | sort; hostname; umask; ulimit -a; cat /proc/self/oom_score_adj",
    )
)


def _comparable(report: str, id: str) -> list[Any]:
    """Return the report with what differs from container to container replaced."""
    sections = report.split("---\n")
    mounts = []
    for entry in mountinfo.parse(sections[1]):
        # of the version 1 hierarchies' own tmpfs runc leaves the top writable; ours is read-only as asked for
        options = "" if entry.mount_point == "/sys/fs/cgroup" else entry.options
        mounts.append((entry.mount_point, entry.root.replace(id, "ID"), options, entry.fstype, entry.super_options))
    sections[1] = ""
    return [mounts, *sections]


@pytest.mark.row("ISO-05", "ISO-08")
@pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")
@pytest.mark.parametrize("no_new_privs", [False, True])
@pytest.mark.parametrize("uid", [0, 33])
def test_r9_a_container_is_the_same_as_with_runc(
    run: Run, bundle: Callable[..., Path], spec: dict[str, Any], id: str, tmp_path: Path, no_new_privs: bool, uid: int
) -> None:
    spec["process"]["noNewPrivileges"] = no_new_privs
    spec["process"]["user"] = {"uid": uid, "gid": uid, "additionalGids": [uid, 44]}
    spec["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    spec["process"]["capabilities"]["ambient"] = ["CAP_KILL"]
    directory = bundle("sh", "-c", REPORT)
    ours = run("run", "-b", directory, id)
    assert ours.returncode == 0, ours.stderr
    theirs = subprocess.run(
        ["runc", "--root", tmp_path / "runc", "run", "-b", directory, f"{id}-runc"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=True,
    )
    assert _comparable(ours.stdout, id) == _comparable(theirs.stdout, f"{id}-runc")


@pytest.mark.row("ENG-21")
@pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman")
def test_podman_runs_a_container_with_this_runtime(program: Path, rootfs: Path, short_directory: Path) -> None:
    podman = [
        *("podman", "--root", str(short_directory / "root"), "--runroot", str(short_directory / "run")),
        *("--tmpdir", str(short_directory / "tmp"), "--storage-driver", "vfs"),
        *("--cgroup-manager", "cgroupfs", "--runtime", str(program)),
    ]
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    options = [*limits, "--network", "none", "--rootfs", str(rootfs)]

    def call(*args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*podman, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )

    try:
        done = call("run", "--rm", *options, "sh", "-c", "hostname > /dev/null && echo inside; exit 5")
        assert (done.returncode, done.stdout) == (5, "inside\n"), done.stderr
        assert call("run", "--rm", *options, "nosuch").returncode == 127
        assert call("run", "--rm", *options, "/etc").returncode == 126
        assert call("run", "-d", "--name", "box", *options, "sleep", "1000").returncode == 0
        assert call("exec", "box", "sh", "-c", "exit 9").returncode == 9
        assert call("exec", "-t", "box", "tty").stdout.strip() == "/dev/pts/0"
    finally:
        call("rm", "-f", "-t", "0", "box")
        for pattern in ("*/libpod_parent/conmon", "*/libpod_parent"):
            for directory in Path("/sys/fs/cgroup").glob(pattern):
                with contextlib.suppress(OSError):  # another podman's containers live there
                    directory.rmdir()
