"""The version 2 driver against a directory of plain files that stands for cgroupfs."""

from pathlib import Path
from typing import Any

import pytest

from boxship.linux.cgroup_base import CgroupError
from boxship.linux.cgroup_devices import DeviceSet
from boxship.linux.cgroup_v2 import CgroupV2, io_weight_from_blkio, weight_from_shares

FILES = (
    "cgroup.procs cgroup.freeze cgroup.kill cpu.weight cpu.max cpu.max.burst cpu.idle cpuset.cpus cpuset.mems memory.max "
    "memory.low memory.swap.max pids.max io.weight io.max io.bfq.weight hugetlb.2MB.max rdma.max memory.high"
)


class Tree:
    """A cgroup's directory with empty control files, and what was written to them."""

    def __init__(self, root: Path) -> None:
        self.devices: list[DeviceSet] = []
        self.directory = root / "boxship" / "x"
        self.directory.mkdir(parents=True)
        for name in FILES.split():
            (self.directory / name).touch()
        self.cgroup = CgroupV2("/boxship/x", str(root), lambda _, devices: self.devices.append(devices))

    def put(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def written(self) -> dict[str, str]:
        files = {name: (self.directory / name).read_text() for name in FILES.split()}
        return {name: text for name, text in files.items() if text}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.row("RES-19")
@pytest.mark.parametrize(
    ("resources", "written"),
    [
        ({}, {}),
        ({"cpu": {}, "memory": None, "pids": {"limit": 0}}, {}),
        ({"cpu": {"shares": 512}}, {"cpu.weight": "59"}),
        ({"cpu": {"quota": 50000, "period": 100000}}, {"cpu.max": "50000 100000"}),
        ({"cpu": {"quota": 50000}}, {"cpu.max": "50000"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max"}),
        ({"cpu": {"quota": 50000, "burst": 1000}}, {"cpu.max": "50000", "cpu.max.burst": "1000"}),
        ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, {"cpuset.cpus": "0-1", "cpuset.mems": "0"}),
        ({"memory": {"limit": 100, "swap": 300}}, {"memory.max": "100", "memory.swap.max": "200"}),
        ({"memory": {"limit": 100, "swap": 100}}, {"memory.max": "100", "memory.swap.max": "0"}),
        ({"memory": {"limit": 100, "swap": -1}}, {"memory.max": "100", "memory.swap.max": "max"}),
        ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
        ({"memory": {"reservation": 50}}, {"memory.low": "50"}),
        ({"pids": {"limit": 7}}, {"pids.max": "7"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}),
        ({"blockIO": {"weight": 300}}, {"io.bfq.weight": "300"}),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}}, {"io.bfq.weight": "8:0 20"}),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}}, {"io.max": "8:0 rbps=9"}),
        ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 9}]}}, {"io.max": "8:0 wiops=9"}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}, {"hugetlb.2MB.max": "4194304"}),
        ({"rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}}}, {"rdma.max": "mlx hca_handle=1 hca_object=2"}),
        ({"unified": {"memory.high": "55"}}, {"memory.high": "55"}),
    ],
)
def test_apply_writes_what_the_kernel_documents(tree: Tree, resources: dict[str, Any], written: dict[str, str]) -> None:
    tree.cgroup.apply(resources)
    assert tree.written() == written


def test_a_new_period_keeps_the_quota(tree: Tree) -> None:
    tree.put("cpu.max", "50000 100000")
    tree.cgroup.apply({"cpu": {"period": 200000}})
    assert tree.written()["cpu.max"] == "50000 200000"


def test_block_io_weight_without_bfq_is_converted(tree: Tree) -> None:
    (tree.directory / "io.bfq.weight").unlink()
    tree.cgroup.apply({"blockIO": {"weight": 10}})
    assert (tree.directory / "io.weight").read_text() == "1"


