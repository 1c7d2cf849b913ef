"""Routes of the cluster tags on an engine that is in no cluster: clients look for the words of the refusal."""

from __future__ import annotations

from aiohttp import web

from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import Unavailable

PATHS = (
    "/swarm", "/nodes", "/nodes/{id}", "/services", "/services/{id}", "/tasks", "/tasks/{id}", "/secrets",
    "/secrets/{id}", "/configs", "/configs/{id}",
)  # fmt: skip


def routes() -> list[Route]:
    """Return the rows of the router's table."""
    return [Route("GET", path, refuse, Level.READ, Kind.SWARM) for path in PATHS]


async def refuse(call: Call) -> web.StreamResponse:  # noqa: ARG001
    """Answer 503 as an engine does that is no swarm manager."""
    raise not_a_manager()


def not_a_manager() -> Unavailable:
    """Return the refusal of what only a swarm manager does."""
    return Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
        "to connect this node to swarm and try again."
    )
