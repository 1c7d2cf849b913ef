"""The same image with the same options in Boxship and in a real dockerd, fact by fact as a program inside sees it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox

pytestmark = pytest.mark.system

FACTS = {
    "status": "grep -vE '^(Vm|Rss|vol|nonvol|Tgid|Pid|PPid|NS|Name|SigQ)' /proc/self/status",
    "mounts": "cut -d ' ' -f 2-4 /proc/self/mounts",
    "environment": "env | sort",
    "limits": "cat /proc/self/limits",
    "devices": "ls -lR /dev | awk '{ print $1, $3, $4, $5, $6, $NF }'",
    "device rules": "sort /sys/fs/cgroup/devices/devices.list",
    "hosts": "cat /etc/hosts",
    "resolv.conf": "cat /etc/resolv.conf",
    "names": "hostname; cat /etc/hostname",
    "identity": "id; umask; pwd; cat /proc/self/oom_score_adj /proc/self/attr/current 2>&1",
    "root": "ls -l / | awk '{ print $1, $3, $4, $NF }'",
    "sysctls": "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range ip_forward; "
    "cat /proc/sys/net/ipv6/conf/*0/disable_ipv6 /proc/sys/kernel/shmmax /proc/sys/kernel/msgmax",
    "network": "ip -o addr show eth0 | awk '{ print $2, $3, $4, $6 }'; ip route; cat /sys/class/net/eth0/mtu",
    "descriptors": "ls /proc/self/fd",
    "processes": "ps -o ppid,comm",
    "limit files": "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.shares pids/pids.max cpu/cpu.cfs_quota_us "
    "cpuset/cpuset.cpus memory/memory.swappiness memory/memory.oom_control",
}
"""Shell lines whose output a container of ours shares with one of dockerd."""

STRICTER_HERE = {
    "mounts": {  # files of the machine that newer engines mask too, and a cgroup tree that nothing is mounted into
        "/proc/interrupts tmpfs ",
        "/proc/asound tmpfs ",
        "/proc/latency_stats tmpfs ",
        "/sys/devices/virtual/powercap tmpfs ",
        "/sys/fs/cgroup tmpfs ",
        "/ overlay ",
    },
    "device rules": {"c 10:200 rwm"},  # /dev/net/tun, which newer runtimes leave out
}
"""Beginnings of lines in which we differ from dockerd 20.10 knowingly."""

PLAIN: tuple[str, ...] = ()
CONFINED = (
    *(
        "-u",
        "app",
        "--read-only",
        "--tmpfs",
        "/scratch",
        "-h",
        "myhost",
        "--add-host",
        "peer:192.0.2.7",
        "--dns",
        "192.0.2.53",
    ),
    *("-m", "64m", "--pids-limit", "100", "--cpu-shares", "300", "--cpus", "0.5", "--oom-score-adj", "100"),
    *("--ulimit", "nofile=100:200", "--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--cap-add", "NET_RAW"),
    *("-e", "A=b", "-w", "/var", "--shm-size", "8m", "--sysctl", "kernel.msgmax=4000", "--group-add", "2000"),
)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Dockerd]]:
    with contextlib.ExitStack() as undo:
        try:
            peer = Dockerd()
            peer.start()
        except RuntimeError as exc:
            pytest.skip(str(exc))
        undo.callback(peer.close)
        engine = Engine()
        undo.callback(engine.close)
        engine.start()
        import_busybox(engine)
        import_busybox(peer)
        yield engine, peer


@pytest.fixture(scope="module", params=[PLAIN, CONFINED], ids=["plain", "confined"])
def facts(request: pytest.FixtureRequest, engines: tuple[Engine, Dockerd]) -> tuple[dict[str, str], dict[str, str]]:
    script = "; ".join(f"echo '=== {name}'; ( {line} )" for name, line in FACTS.items())
    found = []
    for engine in engines:
        output = engine.docker("run", "--rm", *request.param, "busybox", "sh", "-c", script).stdout
        parts = re.split(r"^=== (.*)\n", output, flags=re.MULTILINE)[1:]
        found.append(dict(zip(parts[::2], parts[1::2], strict=True)))
    return found[0], found[1]


@pytest.mark.row("ISO-05", "ISO-06", "ISO-08", "ISO-09", "RUN-37", "NET-13")
@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_the_same(facts: tuple[dict[str, str], dict[str, str]], fact: str) -> None:
    def lines(text: str) -> list[str]:
        text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
        return [line for line in text.splitlines() if not line.startswith(tuple(STRICTER_HERE.get(fact, ())))]

    ours, theirs = (lines(each[fact]) for each in facts)
    if fact == "mounts":  # disjoint places in another order
        ours, theirs = sorted(ours), sorted(theirs)
    assert ours == theirs
