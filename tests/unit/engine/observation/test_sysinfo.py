import os
from pathlib import Path

import msgspec
import pytest

from boxship.engine.observation.sysinfo import SysInfo, parse_os_release, probe
from boxship.linux.cgroup import Layout

COMPLETE = SysInfo(
    cgroup_version=1,
    memory_limit=True,
    swap_limit=True,
    oom_kill_disable=True,
    kernel_memory_tcp=True,
    cpu_shares=True,
    cpu_cfs=True,
    cpuset=True,
    pids_limit=True,
    blkio_weight=True,
    blkio_weight_device=True,
    blkio_throttle=True,
    ipv4_forwarding=True,
    bridge_nf_iptables=True,
    bridge_nf_ip6tables=True,
)


@pytest.mark.row("ENG-27")
def test_a_complete_host_has_no_warnings() -> None:
    assert COMPLETE.warnings() == []
    assert msgspec.structs.replace(COMPLETE, cgroup_version=2).warnings() == []


@pytest.mark.row("ENG-27", "RES-19")
@pytest.mark.parametrize(
    ("field", "version_1", "version_2"),
    [
        ("memory_limit", ["WARNING: No memory limit support"], ["WARNING: No memory limit support"]),
        ("swap_limit", ["WARNING: No swap limit support"], ["WARNING: No swap limit support"]),
        ("kernel_memory_tcp", ["WARNING: No kernel memory TCP limit support"], []),
        ("oom_kill_disable", ["WARNING: No oom kill disable support"], []),
        (
            "cpu_cfs",
            ["WARNING: No cpu cfs quota support", "WARNING: No cpu cfs period support"],
            ["WARNING: No cpu cfs quota support", "WARNING: No cpu cfs period support"],
        ),
        ("cpu_shares", ["WARNING: No cpu shares support"], ["WARNING: No cpu shares support"]),
        ("cpuset", ["WARNING: No cpuset support"], ["WARNING: No cpuset support"]),
        ("blkio_weight", [], ["WARNING: No io.weight support"]),
        ("blkio_weight_device", [], ["WARNING: No io.weight (per device) support"]),
        (
            "blkio_throttle",
            [
                "WARNING: No blkio throttle.read_bps_device support",
                "WARNING: No blkio throttle.write_bps_device support",
                "WARNING: No blkio throttle.read_iops_device support",
                "WARNING: No blkio throttle.write_iops_device support",
            ],
            [
                "WARNING: No io.max (rbps) support",
                "WARNING: No io.max (wbps) support",
                "WARNING: No io.max (riops) support",
                "WARNING: No io.max (wiops) support",
            ],
        ),
        ("ipv4_forwarding", ["WARNING: IPv4 forwarding is disabled"], ["WARNING: IPv4 forwarding is disabled"]),
        (
            "bridge_nf_iptables",
            ["WARNING: bridge-nf-call-iptables is disabled"],
            ["WARNING: bridge-nf-call-iptables is disabled"],
        ),
        (
            "bridge_nf_ip6tables",
            ["WARNING: bridge-nf-call-ip6tables is disabled"],
            ["WARNING: bridge-nf-call-ip6tables is disabled"],
        ),
    ],
)
def test_what_is_missing_is_said_in_dockers_words(field: str, version_1: list[str], version_2: list[str]) -> None:
    lacking = msgspec.structs.replace(COMPLETE, **{field: False})
    assert lacking.warnings() == version_1
    assert msgspec.structs.replace(lacking, cgroup_version=2).warnings() == version_2


def test_os_release_values_are_unquoted() -> None:
    text = '# comment\nNAME=plain\nPRETTY_NAME="A \\"B\\" \\$1"\nVERSION_ID=\'12\'\n\nbroken\n'
    assert parse_os_release(text) == {"NAME": "plain", "PRETTY_NAME": 'A "B" $1', "VERSION_ID": "12"}


def write(root: Path, path: str, text: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.row("RES-19")
def test_a_version_2_host_is_read_from_its_controllers(tmp_path: Path) -> None:
    write(tmp_path, "etc/os-release", 'PRETTY_NAME="Test Linux 1"\nVERSION_ID=1\n')
    write(tmp_path, "proc/sys/net/ipv4/ip_forward", "1\n")
    write(tmp_path, "sys/module/apparmor/parameters/enabled", "Y\n")
    write(tmp_path, "cg/cgroup.controllers", "cpuset cpu io memory pids\n")
    write(tmp_path, "cg/cgroup.subtree_control", "memory io\n")
    write(tmp_path, "cg/cpuset.cpus.effective", "0-3\n")
    write(tmp_path, "cg/some.slice/memory.max")
    info = probe(str(tmp_path), Layout({}, str(tmp_path / "cg")))
    assert (info.cgroup_version, info.cgroup_driver) == (2, "cgroupfs")
    assert info.memory_limit
    assert not info.swap_limit
    assert info.cpu_cfs
    assert info.cpuset_cpus == "0-3"
    assert info.pids_limit
    assert not info.oom_kill_disable
    assert info.ipv4_forwarding
    assert not info.bridge_nf_iptables
    assert info.apparmor
    assert not info.selinux
    assert (info.operating_system, info.os_version) == ("Test Linux 1", "1")
    write(tmp_path, "cg/some.slice/memory.swap.max")
    assert probe(str(tmp_path), Layout({}, str(tmp_path / "cg"))).swap_limit


def test_a_version_1_host_is_read_from_its_files(tmp_path: Path) -> None:
    write(tmp_path, "memory/memory.limit_in_bytes")
    write(tmp_path, "cpu/cpu.cfs_quota_us")
    info = probe(str(tmp_path), Layout({"memory": f"{tmp_path}/memory", "cpu": f"{tmp_path}/cpu"}, None))
    assert info.cgroup_version == 1
    assert info.memory_limit
    assert not info.swap_limit
    assert not info.cpu_cfs
    assert not info.cpuset


def test_a_host_without_cgroups_has_no_driver(tmp_path: Path) -> None:
    info = probe(str(tmp_path), Layout({}, None))
    assert (info.cgroup_version, info.cgroup_driver) == (0, "none")
    assert not any("limit support" in text for text in info.warnings())


@pytest.mark.row("ENG-26")
def test_this_host_can_be_probed() -> None:
    info = probe()
    assert info.kernel_version == os.uname().release
    assert info.memory_total > 1 << 20
    assert info.cpus >= 1
