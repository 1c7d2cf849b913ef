"""Limits against Docker's rules and against kernels that lack them."""

from __future__ import annotations

import msgspec
import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import limits
from boxship.spec.docker.container import HostConfig, ThrottleDevice, WeightDevice

ABLE = SysInfo(
    **{name: True for name, value in msgspec.structs.asdict(SysInfo()).items() if value is False},
    cpus=2,
    cpuset_cpus="0-1",
    cpuset_mems="0",
)
DEVICE = [ThrottleDevice(path="/dev/sda", rate=1)]


@pytest.mark.row("RES-06", "RES-07", "RES-09", "RES-03")
@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"memory": 1}, "Minimum memory limit allowed is 6MB"),
        (
            {"memory_swap": 1 << 30},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            {"memory": 1 << 30, "memory_swap": 1 << 29},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"memory_reservation": 1}, "Minimum memory reservation allowed is 6MB"),
        (
            {"memory": 1 << 24, "memory_reservation": 1 << 25},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"nano_cpus": 1, "cpu_period": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 1, "cpu_quota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            {"nano_cpus": 3_000_000_000},
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            {"cpu_period": 999},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"cpu_quota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"cpuset_cpus": "0,7"}, "Requested CPUs are not available - requested 0,7, available: 0-1"),
        ({"cpuset_cpus": "1-0"}, "Invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
        ({"cpuset_mems": "3"}, "Requested memory nodes are not available - requested 3, available: 0"),
        ({"blkio_weight": 9}, "Range of blkio weight is from 10 to 1000"),
        (
            {"io_maximum_iops": 1},
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ),
        (
            {"cpu_realtime_period": 1000, "cpu_realtime_runtime": 2000},
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ),
        ({"oom_score_adj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
    ],
)
def test_a_wrong_limit_is_refused_in_dockers_words(host: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        limits.fit(HostConfig(**host), ABLE)
    assert str(caught.value) == text


@pytest.mark.row("RES-19")
@pytest.mark.parametrize(
    ("lacking", "host", "warning", "instead"),
    [
        ("memory_limit", {"memory": 1 << 26, "memory_swap": 1 << 27}, "memory limit capabilities", {"memory": 0}),
        ("swap_limit", {"memory": 1 << 26, "memory_swap": 1 << 27}, "Memory limited without swap", {"memory_swap": -1}),
        ("memory_swappiness", {"memory_swappiness": 0}, "Memory swappiness discarded", {"memory_swappiness": None}),
        ("memory_reservation", {"memory_reservation": 1 << 26}, "memory soft limit", {"memory_reservation": 0}),
        ("pids_limit", {"pids_limit": 5}, "PIDs limit discarded", {"pids_limit": None}),
        ("cpu_shares", {"cpu_shares": 5}, "Shares discarded", {"cpu_shares": 0}),
        ("cpu_cfs", {"cpu_quota": 5000}, "CPU period/quota discarded", {"cpu_quota": 0}),
        ("cpuset", {"cpuset_cpus": "1"}, "Cpuset discarded", {"cpuset_cpus": ""}),
        ("blkio_weight", {"blkio_weight": 10}, "Weight discarded", {"blkio_weight": 0}),
        (
            "blkio_weight_device",
            {"blkio_weight_device": [WeightDevice(path="/dev/sda", weight=10)]},
            "Weight-device discarded",
            {"blkio_weight_device": []},
        ),
        ("blkio_throttle", {"blkio_device_read_bps": DEVICE}, "BPS read limit", {"blkio_device_read_bps": []}),
        ("blkio_throttle", {"blkio_device_write_bps": DEVICE}, "BPS write limit", {"blkio_device_write_bps": []}),
        ("blkio_throttle", {"blkio_device_read_iops": DEVICE}, "IOPS read limit", {"blkio_device_read_iops": []}),
        ("blkio_throttle", {"blkio_device_write_iops": DEVICE}, "IOPS write limit", {"blkio_device_write_iops": []}),
        ("cgroup_namespaces", {"cgroupns_mode": "private"}, "Cgroup namespace", {"cgroupns_mode": "host"}),
    ],
)
def test_a_limit_that_the_kernel_lacks_is_discarded_with_a_warning(
    lacking: str, host: dict[str, object], warning: str, instead: dict[str, object]
) -> None:
    wanted = HostConfig(**host)
    assert limits.fit(wanted, ABLE) == (wanted, [])
    fitted, warnings = limits.fit(wanted, msgspec.structs.replace(ABLE, **{lacking: False}))
    assert [warning in text for text in warnings] == [True]
    assert {name: getattr(fitted, name) for name in instead} == instead


@pytest.mark.row("RES-06")
def test_a_number_of_cpus_cannot_be_discarded() -> None:
    with pytest.raises(InvalidInput, match="NanoCPUs can not be set, as your kernel does not support CPU CFS"):
        limits.fit(HostConfig(nano_cpus=10**9), msgspec.structs.replace(ABLE, cpu_cfs=False))


@pytest.mark.row("RES-10")
def test_no_oom_killer_and_no_limit_is_worth_a_warning() -> None:
    assert limits.fit(HostConfig(oom_kill_disable=True, memory=1 << 26), ABLE)[1] == []
    assert "no memory limit is set" in limits.fit(HostConfig(oom_kill_disable=True), ABLE)[1][0]