@pytest.mark.parametrize(
    "resources",
    [
        {"cpu": {"realtimeRuntime": 1}},
        {"memory": {"swappiness": 10}},
        {"memory": {"kernel": 1 << 25}},
        {"memory": {"disableOOMKiller": True}},
        {"network": {"classID": 1}},
        {"hugepageLimits": [{"pageSize": "1GB", "limit": 1}]},
    ],
)
def test_a_limit_that_the_host_lacks_is_an_error_that_names_it(tree: Tree, resources: dict[str, Any]) -> None:
    section = next(iter(resources))
    with pytest.raises(CgroupError, match=section) as caught:
        tree.cgroup.apply(resources)
    assert caught.value.errno == 95


def test_swap_without_memory_limit_is_refused(tree: Tree) -> None:
    with pytest.raises(CgroupError, match="without memory limit"):
        tree.cgroup.apply({"memory": {"swap": 100}})


def test_a_limit_below_the_usage_is_refused_when_asked_to_check(tree: Tree) -> None:
    tree.put("memory.current", "500")
    with pytest.raises(CgroupError, match="below the current usage of 500 bytes"):
        tree.cgroup.apply({"memory": {"limit": 100, "checkBeforeUpdate": True}})


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_a_unified_key_cannot_leave_the_cgroup(tree: Tree, name: str) -> None:
    with pytest.raises(CgroupError, match="not the name of a control file"):
        tree.cgroup.apply({"unified": {name: "1"}})


def test_devices_become_a_program(tree: Tree) -> None:
    tree.cgroup.apply({"devices": [{"allow": False, "access": "rwm"}]})
    assert [(devices.allow, devices.lines()) for devices in tree.devices] == [(False, [])]


@pytest.mark.row("RES-02")
@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 30, 10000)]
)
def test_shares_become_the_weight_that_runc_gives(shares: int, weight: int) -> None:
    assert weight_from_shares(shares) == weight


@pytest.mark.parametrize(("blkio", "io"), [(10, 1), (500, 4950), (1000, 10000)])
def test_block_io_weights_are_stretched(blkio: int, io: int) -> None:
    assert io_weight_from_blkio(blkio) == io


@pytest.mark.row("RES-18")
def test_stats_reads_all_controllers(tree: Tree) -> None:
    tree.put(
        "cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n"
    )
    tree.put("memory.current", "1000\n")
    tree.put("memory.peak", "2000\n")
    tree.put("memory.max", "max\n")
    tree.put("memory.stat", "anon 1\ninactive_file 2\n")
    tree.put("memory.events", "low 0\nmax 5\noom 2\noom_kill 1\n")
    tree.put("pids.current", "3\n")
    tree.put("pids.max", "10\n")
    tree.put("io.stat", "8:0 rbytes=5 wbytes=6 rios=1 wios=1 dbytes=0 dios=0\n7:0 7:1 rbytes=1 wbytes=0\n7:2\n")
    assert tree.cgroup.stats() == {
        "cpu": {
            "usage_ns": 30000,
            "user_ns": 20000,
            "system_ns": 10000,
            "per_cpu_ns": [],
            "periods": 4,
            "throttled_periods": 3,
            "throttled_ns": 2000,
        },
        "memory": {
            "usage": 1000,
            "max_usage": 2000,
            "limit": 0xFFFFFFFFFFFFFFFF,
            "failcnt": 2,
            "oom_kill": 1,
            "stat": {"anon": 1, "inactive_file": 2},
        },
        "pids": {"current": 3, "limit": 10},
        "blkio": {
            "io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "read", "value": 5},
                {"major": 8, "minor": 0, "op": "write", "value": 6},
                {"major": 7, "minor": 1, "op": "read", "value": 1},
                {"major": 7, "minor": 1, "op": "write", "value": 0},
            ]
        },
    }
    assert tree.cgroup.oom_killed()


def test_create_enables_the_controllers_of_the_root_on_the_way_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "boxship").mkdir()
    (tmp_path / "boxship" / "cgroup.subtree_control").write_text("cpu memory")
    CgroupV2("/boxship/y", str(tmp_path)).create()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "boxship" / "cgroup.subtree_control").read_text() == "cpu memory"
    assert (tmp_path / "boxship" / "y").is_dir()
