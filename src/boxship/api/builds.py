"""Routes of builds: POST /build in Docker's words, /boxship/build with typed events, the cache."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from boxship.api import answers
from boxship.api.backend import Builds
from boxship.api.call import Call
from boxship.api.images import upload
from boxship.api.router import Kind, Level, Route
from boxship.base.errors import InvalidInput
from boxship.http.server import while_connected
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import Ulimit

SECRETS = "X-Boxship-Secrets"  # a header, since queries are logged


class BuildRoutes:
    """Handlers over a ``Builds`` backend."""

    def __init__(self, builds: Builds) -> None:
        self._builds = builds

    def routes(self) -> list[Route]:
        """Return these rows of the router's table."""
        return [
            Route("POST", "/build", self.build, Level.ADMIN, Kind.IMAGE),
            Route("POST", "/boxship/build", self.events, Level.ADMIN, Kind.IMAGE),
            Route("POST", "/boxship/build/stopped/{step}/shell", self.shell, Level.ADMIN, Kind.IMAGE),
            Route("POST", "/boxship/build/stopped/{step}/retry", self.retry, Level.ADMIN, Kind.IMAGE),
            Route("POST", "/boxship/build/stopped/{step}/abandon", self.abandon, Level.ADMIN, Kind.IMAGE),
            Route("GET", "/boxship/build/files", self.files, Level.READ, Kind.IMAGE),
            Route("POST", "/build/prune", self.prune, Level.ADMIN, Kind.SYSTEM),
        ]

    async def build(self, call: Call) -> web.StreamResponse:
        """POST /build."""
        options, auths = parse(call), call.request.headers.get("X-Registry-Config")
        return await _stream(call, self._builds.build(options, _body(call), auths))

    async def events(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build: as POST /build, with the events of docs/build.md, one a line."""
        options, auths = parse(call), call.request.headers.get("X-Registry-Config")
        options = msgspec.structs.replace(options, check=call.flag("check"), debug=call.flag("debug"))
        return await _stream(call, self._builds.events(options, _body(call), auths))

    async def shell(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build/stopped/{step}/shell, with ``h`` and ``w`` of the terminal."""
        height, width = call.integer("h") or 0, call.integer("w") or 0
        return answers.document({"Id": await self._builds.shell(call.params["step"], height, width)}, status=201)

    async def retry(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build/stopped/{step}/retry."""
        await self._builds.retry(call.params["step"])
        return answers.nothing()

    async def abandon(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build/stopped/{step}/abandon; with ``rm=1`` its container goes too."""
        await self._builds.abandon(call.params["step"], keep=not call.flag("rm"))
        return answers.nothing()

    async def files(self, call: Call) -> web.StreamResponse:
        """GET /boxship/build/files?image=...: all files of an image as a tar."""
        return await answers.stream(call, "application/x-tar", await self._builds.files(call.text("image")))

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /build/prune."""
        keep = call.integer("reserved-space") or call.integer("keep-storage") or 0
        return answers.document(
            await self._builds.prune(all=call.flag("all"), keep_storage=keep, filters=call.filters())
        )


def parse(call: Call) -> BuildOptions:
    """Return the query of a build. Raises InvalidInput."""
    if call.flag("squash"):
        raise InvalidInput("squash is only supported with experimental mode")
    return BuildOptions(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        tags=tuple(tag for tag in call.query.get("t", ()) if tag),
        remote="" if call.text("remote") == "client-session" else call.text("remote"),
        quiet=call.flag("q"),
        no_cache=call.flag("nocache"),
        no_cache_filter=tuple(_json(call, "nocachefilter", list[str], [])),
        cache_from=tuple(_json(call, "cachefrom", list[str], [])),
        pull=call.flag("pull"),
        rm=call.flag("rm", default=True),
        force_rm=call.flag("forcerm"),
        memory=call.integer("memory") or 0,
        memory_swap=call.integer("memswap") or 0,
        cpu_shares=call.integer("cpushares") or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        cpu_period=call.integer("cpuperiod") or 0,
        cpu_quota=call.integer("cpuquota") or 0,
        shm_size=call.integer("shmsize") or 0,
        ulimits=tuple(_json(call, "ulimits", list[Ulimit], [])),
        cgroup_parent=call.text("cgroupparent"),
        build_args=_json(call, "buildargs", dict[str, str | None], {}),
        labels=_json(call, "labels", dict[str, str], {}),
        network_mode=call.text("networkmode"),
        extra_hosts=tuple(host for field in call.query.get("extrahosts", ()) for host in field.split(",") if host),
        platform=call.text("platform"),
        target=call.text("target"),
        build_contexts=_json(call, "buildcontexts", dict[str, str], {}),
        secrets=_secrets(call.request.headers.get(SECRETS, "")),
        ssh=_json(call, "ssh", dict[str, str], {}),
    )


def _secrets(header: str) -> dict[str, bytes]:
    """Return what ``RUN --mount=type=secret`` may show: base64 of a JSON object, ids to values in base64."""
    if not header:
        return {}
    try:
        return msgspec.json.decode(b64decode(header, validate=True), type=dict[str, bytes])
    except (binascii.Error, msgspec.DecodeError, RecursionError) as exc:
        raise InvalidInput(f"the header {SECRETS} is not base64 of a JSON object") from exc


def _json(call: Call, name: str, model: type[Any], default: Any) -> Any:
    text = call.text(name)
    if not text or text == "null":
        return default
    try:
        return msgspec.json.decode(text, type=model)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidInput(f"error reading {name}: {exc}") from exc


def _body(call: Call) -> AsyncIterator[bytes]:
    return upload(call)


async def _stream(call: Call, messages: AsyncIterator[Mapping[str, Any]]) -> web.StreamResponse:
    """Send messages, one JSON object a line; the build is cancelled when its client leaves, also before the first."""
    try:
        async with while_connected(call.request):
            first = await anext(messages, None)
            response = await answers.begin(call, "application/json")
            if first is not None:
                await response.write(answers.line(first))
            async for message in messages:
                await response.write(answers.line(message))
            await response.write_eof()
    finally:
        await answers.close(messages)
    return response
