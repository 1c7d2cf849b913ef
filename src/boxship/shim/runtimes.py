"""What a shim asks of the runtime that runs its container, and the choice between the two there are."""

from __future__ import annotations

from boxship.shim.external import ExternalRuntime
from boxship.shim.native import NativeRuntime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from boxship.shim.started import Started

    class Runtime(Protocol):
        """One container on one runtime. All but ``delete`` raise RuntimeFailure or OSError and leave no process then."""

        def start(self, spec: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
            """Start the init; blocks until its program runs. Called in the starter; the init is the shim's child."""

        def restore(
            self, spec: dict[str, Any], stdio: tuple[int, int, int], request: dict[str, Any], images: int, control: int
        ) -> Started:
            """Bring back the init and all else from a checkpoint instead, as :meth:`start` would have started it.

            ``request`` is ``checkpoint`` of the start document, ``images`` the directory of the checkpoint; the end of the
            connection ``control`` calls it off.
            """

        def exec(self, init: Started, process: dict[str, Any], stdio: tuple[int, int, int]) -> Started:
            """Start another process beside ``init``; blocks until its program runs. Called in a helper process."""

        def kill(self, init: Started, number: int, everything: bool) -> None:
            """Signal ``init``, or all processes of the container. Called in a helper process if ``kill_blocks``."""

        @property
        def kill_blocks(self) -> bool:
            """Whether ``kill`` runs a program."""

        def delete(self) -> None:
            """Remove what the runtime keeps of a container that has ended; blocks, never raises."""


def choose(facts: dict[str, Any]) -> Runtime:
    """Return the runtime that the start document asked for; ``facts`` are those of :mod:`boxship.shim.handover`."""
    return ExternalRuntime(facts) if facts["runtime"] else NativeRuntime(facts)
