"""What a shim that was killed leaves on the host: its container's processes, cgroup and mounts."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from typing import Any

from boxship.linux import mount, pidfd
from boxship.linux.cgroup import open_cgroup

log = logging.getLogger(__name__)


def clear(record: dict[str, Any]) -> None:
    """Remove what the ``state.json`` of a shim names; blocking, idempotent, logs what resists.

    The container's init dies with its shim; this waits for that by killing what is left in the cgroup.
    """
    _kill(int(record.get("pid") or 0), int(record.get("pid_start_time") or 0))
    try:
        cgroup = open_cgroup(str(record["cgroup"]))
        cgroup.kill(signal.SIGKILL)
        cgroup.remove()
    except OSError as exc:
        log.warning("the cgroup %s could not be removed: %s", record.get("cgroup"), exc)
    for target in (record["rootfs"], *record.get("trees", ())):
        try:
            mount.umount2(str(target), mount.MNT_DETACH)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOENT):
                log.warning("%s could not be unmounted: %s", target, exc)


def _kill(pid: int, start_time: int) -> None:
    """Kill the process if it is still the one that the record means."""
    if pid <= 0:
        return
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if pidfd.start_time(pid) == start_time:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
