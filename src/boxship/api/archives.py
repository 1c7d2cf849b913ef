"""Routes that move files into and out of containers, and that make images of them."""

from __future__ import annotations

import base64

import msgspec
from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Archives, CommitOptions, Commits
from boxship.api.call import MAX_JSON, Call
from boxship.api.decode import decode
from boxship.api.images import upload
from boxship.api.query import parse_query
from boxship.api.router import Kind, Level, Route, parse_target
from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import ContainerConfig, PathStat

STAT_HEADER = "X-Docker-Container-Path-Stat"


class ArchiveRoutes:
    """Handlers over ``Archives`` and ``Commits`` backends."""

    def __init__(self, archives: Archives, commits: Commits) -> None:
        self._archives = archives
        self._commits = commits

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        kind = Kind.CONTAINER
        return [
            Route("HEAD", "/containers/{id}/archive", self.stat, Level.READ, kind),
            Route("GET", "/containers/{id}/archive", self.read, Level.READ, kind),
            Route("PUT", "/containers/{id}/archive", self.write, Level.ADMIN, kind),
            Route("POST", "/commit", self.commit, Level.ADMIN, kind),
        ]

    async def stat(self, call: Call) -> web.StreamResponse:
        """HEAD /containers/{id}/archive."""
        found = await self._archives.stat(call.params["id"], _path(call))
        return web.Response(headers=_header(found))

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/archive."""
        found = await self._archives.read(call.params["id"], _path(call))
        try:
            return await answers.stream(call, "application/x-tar", aiter(found), _header(found.stat))
        finally:
            await found.aclose()

    async def write(self, call: Call) -> web.StreamResponse:
        """PUT /containers/{id}/archive."""
        await self._archives.write(
            call.params["id"],
            _path(call),
            upload(call),
            keep_kinds=call.flag("noOverwriteDirNonDir"),
            own=call.flag("copyUIDGID"),
        )
        return answers.nothing(200)

    async def commit(self, call: Call) -> web.StreamResponse:
        """POST /commit; the body is a container configuration, or nothing."""
        body = await call.body(MAX_JSON)
        given = body.strip() not in (b"", b"null")
        id = await self._commits.commit(
            call.text("container"),
            CommitOptions(
                repository=call.text("repo"),
                tag=call.text("tag"),
                author=call.text("author"),
                comment=call.text("comment"),
                pause=call.flag("pause") if call.text("pause") else True,
                changes=call.query.get("changes", []),
                config=decode(body, ContainerConfig) if given else None,
            ),
        )
        return answers.document({"Id": id}, status=201)


def _path(call: Call) -> str:
    """Return the name of a file, which need not be UTF-8 (``os.fsdecode``). Raises InvalidInput."""
    fields = parse_query(parse_target(call.request.raw_path).query, errors="surrogateescape")
    path = fields.get("path", [""])[0]
    if not path:
        raise InvalidInput("bad parameter: path cannot be empty")
    return path


def _header(found: PathStat) -> dict[str, str]:
    return {STAT_HEADER: base64.b64encode(msgspec.json.encode(found)).decode()}
