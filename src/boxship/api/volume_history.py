"""Routes of our own: what was in a volume earlier, archives of volumes, changes to them."""

from __future__ import annotations

from aiohttp import web

from boxship.api import answers
from boxship.api.backend import VolumeHistory
from boxship.api.call import Call
from boxship.api.images import upload
from boxship.api.router import Kind, Level, Route
from boxship.spec.boxship.volume_history import NewName, VolumeUpdate


class VolumeHistoryRoutes:
    """Handlers over a ``VolumeHistory`` backend."""

    def __init__(self, history: VolumeHistory) -> None:
        self._history = history

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        kind, volume = Kind.VOLUME, "/boxship/volumes/{name}"
        return [
            Route("GET", f"{volume}/snapshots", self.list, Level.READ, kind),
            Route("POST", f"{volume}/snapshots", self.take, Level.ADMIN, kind),
            Route("DELETE", f"{volume}/snapshots/{{snapshot}}", self.remove, Level.ADMIN, kind),
            Route("GET", f"{volume}/snapshots/{{snapshot}}/diff", self.differences, Level.READ, kind),
            Route("POST", f"{volume}/snapshots/{{snapshot}}/restore", self.restore, Level.ADMIN, kind),
            Route("GET", f"{volume}/snapshots/{{snapshot}}/archive", self.backup, Level.READ, kind),
            Route("POST", f"{volume}/clone", self.clone, Level.ADMIN, kind),
            Route("POST", f"{volume}/rename", self.rename, Level.ADMIN, kind),
            Route("GET", f"{volume}/archive", self.export, Level.ADMIN, kind),
            Route("PUT", f"{volume}/archive", self.load, Level.ADMIN, kind),
            Route("POST", f"{volume}/update", self.update, Level.ADMIN, kind),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /boxship/volumes/{name}/snapshots."""
        return answers.document(await self._history.list(call.params["name"]))

    async def take(self, call: Call) -> web.StreamResponse:
        """POST /boxship/volumes/{name}/snapshots."""
        wanted = await call.json(NewName)
        return answers.document(await self._history.take(call.params["name"], wanted.name), status=201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /boxship/volumes/{name}/snapshots/{snapshot}."""
        await self._history.remove(call.params["name"], call.params["snapshot"])
        return answers.nothing()

    async def differences(self, call: Call) -> web.StreamResponse:
        """GET /boxship/volumes/{name}/snapshots/{snapshot}/diff."""
        return answers.document(await self._history.differences(call.params["name"], call.params["snapshot"]))

    async def restore(self, call: Call) -> web.StreamResponse:
        """POST /boxship/volumes/{name}/snapshots/{snapshot}/restore."""
        await self._history.restore(call.params["name"], call.params["snapshot"])
        return answers.nothing()

    async def backup(self, call: Call) -> web.StreamResponse:
        """GET /boxship/volumes/{name}/snapshots/{snapshot}/archive."""
        pieces = await self._history.backup(call.params["name"], call.params["snapshot"])
        return await answers.stream(call, "application/x-tar", pieces)

    async def export(self, call: Call) -> web.StreamResponse:
        """GET /boxship/volumes/{name}/archive."""
        return await answers.stream(call, "application/x-tar", await self._history.export(call.params["name"]))

    async def load(self, call: Call) -> web.StreamResponse:
        """PUT /boxship/volumes/{name}/archive."""
        return answers.document(await self._history.load(call.params["name"], upload(call)), status=201)

    async def update(self, call: Call) -> web.StreamResponse:
        """POST /boxship/volumes/{name}/update."""
        return answers.document(await self._history.update(call.params["name"], await call.json(VolumeUpdate)))

    async def clone(self, call: Call) -> web.StreamResponse:
        """POST /boxship/volumes/{name}/clone."""
        wanted = await call.json(NewName)
        return answers.document(await self._history.clone(call.params["name"], wanted.name), status=201)

    async def rename(self, call: Call) -> web.StreamResponse:
        """POST /boxship/volumes/{name}/rename."""
        wanted = await call.json(NewName)
        return answers.document(await self._history.rename(call.params["name"], wanted.name))
