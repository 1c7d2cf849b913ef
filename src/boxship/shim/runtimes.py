"""What a shim asks of the runtime that runs its container, and the choice between the two there are."""

from __future__ import annotations

from boxship.shim.external import ExternalRuntime
from boxship.shim.native import NativeRuntime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from boxship.linux.cgroup_base import Cgroup
    from boxship.shim.started import Started

    class Runtime(Protocol):
        """One container on one runtime. All but ``delete`` raise RuntimeFailure or OSError and leave nothing then."""

        def start(self, stdio: tuple[int, int, int], prepare: Callable[[], None]) -> Started:
            """Call ``prepare``, which mounts the root filesystem, and start the init; blocks until its program runs."""

        def exec(self, process: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
            """Start another process in it; blocks until its program runs. Called in a helper process."""

        def kill(self, number: int, everything: bool) -> None:
            """Signal its init, or all its processes. Called in a helper process if ``kill_blocks``."""

        @property
        def kill_blocks(self) -> bool:
            """Whether ``kill`` runs a program."""

        def delete(self) -> None:
            """Remove what the runtime keeps of a container that has ended; blocks, never raises."""


def choose(start: dict[str, Any], cgroup: Cgroup) -> Runtime:
    """Return the runtime that the start document asks for. Raises OSError when its seccomp program cannot be read."""
    if start.get("runtime"):
        return ExternalRuntime(start, cgroup)
    return NativeRuntime(start, cgroup)
