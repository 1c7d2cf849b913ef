"""A container's cgroup as the kernel shows it to the host, of either version."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from boxship.linux import cgroup
from harness.waiting import until

PERIOD_NS = 100_000_000  # of --cpus
UNLIMITED = 0x7FFFFFFFFFFFF000  # bytes, as version 1 shows that memory has no limit
PATIENCE = 100.0  # seconds, when others want the processors too


class Processor(NamedTuple):
    """What the kernel counted: nanoseconds, periods of the quota, and those in which it was used up."""

    usage_ns: int
    periods: int
    throttled: int

    def since(self, before: Processor) -> Processor:
        """Return what came after ``before``."""
        return Processor(*(new - old for new, old in zip(self, before, strict=True)))


def directories(path: str) -> list[Path]:
    """Return the directories of the cgroup ``/boxship/...`` that exist, one in each hierarchy."""
    layout = cgroup.layout()
    roots = dict.fromkeys([*layout.controllers.values(), *([layout.unified] if layout.unified else [])])
    return [Path(root + path) for root in roots if os.path.isdir(root + path)]


def read(path: str, version_1: str, version_2: str) -> str:
    """Return the text of a control file: ``cpu/cpu.shares`` (controller and name) or ``cpu.weight``, as the host has it."""
    layout = cgroup.layout()
    if layout.version == 2:
        return Path(f"{layout.unified}{path}/{version_2}").read_text().strip()
    controller, _, name = version_1.partition("/")
    return Path(f"{layout.controllers[controller]}{path}/{name}").read_text().strip()


def number(path: str, version_1: str, version_2: str) -> int:
    """Return a control file's number."""
    return int(read(path, version_1, version_2))


def processor(path: str) -> Processor:
    """Return the processor time of the cgroup and below it.

    The usage is read last: it is never less than what the periods before it used.
    """
    table = dict(line.split() for line in read(path, "cpu/cpu.stat", "cpu.stat").splitlines())
    if cgroup.version() == 2:
        usage = int(table["usage_usec"]) * 1000
    else:
        usage = int(read(path, "cpuacct/cpuacct.usage", ""))
    return Processor(usage, int(table.get("nr_periods", 0)), int(table.get("nr_throttled", 0)))


def counted(path: str, enough: Callable[[Processor], bool], seconds: float = PATIENCE) -> Processor:
    """Return what a cgroup uses from now on until it is enough."""
    before = processor(path)
    until(lambda: enough(processor(path).since(before)), seconds)
    return processor(path).since(before)


def contended(paths: Sequence[str], usage_ns: int, seconds: float = PATIENCE) -> list[int]:
    """Return how many nanoseconds of processor time each cgroup gets until all together had ``usage_ns``."""
    before = [processor(path).usage_ns for path in paths]

    def used() -> list[int]:
        return [processor(path).usage_ns - then for path, then in zip(paths, before, strict=True)]

    until(lambda: sum(used()) >= usage_ns, seconds)
    return used()


def pids(path: str) -> list[int]:
    """Return the processes of the cgroup."""
    return cgroup.open_cgroup(path).pids()
