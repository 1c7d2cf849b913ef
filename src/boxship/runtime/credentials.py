"""Giving up privileges: limits, capabilities, user and groups of the process to be."""

import errno
import os

from boxship.linux import capabilities, prctl, rlimits
from boxship.runtime.failure import RuntimeFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_UMASK = 0o022


def set_rlimits(pid: int, limits: "list[dict[str, Any]]") -> None:
    """Set the runtime-spec's ``process.rlimits`` for ``pid`` (0: the caller). Raises RuntimeFailure."""
    for limit in limits:
        number = rlimits.NUMBERS.get(limit["type"])
        if number is None:
            raise RuntimeFailure(f"invalid rlimit type: {limit['type']}")
        try:
            rlimits.set(pid, number, limit["soft"], limit["hard"])
        except OSError as exc:
            text = f"error setting rlimits for ready process: error setting rlimit type {number}: {reason(exc)}"
            raise RuntimeFailure(text) from exc


def set_oom_score_adj(proc_fd: int, score: int) -> None:
    """Set how eagerly the kernel kills the caller when memory runs out (-1000 to 1000). Raises RuntimeFailure."""
    fd = os.open("self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        if int(os.read(fd, 16)) != score:
            os.write(fd, str(score).encode())
    except OSError as exc:
        raise RuntimeFailure(f"failed to set /proc/self/oom_score_adj: {reason(exc)}") from exc
    finally:
        os.close(fd)


def own_stdio(uid: int) -> None:
    """Give stdin, stdout and stderr to ``uid``, so that it can open them by name; the null device stays as it is."""
    null = os.makedev(1, 3)
    for fd in range(3):
        try:
            status = os.fstat(fd)
            if status.st_rdev == null or status.st_uid == uid:
                continue
            os.fchown(fd, uid, -1)
        except OSError as exc:
            # Not open; a kind of file without owner; an owner outside the user namespace; a read-only filesystem.
            if exc.errno not in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


class Credentials:
    """What a process may be and do, read from the runtime-spec's ``process``."""

    __slots__ = ("ambient", "bounding", "effective", "gid", "groups", "inheritable", "permitted", "uid", "umask")

    def __init__(self, process: "dict[str, Any]") -> None:
        user = process.get("user") or {}
        umask = user.get("umask")
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        self.groups: list[int] = user.get("additionalGids") or []
        self.umask: int = DEFAULT_UMASK if umask is None else umask
        sets = process.get("capabilities") or {}
        self.bounding = capabilities.mask_of(sets.get("bounding") or [])
        self.effective = capabilities.mask_of(sets.get("effective") or [])
        self.permitted = capabilities.mask_of(sets.get("permitted") or [])
        self.inheritable = capabilities.mask_of(sets.get("inheritable") or [])
        self.ambient = capabilities.mask_of(sets.get("ambient") or [])

    def drop_bounding(self) -> None:
        """Reduce the bounding set; what the host lacks stays lacking."""
        for number in range(64):
            if not self.bounding >> number & 1:
                try:
                    prctl.capbset_drop(number)
                except OSError as exc:
                    if exc.errno == errno.EINVAL:  # past the last one this kernel knows
                        return
                    raise

    def change_user(self) -> None:
        """Become the user with its groups, keeping the permitted capabilities for :meth:`set_capabilities`."""
        os.umask(self.umask)
        prctl.set_keepcaps(True)
        try:
            os.setgroups(self.groups)
        except PermissionError:
            if self.groups or _setgroups_allowed():
                raise
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def set_capabilities(self) -> None:
        """Set the final sets, each cut to what this process still has."""
        prctl.set_keepcaps(False)
        held = capabilities.capget().permitted
        permitted = self.permitted & held
        inheritable = self.inheritable & held
        capabilities.capset(capabilities.Sets(self.effective & permitted, permitted, inheritable))
        prctl.cap_ambient_clear_all()
        ambient = self.ambient & permitted & inheritable
        number = 0
        while ambient >> number:
            if ambient >> number & 1:
                prctl.cap_ambient_raise(number)
            number += 1


def _setgroups_allowed() -> bool:
    """Tell whether this user namespace lets its members change groups; see user_namespaces(7)."""
    with open("/proc/self/setgroups", "rb") as file:
        return file.read().strip() == b"allow"
