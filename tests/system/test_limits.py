"""What limits of processor, memory and processes do to the programs they are for, by the kernel's own counts.

Nothing here looks at the time: a share is what the cgroup used in so many periods, or beside another one on the same
processor, so that other work on the machine makes the tests slower and not wrong. ``scripts/limits`` measures more.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.linux import cgroup
from harness import cgroups
from harness.cgroups import PERIOD_NS
from harness.engine import Engine
from harness.images import import_program
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
SHARES_TIME = 1_000_000_000  # ns of two containers together that a ratio is taken from


@pytest.fixture(scope="module", autouse=True)
def stress(engine: Engine) -> None:
    """Debian's stress in an image."""
    try:
        import_program(engine, "stress", "stress")
    except FileNotFoundError:
        pytest.skip("stress is not installed")


def run(engine: Engine, *words: str) -> str:
    """Start a container in the background; return its cgroup."""
    return f"{engine.cgroup_parent}/{engine.docker('run', '-d', *words).stdout.strip()}"


# limit: its file in version 1 and in version 2, which counts swap alone
FILES = {
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "processors": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "pids": ("pids/pids.max", "pids.max"),
}


def limits(path: str, *names: str) -> dict[str, str]:
    """Return what the control files of a container say."""
    return {name: cgroups.read(path, *FILES[name]) for name in names}


def busy_processors(path: str) -> set[str]:
    """Return the processors that the cgroup's runnable processes are on; see proc(5), stat."""
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in cgroups.pids(path)]
    return {words[36] for words in states if words[0] == "R"}


@pytest.mark.row("RES-01")
def test_without_flags_nothing_is_limited(engine: Engine) -> None:
    found = limits(run(engine, "busybox", "sleep", "1000"), "quota", "shares", "memory", "pids")
    assert found == (
        {"quota": "-1", "shares": "1024", "memory": str(cgroups.UNLIMITED), "pids": "max"}
        if cgroup.version() == 1
        else {"quota": "max 100000", "shares": "100", "memory": "max", "pids": "max"}
    )


