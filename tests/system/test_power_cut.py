"""The power goes while an image comes in (F2): after the next start the image is whole or absent, and can be had again.

The filesystem is stopped without writing what it still had in memory, its journal neither, then the daemon is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxship.linux import mount
from harness import hostile
from harness.engine import Engine

pytestmark = pytest.mark.system

MIB = 1 << 20
EXT4_IOC_SHUTDOWN = 0x8004587D  # fs/ext4/ext4.h
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: what is not on disk yet is lost


class Machine:
    """An engine on a filesystem of its own, whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self.file, self.disk = directory / "image", directory / "disk"
        self.disk.mkdir()
        self.file.touch()
        os.truncate(self.file, 192 * MIB)
        made = subprocess.run(["mkfs.ext4", "-q", "-F", str(self.file)], check=False, capture_output=True)
        if made.returncode or not self.mount():
            pytest.skip("no ext4 on a loop device here")
        self.engine = Engine()
        self.engine.data_root.symlink_to(self.disk)
        self.engine.start()

    def mount(self) -> bool:
        return not subprocess.run(["mount", "-o", "loop", str(self.file), str(self.disk)], check=False).returncode

    def cut(self) -> None:
        """Lose what is not on disk, and start again."""
        fd = os.open(self.disk, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)
        self.engine.kill()
        subprocess.run(["umount", str(self.disk)], check=True)
        # A copy, since a mount that lives on in somebody's namespace would make mount(8) take the dead filesystem again.
        after = self.file.with_suffix(".after")
        subprocess.run(["cp", "--sparse=always", str(self.file), str(after)], check=True)
        self.file = after
        assert self.mount()
        self.engine.start()

    def close(self) -> None:
        try:
            self.engine.close()
        finally:
            mount.umount2(str(self.disk), mount.MNT_DETACH)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def archive() -> bytes:
    first = hostile.tar(hostile.busybox_without())
    second = hostile.tar([hostile.entry(f"file{n}", os.urandom(64 * 1024)) for n in range(100)])
    return hostile.archive({"config": {"Cmd": ["sh"]}}, [first, second], "cut")


def files(pattern: str, least: int) -> Callable[[Path], bool]:
    """Return whether so many files of that kind are there."""
    return lambda root: sum(1 for _ in root.glob(pattern)) >= least


MOMENTS = {
    "a layer arrives": files("content/ingest/*", 1),
    "a blob has its name": files("content/blobs/sha256/*", 1),
    "the second layer is unpacked": files("overlay2/*/diff/file50", 1),
    "both blobs have their names": files("content/blobs/sha256/*", 2),
    "the load has answered": lambda _: False,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_f2_an_image_is_whole_or_absent_after_a_power_cut(machine: Machine, moment: str) -> None:
    engine, data = machine.engine, archive()
    answers: list[str] = []

    def load() -> None:
        with contextlib.suppress(Exception):  # the daemon is killed under it
            answers.append(hostile.load(engine, data))

    loading = threading.Thread(target=load)
    loading.start()
    while loading.is_alive() and not MOMENTS[moment](machine.disk):
        pass
    machine.cut()
    loading.join(30)
    result = engine.boxship("system", "fsck", check=False)
    assert (result.returncode, result.stdout) == (0, "nothing is wrong\n")
    here = hostile.call(engine, "GET", "/images/cut/json")[0]
    if moment == "the load has answered":
        assert here == 200, answers
    if here == 200:
        assert hostile.run(engine, "cut", "sh", "-c", "ls / | grep -c file").text == "100\n"
    else:
        assert list((machine.disk / "content/blobs/sha256").iterdir()) == []
    assert "Loaded image: cut:latest" in hostile.load(engine, data)
    assert hostile.run(engine, "cut", "sh", "-c", "ls / | grep -c file").text == "100\n"
