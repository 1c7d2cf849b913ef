"""The version 1 driver's decisions, against directories of plain files that stand for cgroupfs."""

from pathlib import Path

import pytest

from boxship.linux.cgroup_base import CgroupError
from boxship.linux.cgroup_v1 import CgroupV1


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    for controller in ("cpuset", "memory", "blkio", "cpu"):
        (tmp_path / controller / "boxship" / "x").mkdir(parents=True)
    return {name: str(tmp_path / name) for name in ("cpuset", "memory", "blkio", "cpu")}


def test_a_limit_of_a_controller_that_is_not_mounted_names_it(roots: dict[str, str]) -> None:
    with pytest.raises(CgroupError, match="pids: this host has no such cgroup controller") as caught:
        CgroupV1("/boxship/x", roots).apply({"pids": {"limit": 5}})
    assert caught.value.errno == 95


def test_a_limit_whose_file_is_missing_names_the_file(roots: dict[str, str]) -> None:
    with pytest.raises(CgroupError, match=r"memory\.limit: this host does not support it .*memory\.limit_in_bytes"):
        CgroupV1("/boxship/x", roots).apply({"memory": {"limit": 5}})


def test_unified_settings_are_refused(roots: dict[str, str]) -> None:
    with pytest.raises(CgroupError, match="this host uses cgroup v1"):
        CgroupV1("/boxship/x", roots).apply({"unified": {"memory.high": "1"}})


def test_each_level_inherits_processors_where_it_has_none(tmp_path: Path, roots: dict[str, str]) -> None:
    for level, text in (("", "0-1"), ("boxship", ""), ("boxship/x", "")):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (tmp_path / "cpuset" / level / name).write_text(text)
    (tmp_path / "cpuset" / "boxship" / "cpuset.mems").write_text("1")
    CgroupV1("/boxship/x", roots).create()
    assert (tmp_path / "cpuset/boxship/x/cpuset.cpus").read_text() == "0-1"
    assert (tmp_path / "cpuset/boxship/x/cpuset.mems").read_text() == "1"


def test_a_create_that_fails_removes_what_it_made(tmp_path: Path, roots: dict[str, str]) -> None:
    with pytest.raises(OSError, match="cpuset"):
        CgroupV1("/boxship/y", roots).create()
    assert not list(tmp_path.rglob("y"))


@pytest.mark.row("RES-18")
def test_block_io_counters_come_from_the_throttling_layer_when_the_scheduler_counts_none(
    tmp_path: Path, roots: dict[str, str]
) -> None:
    directory = tmp_path / "blkio/boxship/x"
    (directory / "blkio.bfq.io_serviced_recursive").write_text("Total 0\n")
    (directory / "blkio.throttle.io_serviced").write_text("254:0 Read 7\n254:0 Write 2\n254:0 Total 9\nTotal 9\n")
    blkio = CgroupV1("/boxship/x", roots).stats()["blkio"]
    assert blkio["io_serviced_recursive"] == [
        {"major": 254, "minor": 0, "op": "Read", "value": 7},
        {"major": 254, "minor": 0, "op": "Write", "value": 2},
        {"major": 254, "minor": 0, "op": "Total", "value": 9},
    ]
    assert blkio["io_time_recursive"] == []
