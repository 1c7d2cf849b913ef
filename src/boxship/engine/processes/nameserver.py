"""The daemon's end of the nameserver: all it has to know, told as it changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from boxship.base.errors import SystemFailure
from boxship.engine.processes.resident import Link, Resident
from boxship.networks.names import EndpointNames, Resolver

log = logging.getLogger(__name__)


class Nameserver:
    """A :class:`boxship.networks.names.NameTable` whose answers come from a process that outlives this one.

    Until :meth:`close` one runs while there are sandboxes.
    """

    def __init__(self, directory: str) -> None:
        """``directory`` is where the nameserver of this engine has its control socket."""
        self._resolvers: dict[str, Resolver] = {}
        self._endpoints: dict[str, EndpointNames] = {}
        self._process = Resident(
            "nameserver", "boxship.nameserver", directory, sync=self._sync, needed=lambda: bool(self._resolvers)
        )

    async def start(self, resolvers: Sequence[Resolver], endpoints: Sequence[EndpointNames]) -> None:
        """Say all there is; a nameserver of an earlier daemon is taken over, one is started if there are sandboxes."""
        self._resolvers = {resolver.sandbox_id: resolver for resolver in resolvers}
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in endpoints}
        await self._process.start()

    async def attach(self, resolver: Resolver) -> None:
        """Have names answered in a sandbox, or change what is answered; raises SystemFailure with nothing left."""
        self._resolvers[resolver.sandbox_id] = resolver
        try:
            answer = await self._process.ask("attach", {"resolver": msgspec.to_builtins(resolver)})
            if not answer.get("ok"):
                raise SystemFailure(f"failed to start the resolver of a sandbox: {answer.get('error')}")
        except BaseException:
            self._resolvers.pop(resolver.sandbox_id, None)
            self._process.tell("detach", {"sandbox_id": resolver.sandbox_id})
            raise

    async def detach(self, sandbox_id: str) -> None:
        """Free what the nameserver holds of a sandbox; an unknown one is no error."""
        if self._resolvers.pop(sandbox_id, None) is not None:
            await self._process.ask_if_there("detach", {"sandbox_id": sandbox_id})

    def publish(self, endpoint: EndpointNames) -> None:
        """Add an endpoint's names, or replace those of the same id."""
        self._endpoints[endpoint.endpoint_id] = endpoint
        self._process.tell("publish", {"endpoint": msgspec.to_builtins(endpoint)})

    def withdraw(self, endpoint_id: str) -> None:
        """Take an endpoint's names away; unknown ones are no error."""
        if self._endpoints.pop(endpoint_id, None) is not None:
            self._process.tell("withdraw", {"endpoint_id": endpoint_id})

    async def close(self, *, stop: bool) -> None:
        """Let go of the nameserver; ``stop`` ends it, else it goes on answering."""
        await self._process.close(stop=stop)

    async def status(self) -> dict[str, Any]:
        """Return the nameserver's counts; raises SystemFailure."""
        return await self._process.ask("status", {})

    async def _sync(self, link: Link) -> None:
        answer = await link.ask(
            "sync",
            {
                "resolvers": [msgspec.to_builtins(resolver) for resolver in self._resolvers.values()],
                "endpoints": [msgspec.to_builtins(endpoint) for endpoint in self._endpoints.values()],
            },
        )
        if not answer.get("ok"):
            raise ConnectionError(str(answer.get("error")))
        for id, error in answer["failed"].items():
            log.error("names are not resolved in sandbox %s: %s", id, error)
