"""What is left of a container on the host when it has ended or could not be started, and its removal.

All functions take the *facts* of :mod:`boxship.shim.handover`. Whatever resists is noted in ``shim.err``; none of them
raises, and all may be called again.
"""

from __future__ import annotations

import os
import signal

from boxship.linux import cgroup as cgroups
from boxship.shim import records, rootfs, runtimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def kill(facts: dict[str, Any]) -> None:
    """Kill what still runs in the container's cgroup."""
    try:
        cgroup = cgroups.open_cgroup(facts["cgroup"])
        if cgroup.pids():
            cgroup.kill(signal.SIGKILL)
    except OSError:
        records.note_error(facts["state_dir"])


def remove(facts: dict[str, Any]) -> None:
    """Kill what still runs, and remove what the runtime keeps, the mounts and the cgroup."""
    kill(facts)
    runtimes.choose(facts).delete()
    for target in (facts["rootfs"], *facts["trees"]):
        rootfs.unmount(target)
    try:
        cgroups.open_cgroup(facts["cgroup"]).remove()
    except OSError:
        records.note_error(facts["state_dir"])


def undo(facts: dict[str, Any]) -> None:
    """Remove all that a start made which did not come to its end."""
    _end_children()
    remove(facts)
    try:
        records.forget(facts["state_dir"])
    except OSError:
        records.note_error(facts["state_dir"])


def _end_children() -> None:
    """Kill and reap the processes of the start, which may not have joined the cgroup yet."""
    try:
        while pids := _children():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)  # not reaped, so still the same
            for pid in pids:
                os.waitpid(pid, 0)  # what these leave behind is ours now, since we are a subreaper
    except FileNotFoundError:
        pass  # a kernel without CONFIG_PROC_CHILDREN: an init ends by itself when it finds its starter gone


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(pid) for pid in file.read().split()]
