"""Reading one run of a container: which files stay open, and how time is counted."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from boxship.engine.observation.meters import Meter, ProcessorTime
from boxship.linux.cgroup_base import ControlFiles
from boxship.linux.cgroup_v2 import CgroupV2


def test_processor_time_goes_on_between_the_ticks_of_the_kernel() -> None:
    time = ProcessorTime()
    first, online = time.read()
    second, _ = time.read()
    time.refresh()
    third, _ = time.read()
    assert online == os.sysconf("SC_NPROCESSORS_ONLN")
    assert first < second < third


@pytest.mark.row("RES-18")
def test_a_meter_that_keeps_its_files_reads_them_anew_and_closes_them(tmp_path: Path) -> None:
    directory = tmp_path / "x"
    directory.mkdir()
    (directory / "memory.current").write_text("4096\n")
    (directory / "memory.max").write_text("max\n")
    gc.collect()  # what earlier tests left behind is not this one's
    before = len(os.listdir("/proc/self/fd"))
    meter = Meter(CgroupV2("/x", str(tmp_path)), os.getpid(), ProcessorTime(), keep=True)
    assert meter.read().cgroup["memory"]["usage"] == 4096
    opened = len(os.listdir("/proc/self/fd"))
    assert opened > before
    (directory / "memory.current").write_text("8192\n")
    sample = meter.read()
    assert sample.cgroup["memory"]["usage"] == 8192
    assert sample.networks is not None
    assert len(os.listdir("/proc/self/fd")) == opened
    meter.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_meter_without_room_for_files_opens_them_each_time(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/memory.current").write_text("4096\n")
    gc.collect()  # what earlier tests left behind is not this one's
    before = len(os.listdir("/proc/self/fd"))
    meter = Meter(CgroupV2("/x", str(tmp_path)), None, ProcessorTime(), keep=False)
    assert meter.read().cgroup["memory"]["usage"] == 4096
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_counters_of_a_process_that_ended_are_never_those_of_another(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)  # until it is killed
        os._exit(0)
    meter = Meter(CgroupV2("/x", str(tmp_path)), pid, ProcessorTime(), keep=True)
    meter.read()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        meter.read()
    meter.close()


def test_control_files_of_many_pages_are_read_whole(tmp_path: Path) -> None:
    text = "\n".join(f"name{number} {number}" for number in range(20000))
    (tmp_path / "long").write_text(text + "\n")
    files = ControlFiles()
    try:
        assert files.read(str(tmp_path / "long")) == text
        with pytest.raises(FileNotFoundError):
            files.read(str(tmp_path / "missing"))
        assert len(files) == 1
    finally:
        files.close()