@pytest.mark.row("RUN-34")
def test_update_changes_limits_of_running_containers(cli: CLI, engine: Engine) -> None:
    ids = [cli("run", "-d", "--name", name, "busybox", "sleep", "1000").stdout.strip() for name in ("web", "db")]
    words = "-c 256 -m 64m --memory-swap 128m --memory-reservation 32m --pids-limit 30 --cpuset-cpus 0"
    assert cli("update", *words.split(), "--cpus", "1.5", "web", "db").stdout == "web\ndb\n"
    for id in ids:
        common = {"processors": "0", "memory": "67108864", "reservation": "33554432", "pids": "30"}
        assert limits(f"{engine.cgroup_parent}/{id}", *FILES) == common | (
            {"quota": "150000", "shares": "256", "swap": "134217728"}
            if cgroup.version() == 1
            else {"quota": "150000 100000", "shares": "35", "swap": "67108864"}
        )
    cli("update", "--restart", "always", "web")
    assert cli("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "web").stdout == "always\n"


@pytest.mark.row("RES-05", "RES-06", "RES-21")
def test_two_burners_get_the_processors_they_were_promised_and_not_more(engine: Engine) -> None:
    path = run(engine, "--name", "it", "--cpus", "0.5", "stress", "stress", "--cpu", "2")
    for cpus in (0.5, 0.2):
        engine.docker("update", "--cpus", str(cpus), "it")
        cgroups.counted(path, lambda used: used.throttled >= 2)  # what the quota before it had left
        used = cgroups.counted(path, lambda used: used.throttled >= 12)
        assert used.usage_ns <= 1.1 * cpus * PERIOD_NS * (used.periods + 1)
        assert used.usage_ns >= 0.9 * cpus * PERIOD_NS * (
            used.throttled - 1
        )  # all of it in periods that ended throttled


@pytest.mark.row("RES-02", "RES-21", "RUN-34")
def test_shares_divide_a_processor_that_two_want_and_change_while_they_do(engine: Engine) -> None:
    words = ("--cpuset-cpus", "0", "stress", "stress", "--cpu", "2")
    heavy = run(engine, "-c", "1024", *words)
    light = run(engine, "--name", "light", "-c", "256", *words)
    for _ in range(2):
        weights = [cgroups.number(path, "cpu/cpu.shares", "cpu.weight") for path in (heavy, light)]
        used = cgroups.contended((heavy, light), SHARES_TIME)
        assert used[0] / used[1] == pytest.approx(weights[0] / weights[1], rel=0.1)
        engine.docker("update", "-c", "1024", "light")


@pytest.mark.row("RES-03", "RES-21", "RUN-34")
def test_a_set_of_processors_is_kept_and_a_new_one_taken_at_once(engine: Engine) -> None:
    path = run(engine, "--name", "it", "--cpuset-cpus", "0", "stress", "stress", "--cpu", "2")
    for cpu in map(str, sorted(os.sched_getaffinity(0))[:2]):
        engine.docker("update", "--cpuset-cpus", cpu, "it")
        cgroups.counted(path, lambda used: used.usage_ns >= PERIOD_NS)
        until(lambda cpu=cpu: busy_processors(path) == {cpu}, cgroups.PATIENCE)
        for pid in cgroups.pids(path):
            assert f"Cpus_allowed_list:\t{cpu}\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.row("RES-10", "RES-21", "MON-08")
def test_stress_that_takes_more_memory_than_it_may_is_killed_and_it_shows(engine: Engine) -> None:
    words = ("-m", "64m", "--memory-swap", "64m", "stress", "stress", "--vm", "1", "--vm-bytes", "128M")
    ended = engine.docker("run", "--name", "it", *words, check=False)
    assert (ended.returncode, "got signal 9" in ended.stdout + ended.stderr) == (1, True)  # stress's word on its worker
    assert engine.docker("inspect", "-f", "{{.State.OOMKilled}}", "it").stdout == "true\n"
    events = engine.docker("events", "--since", "1h", "--until", f"{time.time():.9f}", "--filter", "event=oom").stdout
    assert "container oom" in events


@pytest.mark.row("RES-10")
def test_a_program_that_takes_too_much_memory_is_killed_and_its_exit_code_is_137(engine: Engine) -> None:
    words = ("run", "--name", "it", "-m", "64m", "--memory-swap", "64m", "busybox", "tail", "/dev/zero")
    assert engine.docker(*words, check=False).returncode == 137
    state = engine.docker("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "it").stdout
    assert state == "true 137\n"


@pytest.mark.row("RES-07", "RES-21", "RUN-34")
def test_a_memory_limit_that_is_raised_lets_a_program_grow(engine: Engine) -> None:
    path = run(engine, "--name", "it", "-m", "32m", "--memory-swap", "32m", "busybox", "sleep", "1000")
    grow = ("exec", "it", "sh", "-c", "dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null")
    assert engine.docker(*grow, check=False).returncode == 137
    engine.docker("update", "-m", "96m", "--memory-swap", "96m", "it")
    assert engine.docker(*grow).returncode == 0
    assert cgroups.number(path, "memory/memory.limit_in_bytes", "memory.max") == 96 << 20


@pytest.mark.row("RES-21", "RES-18", "MON-07")
def test_the_load_of_all_kinds_stays_below_its_limits_and_can_be_watched(engine: Engine) -> None:
    limits = (
        "--cpus",
        "0.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "9",
    )
    load = ("stress", "--cpu", "2", "--vm", "2", "--vm-bytes", "16M", "--timeout", "120s")
    path = run(engine, "--name", "it", *limits, "stress", *load)
    until(lambda: len(cgroups.pids(path)) == 5)
    cgroups.counted(path, lambda used: used.throttled >= 3)
    assert engine.docker("exec", "it", "sh", "-c", "top -bn1 | head -n 15").stdout.count("stress") >= 5
    until(lambda: len(cgroups.pids(path)) == 5)
    stats = json.loads(engine.docker("stats", "--no-stream", "--format", "json", "it").stdout)
    assert stats["MemUsage"].endswith(" / 64MiB")
    assert stats["PIDs"] == "5"
    assert cgroups.number(path, "memory/memory.max_usage_in_bytes", "memory.current") <= 64 << 20


@pytest.mark.row("RES-13", "RUN-34")
def test_no_more_processes_than_the_limit_and_more_when_it_is_raised(engine: Engine) -> None:
    run(engine, "--name", "it", "--pids-limit", "4", "busybox", "sleep", "1000")
    fork = ("exec", "it", "sh", "-c", "for i in 1 2 3 4; do sleep 0 & done; wait")
    assert "can't fork" in engine.docker(*fork, check=False).stderr
    engine.docker("update", "--pids-limit", "10", "it")
    assert "can't fork" not in engine.docker(*fork).stderr


@pytest.mark.row("RES-16")
def test_a_device_rule_opens_what_is_closed_without_it(engine: Engine) -> None:
    """/dev/loop-control, which the container makes itself: making is allowed for all devices, opening is not."""
    script = "mknod /d c 10 237 && : < /d && : > /d"
    closed = engine.docker("run", "--rm", "busybox", "sh", "-c", script, check=False)
    assert "Operation not permitted" in closed.stderr
    for access, code in (("rw", 0), ("r", 1), ("w", 1)):
        words = ("--device-cgroup-rule", f"c 10:237 {access}m", "busybox", "sh", "-c", script)
        assert engine.docker("run", "--rm", *words, check=False).returncode == code, access


@pytest.mark.row("RUN-19")
def test_a_paused_container_uses_nothing_until_it_goes_on(engine: Engine) -> None:
    path = run(engine, "--name", "it", "stress", "stress", "--cpu", "1")
    cgroups.counted(path, lambda used: used.usage_ns > 0)
    engine.docker("pause", "it")
    before = cgroups.processor(path).usage_ns
    engine.docker("version")
    assert cgroups.processor(path).usage_ns == before
    engine.docker("unpause", "it")
    cgroups.counted(path, lambda used: used.usage_ns > 0)


@pytest.mark.row("RES-18")
def test_stats_are_the_kernels_counts(engine: Engine) -> None:
    path = run(
        engine, "--name", "it", "-m", "64m", "busybox", "sh", "-c", "head -c 8m /dev/zero > /f; read x < /f; sleep 1000"
    )
    engine.docker("exec", "it", "sh", "-c", "until [ $(stat -c %s /f) = 8388608 ]; do sleep 0.01; done")
    stats = engine.api("GET", "/containers/it/stats?stream=0&one-shot=1")[1]
    assert 0 < stats["cpu_stats"]["cpu_usage"]["total_usage"] <= cgroups.processor(path).usage_ns
    assert stats["memory_stats"]["limit"] == 64 << 20
    assert stats["pids_stats"]["current"] == len(cgroups.pids(path))
    assert "eth0" in stats["networks"]
    name = "total_inactive_file" if cgroup.version() == 1 else "inactive_file"
    shown = json.loads(engine.docker("stats", "--no-stream", "--format", "json", "it").stdout)["MemUsage"]
    raw = stats["memory_stats"]
    assert raw["stats"][name] >= 4 << 20  # the file's pages: in the usage, not in what stats shows
    assert float(shown.split("MiB")[0].split("KiB")[0]) < raw["usage"] / (1 << 20) or "KiB" in shown.split(" / ")[0]


@pytest.mark.row("RES-04")
@pytest.mark.parametrize("verb", ["run", "create"])
def test_the_old_name_of_the_set_of_processors_is_understood(engine: Engine, verb: str) -> None:
    id = engine.boxship(verb, *(["-d"] if verb == "run" else []), "--cpuset=0", "busybox", "sleep", "9").stdout.strip()
    assert engine.docker("inspect", "-f", "{{.HostConfig.CpusetCpus}}", id).stdout == "0\n"
