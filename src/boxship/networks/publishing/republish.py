"""Published ports of a container that runs: some end, some begin, and the rest notices nothing.

What a change has taken or given up it can put back: :meth:`PortChange.undo` restores host ports, firewall and proxy. A container
that ended meanwhile has lost all of its ports; then nothing is put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from boxship.networks.host import Host
from boxship.networks.models import PublishedPort, Sandbox
from boxship.networks.publishing import publish


class PortChange:
    """One change, carried out when it is made; ``sandbox`` is the container's network afterwards."""

    def __init__(
        self,
        before: Sandbox,
        added: Sequence[PublishedPort],
        removed: Sequence[PublishedPort],
        *,
        host: Host,
        attached: Callable[[Sandbox, Sandbox], bool],
    ) -> None:
        """``attached(old, new)`` puts the new document in place of the old, False when the container has ended.

        Made by :func:`change`, with the ports taken already. Raises OSError with firewall and ports as before.
        """
        self.before = before
        self.added, self._removed = added, removed
        self._host = host
        self._attached = attached
        kept = [port for port in before.ports if port not in removed]
        self.sandbox = Sandbox(
            id=before.id, key=before.key, name=before.name, endpoints=before.endpoints, ports=[*kept, *added]
        )
        try:
            self._republish(removed, added)
        except OSError:
            self._return_ports()
            raise
        self._attached(before, self.sandbox)

    def undo(self) -> None:
        """Publish again what was published before; raises OSError when the firewall refuses."""
        if self._attached(self.sandbox, self.before):
            self._return_ports()
            self._republish(self.added, self._removed)

    def _return_ports(self) -> None:
        for port in self.added:
            self._host.ports.give_back(port)
        for port in self._removed:
            self._host.ports.adopt(port)

    def _republish(self, ending: Sequence[PublishedPort], beginning: Sequence[PublishedPort]) -> None:
        """Change firewall and proxy; a port may end at one place and begin at another."""
        self._host.unpublish(ending, drop=False)
        try:
            self._host.publish(beginning)
        except OSError:
            with contextlib.suppress(OSError):
                self._host.publish(ending)
            raise


def change(
    sandbox: Sandbox,
    claims: Sequence[publish.Claim],
    removed: Sequence[PublishedPort],
    *,
    addresses: tuple[str, str],
    host: Host,
    crossing: bool,
    attached: Callable[[Sandbox, Sandbox], bool],
) -> PortChange:
    """End ``removed`` ports of ``sandbox`` and publish what ``claims`` ask for, at these IPv4 and IPv6 addresses of it.

    Raises PortTaken, InvalidInput, OSError with nothing changed.
    """
    added: list[PublishedPort] = []
    with contextlib.ExitStack() as undo:
        for port in removed:
            host.ports.give_back(port)
            undo.callback(host.ports.adopt, port)
        for claim in claims:
            for port in host.ports.take(claim, claim.targets(*addresses, crossing=crossing)):
                undo.callback(host.ports.give_back, port)
                added.append(port)
        undo.pop_all()
    return PortChange(sandbox, added, removed, host=host, attached=attached)
