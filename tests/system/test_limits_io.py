"""Limits of block I/O by what they do to a loop device's reads and writes, and what is counted of them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from harness import cgroups, loop
from harness.engine import Engine

pytestmark = pytest.mark.system
KIB = 1 << 10


@pytest.fixture(scope="module")
def disk() -> Iterator[str]:
    with loop.device() as path:
        yield path


@pytest.mark.row("RES-12")
@pytest.mark.parametrize(
    ("flag", "limit", "amount", "block"),
    [
        ("--device-read-bps", "1mb", 1024 * KIB, 64 * KIB),
        ("--device-write-bps", "1mb", 1024 * KIB, 64 * KIB),
        ("--device-read-iops", "20", 20, 4 * KIB),
        ("--device-write-iops", "20", 20, 4 * KIB),
    ],
)
def test_a_device_is_not_read_or_written_faster_than_promised(
    flag: str, limit: str, amount: int, block: int, engine: Engine, disk: str
) -> None:
    """What is worth a second takes that, less the tenth of it that the kernel lends; what it takes beyond depends on the machine."""
    engine.docker("run", "-d", "--name", "it", "--device", disk, flag, f"{disk}:{limit}", "busybox", "sleep", "1000")
    count = amount // block if flag.endswith("bps") else amount
    of, way = (f"if={disk} of=/dev/null", "iflag") if "read" in flag else (f"if=/dev/zero of={disk}", "oflag")
    begun = time.monotonic()
    engine.docker("exec", "it", *f"dd {of} bs={block} count={count} {way}=direct".split())
    assert time.monotonic() - begun >= 0.75


@pytest.mark.row("RES-12", "RES-18", "MON-06")
def test_what_is_read_and_written_is_counted(engine: Engine, disk: str) -> None:
    script = (
        f"dd if={disk} of=/dev/null bs=64k count=16 iflag=direct; dd if=/dev/zero of={disk} bs=64k count=8 oflag=direct"
    )
    engine.docker("run", "-d", "--name", "it", "--device", disk, "busybox", "sleep", "1000")
    before = _counted(engine, disk)
    engine.docker("exec", "it", "sh", "-c", script)
    after = _counted(engine, disk)
    assert (after["read"] - before["read"], after["write"] - before["write"]) == (1024 * KIB, 512 * KIB)
    shown = engine.docker("stats", "--no-stream", "--format", "{{.BlockIO}}", "it").stdout
    assert re.fullmatch(r"\d\.\d+MB / 5\d+kB\n", shown)  # what else is read is the file system's of the image


def _counted(engine: Engine, disk: str) -> Counter[str]:
    counted = engine.api("GET", "/containers/it/stats?stream=0&one-shot=1")[1]["blkio_stats"]
    minor = int(disk.removeprefix("/dev/loop"))
    return Counter(
        {
            entry["op"].lower(): entry["value"]
            for entry in counted["io_service_bytes_recursive"] or []
            if (entry["major"], entry["minor"]) == (7, minor)
        }
    )


@pytest.mark.row("RES-12", "RUN-34")
def test_a_weight_is_set_where_the_kernel_has_one_and_changes_in_the_running_container(engine: Engine) -> None:
    made = engine.docker("run", "-d", "--name", "it", "--blkio-weight", "300", "busybox", "sleep", "1000")
    path = f"{engine.cgroup_parent}/{made.stdout.strip()}"
    if "Weight discarded" in made.stderr:
        assert engine.docker("inspect", "-f", "{{.HostConfig.BlkioWeight}}", "it").stdout == "0\n"
        return
    assert weight(path) == 300
    engine.docker("update", "--blkio-weight", "700", "it")
    assert weight(path) == 700


def weight(path: str) -> int:
    """Return the weight on Docker's scale of 10 to 1000, from the file that the kernel has."""
    for files in (("blkio/blkio.bfq.weight", "io.bfq.weight"), ("blkio/blkio.weight", "io.weight")):
        try:
            number = int(cgroups.read(path, *files).removeprefix("default "))
        except FileNotFoundError:
            continue
        return 10 + (number - 1) * 990 // 9999 if files[1] == "io.weight" and number > 1000 else number
    raise AssertionError("no weight at all")


@pytest.mark.row("RES-12")
def test_a_throttle_of_what_is_no_device_is_refused_and_leaves_nothing(engine: Engine) -> None:
    for path, text in (("/dev/nosuch", "no such file or directory"), ("/dev/null", "not a block device")):
        # Numbers of block and character devices are apart: 1:3 is /dev/null, and a RAM disk.
        words = ("--device-read-bps", f"{path}:1mb", "busybox", "true")
        refused = engine.docker("run", *words, check=False)
        assert refused.returncode in (125, 127)  # the docker CLI tells them apart by words of the message
        assert text in refused.stderr, refused.stderr
    ids = [row["Id"] for row in engine.api("GET", "/containers/json?all=1")[1]]
    assert [cgroups.directories(f"{engine.cgroup_parent}/{id}") for id in ids] == [[], []]
