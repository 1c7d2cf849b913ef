"""Routes of the tag Container, but for streams of its output (``api.output``)."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from boxship.api import answers, checkpoints, versions
from boxship.api.backend import Checkpoints, ContainerQuery, Containers
from boxship.api.call import Call
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput, NotFound
from boxship.http.server import while_connected
from boxship.spec.boxship.changes import ContainerChanges
from boxship.spec.docker.container import CreateRequest, Resources, RestartPolicy

CONDITIONS = ("not-running", "next-exit", "removed")


class UpdateRequest(Resources, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /containers/{id}/update."""

    restart_policy: RestartPolicy | None = None


class ContainerRoutes:
    """Handlers over a ``Containers`` backend; ``start`` also over a ``Checkpoints`` one."""

    def __init__(self, containers: Containers, saved: Checkpoints, *, experimental: bool = False) -> None:
        self._containers = containers
        self._saved = saved
        self._experimental = experimental

    def routes(self) -> list[Route]:
        """Return this tag's rows of the router's table."""
        kind = Kind.CONTAINER
        return [
            Route("GET", "/containers/json", self.list, Level.READ, kind),
            Route("POST", "/containers/create", self.create, Level.ADMIN, kind),
            Route("POST", "/containers/prune", self.prune, Level.ADMIN, kind),
            Route("GET", "/containers/{id}/json", self.inspect, Level.READ, kind),
            Route("GET", "/containers/{id}/top", self.top, Level.READ, kind),
            Route("GET", "/boxship/containers/{id}/why", self.why, Level.READ, kind),
            Route("GET", "/containers/{id}/changes", self.changes, Level.READ, kind),
            Route("POST", "/containers/{id}/start", self.start, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/stop", self.stop, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/restart", self.restart, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/kill", self.kill, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/pause", self.pause, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/unpause", self.unpause, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/wait", self.wait, Level.READ, kind),
            Route("POST", "/containers/{id}/resize", self.resize, Level.OPERATE, kind),
            Route("POST", "/containers/{id}/rename", self.rename, Level.ADMIN, kind),
            Route("POST", "/containers/{id}/update", self.update, Level.ADMIN, kind),
            Route("POST", "/boxship/containers/{id}/change", self.change, Level.ADMIN, kind),
            Route("DELETE", "/containers/{id}", self.remove, Level.ADMIN, kind),
            Route("DELETE", "/containers/{id}/{alias}", self.remove_link, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /containers/json."""
        found = await self._containers.list(
            ContainerQuery(
                all=call.flag("all"),
                limit=call.integer("limit") or 0,
                size=call.flag("size"),
                filters=call.filters(),
            )
        )
        return answers.document(versions.reshape("container-summary", call.version, found))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/create."""
        body = await call.json(CreateRequest)
        platform = call.text("platform") if call.version >= (1, 41) else ""
        created = await self._containers.create(
            call.text("name") or None, versions.adapt_create(call.version, body), platform or None
        )
        return answers.document(created, status=201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/json."""
        found = await self._containers.inspect(call.params["id"], size=call.flag("size"))
        return answers.document(versions.reshape("container", call.version, found))

    async def why(self, call: Call) -> web.StreamResponse:
        """GET /boxship/containers/{id}/why: what ended the last run, and what follows from that."""
        return answers.document(await self._containers.why(call.params["id"]))

    async def start(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/start."""
        length = call.request.content_length
        if call.request.body_exists and (length is None or length > 7):  # the shortest host configuration has 7 bytes
            raise InvalidInput(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        id, checkpoint = call.params["id"], checkpoints.asked_for(call, experimental=self._experimental)
        if checkpoint:
            started = await self._saved.restore(id, checkpoint, directory=call.text("checkpoint-dir"))
        else:
            started = await self._containers.start(id)
        return answers.nothing(204 if started else 304)

    async def stop(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/stop."""
        stopped = await self._containers.stop(call.params["id"], timeout=call.integer("t"), signal=_signal(call))
        return answers.nothing(204 if stopped else 304)

    async def restart(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/restart."""
        await self._containers.restart(call.params["id"], timeout=call.integer("t"), signal=_signal(call))
        return answers.nothing()

    async def kill(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/kill."""
        await self._containers.kill(call.params["id"], call.text("signal") or None)
        return answers.nothing()

    async def pause(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/pause."""
        await self._containers.pause(call.params["id"])
        return answers.nothing()

    async def unpause(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/unpause."""
        await self._containers.unpause(call.params["id"])
        return answers.nothing()

    async def wait(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/wait; the head goes out at once, so that the client knows it may start the container."""
        legacy = call.version < (1, 30)
        condition = "" if legacy else call.text("condition")
        if condition and condition not in CONDITIONS:
            raise InvalidInput(f'invalid condition: "{condition}"')
        ending = await self._containers.wait(call.params["id"], condition or "not-running")
        async with while_connected(call.request):
            if legacy:
                return answers.document({"StatusCode": (await ending).status_code})
            response = await answers.begin(call, "application/json")
            await response.write_eof(msgspec.json.encode(await ending) + b"\n")
        return response

    async def resize(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/resize."""
        height, width = size(call)
        await self._containers.resize(call.params["id"], height, width)
        return answers.nothing(200)

    async def rename(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/rename."""
        await self._containers.rename(call.params["id"], call.text("name"))
        return answers.nothing()

    async def update(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/update; only the fields that the client gave reach the backend."""
        body = await call.json(UpdateRequest)
        given: dict[str, Any] = msgspec.to_builtins(body)
        unset: dict[str, Any] = msgspec.to_builtins(UpdateRequest())
        changes = {name: value for name, value in given.items() if value != unset[name]}
        return answers.document({"Warnings": await self._containers.update(call.params["id"], changes)})

    async def change(self, call: Call) -> web.StreamResponse:
        """POST /boxship/containers/{id}/change."""
        return answers.document(await self._containers.change(call.params["id"], await call.json(ContainerChanges)))

    async def top(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/top."""
        return answers.document(await self._containers.top(call.params["id"], call.text("ps_args")))

    async def changes(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/changes; null when there are none, as Docker answers."""
        return answers.document(await self._containers.changes(call.params["id"]) or None)

    async def remove_link(self, call: Call) -> web.StreamResponse:
        """DELETE /containers/{id}/{alias}: the name of a link."""
        if not call.flag("link"):
            raise NotFound("page not found")
        ref = f"{call.params['id']}/{call.params['alias']}"
        await self._containers.remove(ref, volumes=False, force=False, link=True)
        return answers.nothing()

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /containers/{id}."""
        await self._containers.remove(
            call.params["id"], volumes=call.flag("v"), force=call.flag("force"), link=call.flag("link")
        )
        return answers.nothing()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /containers/prune."""
        return answers.document(await self._containers.prune(call.filters()))


def size(call: Call) -> tuple[int, int]:
    """Return height and width of a resize call. Raises InvalidInput."""
    found = []
    for name, field in (("height", "h"), ("width", "w")):
        value = call.text(field)
        if not value.isascii() or not value.isdecimal() or int(value[:11]) > 65535:
            raise InvalidInput(f'invalid resize {name} "{value}": invalid syntax')
        found.append(int(value))
    return found[0], found[1]


def _signal(call: Call) -> str | None:
    return call.text("signal") or None if call.version >= (1, 42) else None
