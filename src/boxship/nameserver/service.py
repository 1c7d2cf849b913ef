"""The sandboxes that are answered in, and the wiring of everything that answers."""

from __future__ import annotations

import os

from boxship.nameserver import clients
from boxship.nameserver.forward import Forwarder, Vantage
from boxship.nameserver.resolver import Resolver
from boxship.nameserver.sandbox import Opener, Sandbox, Sockets
from boxship.nameserver.table import Table
from boxship.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from boxship.shim.loop import Loop

    Opened = Callable[[str], None]
    """Called with "" when a sandbox is answered in, else with the reason why not."""


class Service:
    """What boxshipd asked for, and what is there of it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._host = Vantage()
        self._names = Table()
        self._forwarder = Forwarder(loop)
        self._resolver = Resolver(self._names, self._forwarder)
        self._wanted: dict[str, Mapping[str, Any]] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._opening: dict[str, list[Opened]] = {}
        self._opener = Opener()
        loop.watch(self._opener.fileno(), READ, lambda _: self._take_opened())

    @property
    def empty(self) -> bool:
        """Whether there is nobody to answer to."""
        return not self._wanted

    def status(self) -> dict[str, int]:
        """Return counts for whoever wants to look inside."""
        return {
            "sandboxes": len(self._sandboxes),
            "endpoints": len(self._names),
            "queries": self._resolver.queries,
            "kept": self._resolver.kept,
            "upstream_sockets": self._forwarder.open_sockets,
        }

    def publish(self, endpoint: Mapping[str, Any]) -> None:
        self._names.publish(endpoint)

    def withdraw(self, endpoint_id: str) -> None:
        self._names.withdraw(endpoint_id)

    def attach(self, resolver: Mapping[str, Any], opened: Opened) -> None:
        """Answer in a sandbox, or change how; ``opened`` is called once, maybe before this returns."""
        id = str(resolver["sandbox_id"])
        sandbox = self._sandboxes.get(id)
        if sandbox is not None and sandbox.key == resolver["key"]:
            sandbox.configure(resolver, self._host)
            self._resolver.forget(sandbox)
            self._wanted[id] = resolver
            opened("")
            return
        self.detach(id)
        self._wanted[id] = resolver
        self._opening[id] = [opened]
        self._opener.open(resolver)

    def detach(self, sandbox_id: str) -> None:
        """Answer in a sandbox no more; an unknown one is no error."""
        self._wanted.pop(sandbox_id, None)
        for opened in self._opening.pop(sandbox_id, ()):
            opened("the sandbox was released")
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            self._leave(sandbox)

    def replace(
        self,
        resolvers: Sequence[Mapping[str, Any]],
        endpoints: Sequence[Mapping[str, Any]],
        done: Callable[[dict[str, str]], None],
    ) -> None:
        """Be in the state that the arguments describe; ``done`` gets the sandboxes that cannot be served, and why.

        A sandbox that is there already goes on without a break.
        """
        self._names.replace(endpoints)
        ids = {str(resolver["sandbox_id"]) for resolver in resolvers}
        for id in [id for id in self._wanted if id not in ids]:
            self.detach(id)
        failures: dict[str, str] = {}
        left = len(resolvers)
        if not left:
            done(failures)

        def noting(id: str) -> Opened:
            def opened(error: str) -> None:
                nonlocal left
                left -= 1
                if error:
                    failures[id] = error
                if not left:
                    done(failures)

            return opened

        for resolver in resolvers:
            self.attach(resolver, noting(str(resolver["sandbox_id"])))

    def close(self) -> None:
        """Leave all sandboxes."""
        for id in list(self._wanted):
            self.detach(id)

    def _take_opened(self) -> None:
        for resolver, result in self._opener.results():
            id = str(resolver["sandbox_id"])
            if self._wanted.get(id) is not resolver:
                if isinstance(result, Sockets):
                    result.close()  # released, or wanted in another place, since
                continue
            waiting = self._opening.pop(id, [])
            error = ""
            if isinstance(result, Sockets):
                self._serve(Sandbox(resolver, result, host=self._host, home=self._home))
            else:
                del self._wanted[id]
                error = result.strerror or str(result)
            for opened in waiting:
                opened(error)

    def _serve(self, sandbox: Sandbox) -> None:
        self._sandboxes[sandbox.id] = sandbox
        self._loop.watch(sandbox.udp.fileno(), READ, lambda _: clients.serve_datagrams(sandbox, self._resolver))
        self._loop.watch(sandbox.tcp.fileno(), READ, lambda _: clients.accept(sandbox, self._resolver, self._loop))

    def _leave(self, sandbox: Sandbox) -> None:
        self._loop.forget(sandbox.udp.fileno())
        self._loop.forget(sandbox.tcp.fileno())
        sandbox.open = False
        self._forwarder.leave(sandbox.vantage)
        self._resolver.forget(sandbox)
        sandbox.close()
