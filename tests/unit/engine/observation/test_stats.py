from typing import Any

import pytest

from boxship.engine.observation import stats

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    9999      99    0    0    0     0          0         0     9999      99    0    0    0     0       0          0
  eth0:    5338      36    1    2    0     0          0         0      648       8    3    4    0     0       0          0
"""
PROC_STAT = """\
cpu  10 20 30 40 50 60 70 80 90 100
cpu0 5 10 15 20 25 30 35 40 45 50
cpu1 5 10 15 20 25 30 35 40 45 50
intr 12345
"""
V1: dict[str, Any] = {
    "cpu": {
        "usage_ns": 111227428,
        "user_ns": 0,
        "system_ns": 100000000,
        "per_cpu_ns": [22276811, 88950617],
        "periods": 4,
        "throttled_periods": 3,
        "throttled_ns": 2,
    },
    "memory": {
        "usage": 32874496,
        "max_usage": 34140160,
        "limit": 104857600,
        "failcnt": 0,
        "stat": {"cache": 31461376, "total_cache": 31461376, "hierarchical_memory_limit": 104857600, "swap": 1},
        "oom_kill": 0,
    },
    "pids": {"current": 1, "limit": None},
    "blkio": {"io_service_bytes_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 1}]},
}
V2: dict[str, Any] = {
    "cpu": V1["cpu"] | {"per_cpu_ns": []},
    "memory": V1["memory"]
    | {
        "limit": 0xFFFFFFFFFFFFFFFF,
        "failcnt": 2,
        "stat": {"inactive_file": 7, "workingset_refault_anon": 1, "workingset_refault_file": 2},
    },
    "pids": {"current": 2, "limit": None},
    "blkio": {"io_service_bytes_recursive": []},
}


def sample(version: int = 1, **changes: Any) -> stats.Sample:
    values: dict[str, Any] = {
        "read_ns": 1_700_000_001_500_000_000,
        "cgroup": V1 if version == 1 else V2,
        "cgroup_version": version,
        "networks": None,
        "system_cpu_ns": 4172580000000,
        "online_cpus": 2,
    }
    return stats.Sample(**(values | changes))


def document(of: stats.Sample, previous: stats.Sample | None = None) -> dict[str, Any]:
    return stats.document(of, previous, id="c" * 64, name="/web", memory_total=25276510208)


@pytest.mark.row("MON-06")
def test_a_version_1_sample_has_dockers_shape() -> None:
    result = document(sample())
    assert result["id"] == "c" * 64
    assert result["name"] == "/web"
    assert result["read"] == "2023-11-14T22:13:21.5Z"
    assert result["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": 111227428,
            "percpu_usage": [22276811, 88950617],
            "usage_in_kernelmode": 100000000,
            "usage_in_usermode": 0,
        },
        "system_cpu_usage": 4172580000000,
        "online_cpus": 2,
        "throttling_data": {"periods": 4, "throttled_periods": 3, "throttled_time": 2},
    }
    memory = result["memory_stats"]
    assert set(memory) == {"usage", "max_usage", "stats", "limit"}
    assert memory["limit"] == 104857600
    assert memory["stats"]["cache"] == 31461376
    assert memory["stats"]["total_rss"] == 0
    assert "swap" not in memory["stats"]
    assert result["pids_stats"] == {"current": 1}
    assert result["blkio_stats"]["io_service_bytes_recursive"] == [{"major": 8, "minor": 0, "op": "Read", "value": 1}]
    assert result["blkio_stats"]["sectors_recursive"] == []
    assert result["num_procs"] == 0
    assert result["storage_stats"] == {}
    assert "networks" not in result


def test_version_1_memory_has_the_names_that_docker_gives() -> None:
    # recorded from dockerd 20.10 on a host with cgroup v1
    names = (
        "active_anon active_file cache dirty hierarchical_memory_limit hierarchical_memsw_limit inactive_anon inactive_file "
        "mapped_file pgfault pgmajfault pgpgin pgpgout rss rss_huge total_active_anon total_active_file total_cache "
        "total_dirty total_inactive_anon total_inactive_file total_mapped_file total_pgfault total_pgmajfault total_pgpgin "
        "total_pgpgout total_rss total_rss_huge total_unevictable total_writeback unevictable writeback"
    )
    assert list(document(sample())["memory_stats"]["stats"]) == names.split()


@pytest.mark.row("MON-06")
def test_a_version_2_sample_leaves_out_what_version_2_does_not_count() -> None:
    result = document(sample(2))
    assert "percpu_usage" not in result["cpu_stats"]["cpu_usage"]
    memory = result["memory_stats"]
    assert set(memory) == {"usage", "stats", "failcnt", "limit"}
    assert memory["limit"] == 25276510208
    assert memory["stats"]["inactive_file"] == 7
    assert memory["stats"]["workingset_refault"] == 3
    assert len(memory["stats"]) == 31
    assert result["pids_stats"] == {"current": 2, "limit": 18446744073709551615}
    assert set(result["blkio_stats"].values()) == {None}


def test_the_previous_sample_is_the_base_of_rates() -> None:
    before = sample(read_ns=1_700_000_000_000_000_000, system_cpu_ns=7)
    result = document(sample(), before)
    assert result["preread"] == "2023-11-14T22:13:20Z"
    assert result["precpu_stats"]["system_cpu_usage"] == 7


def test_a_first_sample_has_an_empty_base() -> None:
    result = document(sample())
    assert result["preread"] == "0001-01-01T00:00:00Z"
    assert result["precpu_stats"] == {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


@pytest.mark.row("MON-06")
def test_a_stopped_container_gives_the_empty_document() -> None:
    # recorded from dockerd 20.10, which has no os_type
    assert stats.stopped(id="x", name="/s3") == {
        "read": "0001-01-01T00:00:00Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": None,
            "io_serviced_recursive": None,
            "io_queue_recursive": None,
            "io_service_time_recursive": None,
            "io_wait_time_recursive": None,
            "io_merged_recursive": None,
            "io_time_recursive": None,
            "sectors_recursive": None,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        },
        "precpu_stats": {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        },
        "memory_stats": {},
        "name": "/s3",
        "id": "x",
        "os_type": "linux",
    }


@pytest.mark.row("RES-18")
def test_network_counters_leave_out_the_loopback() -> None:
    networks = stats.parse_net_dev(NET_DEV)
    assert networks == {
        "eth0": {
            "rx_bytes": 5338,
            "rx_packets": 36,
            "rx_errors": 1,
            "rx_dropped": 2,
            "tx_bytes": 648,
            "tx_packets": 8,
            "tx_errors": 3,
            "tx_dropped": 4,
        }
    }
    assert document(sample(networks=networks))["networks"] == networks


def test_a_namespace_with_the_loopback_only_has_no_networks() -> None:
    assert "networks" not in document(sample(networks={}))


def test_system_time_is_the_sum_of_all_processors() -> None:
    total, online = stats.parse_proc_stat(PROC_STAT)
    assert total == 280 * 10_000_000
    assert online == 2


def test_a_cgroup_without_controllers_gives_zeros() -> None:
    result = document(sample(2, cgroup={}))
    assert result["memory_stats"] == {}
    assert result["pids_stats"] == {}
    assert result["cpu_stats"]["cpu_usage"]["total_usage"] == 0
