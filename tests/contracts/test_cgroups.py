"""What every cgroup driver does, on the hierarchies of this host."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from boxship.linux.cgroup import Cgroup, CgroupError, layout
from boxship.linux.cgroup_v1 import CgroupV1
from boxship.linux.cgroup_v2 import CgroupV2

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

Spawn = Callable[..., int]


def _exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class CgroupContract:
    """A new driver passes by subclassing with its own ``open``."""

    @pytest.fixture
    def cgroup(self) -> Iterator[Cgroup]:
        parent = f"/boxship-test-{os.urandom(6).hex()}"
        cgroup = self.open(parent + "/child")
        yield cgroup
        cgroup.remove()
        self.open(parent).remove()

    def open(self, path: str) -> Cgroup:
        raise NotImplementedError

    def make_inner(self, cgroup: Cgroup) -> Cgroup:
        """Make a cgroup below ``cgroup`` as a container could."""
        inner = self.open(cgroup.path + "/inner")
        inner.create()
        return inner

    @pytest.fixture
    def spawn(self, cgroup: Cgroup) -> Iterator[Spawn]:
        """Start a process that joins the cgroup, runs ``work`` and sleeps; killed and reaped at the end."""
        pids: list[int] = []

        def start(work: Callable[[], object] = lambda: None, *, stay: bool = True) -> int:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.close(reader)
                    cgroup.join()
                    work()
                    code = 0
                    os.close(writer)
                    while stay:
                        signal.pause()
                finally:
                    os._exit(code)
            os.close(writer)
            os.read(reader, 1)
            os.close(reader)
            if stay:
                pids.append(pid)
            return pid

        yield start
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass

    def test_create_twice_is_fine(self, cgroup: Cgroup) -> None:
        cgroup.create()
        cgroup.create()
        assert all(os.path.isdir(directory) for directory in cgroup.paths().values())

    def test_a_process_that_joined_is_listed(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        assert cgroup.pids() == []
        pid = spawn()
        assert cgroup.pids() == [pid]

    def test_processes_of_cgroups_below_are_listed_and_removed(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        inner = self.make_inner(cgroup)
        pid = spawn(inner.join)
        assert cgroup.pids() == [pid]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        cgroup.remove()
        assert not any(os.path.exists(directory) for directory in cgroup.paths().values())

    @pytest.mark.row("RUN-19")
    def test_a_frozen_process_does_not_answer_until_it_is_thawed(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        pid = spawn(lambda: signal.signal(signal.SIGTERM, lambda *_: os._exit(7)))
        cgroup.freeze()
        assert cgroup.frozen()
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        cgroup.thaw()
        assert not cgroup.frozen()
        assert _exit_status(pid) == 7

    def test_kill_ends_every_process_at_once(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        pids = [spawn() for _ in range(3)]
        cgroup.kill(signal.SIGKILL)
        assert [_exit_status(pid) for pid in pids] == [-signal.SIGKILL] * 3

    def test_kill_ends_a_frozen_cgroup(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        pid = spawn()
        cgroup.freeze()
        cgroup.kill(signal.SIGKILL)
        assert _exit_status(pid) == -signal.SIGKILL

    def test_another_signal_reaches_all_and_leaves_a_frozen_cgroup_frozen(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        pid = spawn(lambda: signal.signal(signal.SIGTERM, lambda *_: os._exit(7)))
        cgroup.freeze()
        cgroup.kill(signal.SIGTERM)
        assert cgroup.frozen()
        cgroup.thaw()
        assert _exit_status(pid) == 7

    def test_remove_waits_for_a_process_that_just_died(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        for _ in range(5):
            cgroup.create()
            pid = spawn()
            cgroup.kill(signal.SIGKILL)
            os.waitpid(pid, 0)
            cgroup.remove()
            assert not any(os.path.exists(directory) for directory in cgroup.paths().values())

    def test_remove_and_kill_of_a_missing_cgroup_are_fine(self, cgroup: Cgroup) -> None:
        cgroup.remove()
        cgroup.kill(signal.SIGKILL)
        cgroup.kill(signal.SIGTERM)
        assert cgroup.pids() == []

    def test_remove_with_a_live_process_fails(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        spawn()
        with pytest.raises(OSError) as caught:
            cgroup.remove(timeout=0)
        assert caught.value.errno == errno.EBUSY

    @pytest.mark.row("RES-18")
    def test_stats_count_processor_time(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        spawn(lambda: sum(range(100_000)))
        assert cgroup.stats()["cpu"]["usage_ns"] > 0

    @pytest.mark.row("RES-16")
    def test_only_the_allowed_devices_open(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        rules = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"},
        ]
        cgroup.apply({"devices": rules})

        def refused(path: str, flags: int) -> bool:
            try:
                os.close(os.open(path, flags))
            except PermissionError:
                return True
            return False

        def check() -> None:
            assert not refused("/dev/null", os.O_RDWR)
            assert not refused("/dev/zero", os.O_RDONLY)
            assert refused("/dev/zero", os.O_RDWR)
            assert refused("/dev/full", os.O_RDONLY)

        assert _exit_status(spawn(check, stay=False)) == 0
        cgroup.apply({"devices": [{"allow": True, "access": "rwm"}]})
        assert _exit_status(spawn(lambda: os.open("/dev/full", os.O_RDONLY), stay=False)) == 0

    def test_a_huge_page_limit_holds_or_names_what_is_missing(self, cgroup: Cgroup) -> None:
        cgroup.create()
        try:
            cgroup.apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
        except CgroupError as exc:
            assert exc.errno == errno.EOPNOTSUPP
            assert "huge" in str(exc)


@pytest.mark.skipif(layout().version != 1, reason="needs cgroup version 1")
class TestVersion1(CgroupContract):
    def open(self, path: str) -> Cgroup:
        return CgroupV1(path, layout().controllers)

    def value(self, cgroup: Cgroup, controller: str, file: str) -> str:
        with open(f"{cgroup.paths()[controller]}/{file}") as handle:
            return handle.read().strip()

    @pytest.mark.row("RES-02", "RES-03", "RES-05")
    def test_processor_limits_reach_the_kernel(self, cgroup: Cgroup) -> None:
        cgroup.create()
        cgroup.apply(
            {"cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0", "burst": 1000}}
        )
        assert self.value(cgroup, "cpu", "cpu.shares") == "512"
        assert self.value(cgroup, "cpu", "cpu.cfs_quota_us") == "50000"
        assert self.value(cgroup, "cpu", "cpu.cfs_burst_us") == "1000"
        assert self.value(cgroup, "cpuset", "cpuset.cpus") == "0"
        cgroup.apply({"cpu": {"quota": 1000, "period": 1000, "burst": 0}})
        assert self.value(cgroup, "cpu", "cpu.cfs_period_us") == "1000"

    def test_shares_out_of_range_are_an_error(self, cgroup: Cgroup) -> None:
        cgroup.create()
        with pytest.raises(CgroupError, match="minimum allowed cpu-shares is 2"):
            cgroup.apply({"cpu": {"shares": 1}})

    def test_processors_that_do_not_exist_are_an_error_that_names_the_file(self, cgroup: Cgroup) -> None:
        cgroup.create()
        with pytest.raises(CgroupError, match=r"cpu\.cpus: write '4095' to /.*cpuset\.cpus"):
            cgroup.apply({"cpu": {"cpus": "4095"}})

    @pytest.mark.row("RES-07", "RES-09")
    @pytest.mark.parametrize("steps", [[(100, 200), (300, 600), (100, 100), (50, 400)], [(100, -1), (200, 300)]])
    def test_memory_and_swap_move_up_and_down_together(self, cgroup: Cgroup, steps: list[tuple[int, int]]) -> None:
        cgroup.create()
        for memory, swap in steps:
            cgroup.apply({"memory": {"limit": memory << 20, "swap": swap << 20 if swap > 0 else -1}})
            assert self.value(cgroup, "memory", "memory.limit_in_bytes") == str(memory << 20)
            actual = int(self.value(cgroup, "memory", "memory.memsw.limit_in_bytes"))
            assert actual == swap << 20 if swap > 0 else actual > 1 << 60
        cgroup.apply({"memory": {"limit": -1}})
        assert int(self.value(cgroup, "memory", "memory.limit_in_bytes")) > 1 << 60

    @pytest.mark.row("RES-11")
    def test_softer_memory_settings_reach_the_kernel(self, cgroup: Cgroup) -> None:
        cgroup.create()
        cgroup.apply({"memory": {"reservation": 50 << 20, "swappiness": 10, "disableOOMKiller": True}})
        assert self.value(cgroup, "memory", "memory.soft_limit_in_bytes") == str(50 << 20)
        assert self.value(cgroup, "memory", "memory.swappiness") == "10"
        assert self.value(cgroup, "memory", "memory.oom_control").startswith("oom_kill_disable 1")

    def test_a_memory_limit_below_the_usage_says_how_much_is_used(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        spawn(lambda: bytearray(b"x") * (1 << 20))
        if int(self.value(cgroup, "memory", "memory.usage_in_bytes")) <= 4096:
            pytest.skip("the kernel charges nothing for a small process")
        with pytest.raises(CgroupError, match=r"current usage: \d+ bytes"):
            cgroup.apply({"memory": {"limit": 4096}})

    @pytest.mark.row("RES-13")
    def test_a_fork_beyond_the_limit_fails(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        cgroup.apply({"pids": {"limit": 1}})

        def work() -> None:
            try:
                if os.fork() == 0:
                    os._exit(0)
            except BlockingIOError:
                return
            raise AssertionError

        assert _exit_status(spawn(work, stay=False)) == 0
        cgroup.apply({"pids": {"limit": -1}})
        assert cgroup.stats()["pids"]["limit"] is None

    @pytest.mark.row("RES-10")
    def test_a_process_killed_for_want_of_memory_is_counted_and_notified(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        cgroup.apply({"memory": {"limit": 16 << 20, "swap": 16 << 20}})
        fd, events = cgroup.oom_notifier()
        try:
            assert not cgroup.oom_killed()
            pid = spawn(lambda: bytearray(b"x") * (64 << 20), stay=False)
            assert _exit_status(pid) == -signal.SIGKILL
            assert cgroup.oom_killed()
            poll = select.poll()
            poll.register(fd, events)
            assert poll.poll(5000)
        finally:
            os.close(fd)

    @pytest.mark.row("RES-12")
    def test_block_device_throttles_reach_the_kernel(self, cgroup: Cgroup) -> None:
        device = os.stat("/").st_dev
        if os.major(device) == 0:
            pytest.skip("the root file system has no block device")
        cgroup.create()
        entry = {"major": os.major(device), "minor": os.minor(device) & ~0xF, "rate": 1 << 20}
        try:
            cgroup.apply({"blockIO": {"throttleReadBpsDevice": [entry], "throttleWriteIOPSDevice": [entry]}})
        except CgroupError as exc:
            assert exc.errno == errno.ENODEV  # the number is not a whole disk here
            return
        assert self.value(cgroup, "blkio", "blkio.throttle.read_bps_device").endswith(f" {1 << 20}")


needs_controllers = pytest.mark.skipif(layout().version != 2, reason="needs the controllers in cgroup version 2")


@pytest.mark.skipif(layout().unified is None, reason="needs a cgroup2 mount")
class TestVersion2(CgroupContract):
    def open(self, path: str) -> Cgroup:
        unified = layout().unified
        assert unified is not None
        return CgroupV2(path, unified)

    def make_inner(self, cgroup: Cgroup) -> Cgroup:
        # A plain directory: with controllers enabled for it the outer cgroup could hold no process of its own.
        inner = self.open(cgroup.path + "/inner")
        os.mkdir(inner.paths()[""])
        return inner

    def value(self, cgroup: Cgroup, file: str) -> str:
        with open(f"{cgroup.paths()['']}/{file}") as handle:
            return handle.read().strip()

    @needs_controllers
    @pytest.mark.row("RES-02", "RES-03", "RES-05")
    def test_processor_limits_reach_the_kernel(self, cgroup: Cgroup) -> None:
        cgroup.create()
        limits = {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0", "burst": 1000}
        cgroup.apply({"cpu": limits})
        files = ("cpu.weight", "cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems")
        assert [self.value(cgroup, file) for file in files] == ["59", "50000 100000", "1000", "0", "0"]
        cgroup.apply({"cpu": {"quota": 1000, "period": 1000, "burst": 0}})
        assert self.value(cgroup, "cpu.max") == "1000 1000"
        cgroup.apply({"cpu": {"quota": -1}})
        assert self.value(cgroup, "cpu.max") == "max 1000"

    @needs_controllers
    def test_processors_that_do_not_exist_are_an_error_that_names_the_file(self, cgroup: Cgroup) -> None:
        cgroup.create()
        with pytest.raises(CgroupError, match=r"cpu\.cpus: write '4095' to /.*cpuset\.cpus"):
            cgroup.apply({"cpu": {"cpus": "4095"}})

    @needs_controllers
    @pytest.mark.row("RES-07", "RES-09", "RES-11")
    def test_memory_and_what_is_left_for_swap_reach_the_kernel(self, cgroup: Cgroup) -> None:
        cgroup.create()
        for memory, swap in [(100, 200), (300, 600), (100, 100), (50, 400)]:
            cgroup.apply({"memory": {"limit": memory << 20, "swap": swap << 20, "reservation": 32 << 20}})
            files = ("memory.max", "memory.swap.max", "memory.low")
            assert [int(self.value(cgroup, file)) >> 20 for file in files] == [memory, swap - memory, 32]
        cgroup.apply({"memory": {"limit": -1}})
        assert (self.value(cgroup, "memory.max"), self.value(cgroup, "memory.swap.max")) == ("max", "max")

    @needs_controllers
    @pytest.mark.row("RES-13")
    def test_a_fork_beyond_the_limit_fails(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        cgroup.apply({"pids": {"limit": 1}})

        def work() -> None:
            try:
                if os.fork() == 0:
                    os._exit(0)
            except BlockingIOError:
                return
            raise AssertionError

        assert _exit_status(spawn(work, stay=False)) == 0
        cgroup.apply({"pids": {"limit": -1}})
        assert cgroup.stats()["pids"]["limit"] is None

    @needs_controllers
    @pytest.mark.row("RES-10")
    def test_a_process_killed_for_want_of_memory_is_counted_and_notified(self, cgroup: Cgroup, spawn: Spawn) -> None:
        cgroup.create()
        cgroup.apply({"memory": {"limit": 16 << 20, "swap": 16 << 20}})
        fd, events = cgroup.oom_notifier()
        try:
            assert not cgroup.oom_killed()
            pid = spawn(lambda: bytearray(b"x") * (64 << 20), stay=False)
            assert _exit_status(pid) == -signal.SIGKILL
            assert cgroup.oom_killed()
            poll = select.poll()
            poll.register(fd, events)
            assert poll.poll(5000)
        finally:
            os.close(fd)

    @needs_controllers
    @pytest.mark.row("RES-12")
    def test_block_device_throttles_reach_the_kernel_and_go_away(self, cgroup: Cgroup) -> None:
        cgroup.create()
        entry = {"major": 7, "minor": 0, "rate": 1 << 20}
        try:
            cgroup.apply({"blockIO": {"throttleReadBpsDevice": [entry], "throttleWriteIOPSDevice": [entry]}})
        except CgroupError as exc:
            assert exc.errno == errno.ENODEV  # no loop device here
            return
        assert self.value(cgroup, "io.max") == f"7:0 rbps={1 << 20} wbps=max riops=max wiops={1 << 20}"
        gone = entry | {"rate": 0}
        cgroup.apply({"blockIO": {"throttleReadBpsDevice": [gone], "throttleWriteIOPSDevice": [gone]}})
        assert self.value(cgroup, "io.max") == ""

    @needs_controllers
    @pytest.mark.parametrize(("section", "key"), [("memory", "swappiness"), ("cpu", "realtimeRuntime")])
    def test_what_version_1_alone_has_is_refused(self, cgroup: Cgroup, section: str, key: str) -> None:
        cgroup.create()
        with pytest.raises(CgroupError, match="cgroup v2 does not support it"):
            cgroup.apply({section: {key: 10}})

    @needs_controllers
    @pytest.mark.row("RES-19")
    def test_a_control_file_of_the_kernel_can_be_set_by_name(self, cgroup: Cgroup) -> None:
        cgroup.create()
        cgroup.apply({"unified": {"memory.high": "1048576"}})
        assert self.value(cgroup, "memory.high") == "1048576"
        with pytest.raises(CgroupError, match="is not the name of a control file"):
            cgroup.apply({"unified": {"../memory.high": "1"}})
