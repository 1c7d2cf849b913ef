"""Which namespaces a container gets: new ones, and existing ones joined by path."""

import os

from boxship.linux import namespaces
from boxship.runtime.failure import RuntimeFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Types of the runtime-spec in the order in which a privileged process joins them: the user namespace last, since the
# way into the others needs the privileges of the host's.
_FLAGS: dict[str, int] = {
    "cgroup": namespaces.CLONE_NEWCGROUP,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
    "network": namespaces.CLONE_NEWNET,
    "time": namespaces.CLONE_NEWTIME,
    "pid": namespaces.CLONE_NEWPID,
    "mount": namespaces.CLONE_NEWNS,
    "user": namespaces.CLONE_NEWUSER,
}
_UNSUPPORTED = "namespace {} does not exist"


class NamespacePlan:
    """The namespaces of ``linux.namespaces``; owns the descriptors of those that are joined."""

    __slots__ = ("_fds", "names", "new")

    def __init__(self, entries: "list[dict[str, Any]]") -> None:
        """Open what is to be joined. Raises RuntimeFailure."""
        self._fds: dict[str, int] = {}
        self.new = 0  # mask of CLONE_NEW*
        self.names = frozenset(entry["type"] for entry in entries)  # new or joined
        try:
            for entry in entries:
                self._add(entry["type"], entry.get("path") or "")
        except BaseException:
            self.close()
            raise

    def _add(self, name: str, path: str) -> None:
        flag = _FLAGS.get(name)
        if flag is None:
            raise RuntimeFailure(_UNSUPPORTED.format(f'"{name}"'))
        if name in self._fds or self.new & flag:
            raise RuntimeFailure(f'malformed spec: namespace "{name}" listed more than once')
        if not path:
            self.new |= flag
            return
        try:
            self._fds[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise RuntimeFailure(f"lstat {path}: {reason(exc)}") from exc

    def joins(self, name: str) -> bool:
        """Tell whether namespace ``name`` is an existing one."""
        return name in self._fds

    def join(self, *skip: str) -> None:
        """Enter all existing namespaces except those called ``skip``."""
        for name, flag in _FLAGS.items():
            if name in self._fds and name not in skip:
                self.join_one(name, flag)

    def join_one(self, name: str, flag: int) -> None:
        """Enter (for ``pid`` and ``time``: have children enter) the existing namespace ``name``."""
        try:
            namespaces.setns(self._fds[name], flag)
        except OSError as exc:
            raise RuntimeFailure(f"failed to join {name} namespace: {reason(exc)}") from exc

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
