"""Routes of builds: POST /build in Docker's words, /boxship/build with typed events, the cache."""

from __future__ import annotations

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
from boxship.spec.boxship.build_cache import CacheExport, CacheImport, CacheWanted
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import Ulimit

SECRETS = "X-Boxship-Secrets"  # how many bytes of the body are the secrets, which come before the context

_SECRETS_LARGEST = 16 * 1024 * 1024  # bytes, of all together
_SECRET_LARGEST = 500 * 1024  # bytes of one


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
            Route("POST", "/boxship/build/cache", self.cache, Level.ADMIN, Kind.IMAGE),
            Route("GET", "/boxship/build/files", self.files, Level.READ, Kind.IMAGE),
            Route("GET", "/boxship/build/compare", self.compare, Level.READ, Kind.IMAGE),
            Route("GET", "/boxship/images/{name*}/sbom", self.sbom, Level.READ, Kind.IMAGE),
            Route("POST", "/build/prune", self.prune, Level.ADMIN, Kind.SYSTEM),
        ]

    async def build(self, call: Call) -> web.StreamResponse:
        """POST /build."""
        auths = call.request.headers.get("X-Registry-Config")
        options, context = await _begun(call, parse(call))
        return await _stream(call, self._builds.build(options, context, auths))

    async def events(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build: as POST /build, with the events of docs/build.md, one a line."""
        auths = call.request.headers.get("X-Registry-Config")
        method = call.text("call") or ("check" if call.flag("check") else "")
        if method not in ("", "check", "outline", "targets"):
            raise InvalidInput(f"unsupported call: {method}")
        asked = msgspec.structs.replace(
            parse(call),
            call=method,
            debug=call.flag("debug"),
            cache_imports=tuple(_json(call, "cacheimports", list[CacheImport], [])),
            cache_exports=tuple(_json(call, "cacheexports", list[CacheExport], [])),
        )
        options, context = await _begun(call, asked)
        return await _stream(call, self._builds.events(options, context, auths))

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

    async def cache(self, call: Call) -> web.StreamResponse:
        """POST /boxship/build/cache: results of a build as an OCI layout in a tar, as the event ``cacheready`` names them."""
        wanted = await call.json(CacheWanted)
        return await answers.stream(call, "application/x-tar", await self._builds.cache_layout(wanted))

    async def files(self, call: Call) -> web.StreamResponse:
        """GET /boxship/build/files?image=...: all files of an image as a tar."""
        return await answers.stream(call, "application/x-tar", await self._builds.files(call.text("image")))

    async def sbom(self, call: Call) -> web.StreamResponse:
        """GET /boxship/images/{name}/sbom: the SPDX document of an image; ``scan=1``: made of its files in any case."""
        document = await self._builds.sbom(call.params["name"], scan=call.flag("scan"))
        return web.Response(body=document, content_type="application/spdx+json")

    async def compare(self, call: Call) -> web.StreamResponse:
        """GET /boxship/build/compare?image=...&with=...: where two images first differ."""
        return answers.document(await self._builds.compare(call.text("image"), call.text("with")))

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /build/prune."""
        pruned = await self._builds.prune(
            all=call.flag("all"),
            reserved=call.integer("reserved-space") or call.integer("keep-storage") or 0,
            max_used=call.integer("max-used-space") or 0,
            min_free=call.integer("min-free-space") or 0,
            filters=call.filters(),
        )
        return answers.document(pruned)


def parse(call: Call) -> BuildOptions:
    """Return the query of a build. Raises InvalidInput."""
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
        squash=call.flag("squash"),
        attestations=_json(call, "attestations", dict[str, dict[str, str]], {}),
        build_contexts=_json(call, "buildcontexts", dict[str, str], {}),
        ssh=_json(call, "ssh", dict[str, str], {}),
        allow=tuple(_json(call, "allow", list[str], [])),
    )


async def _begun(call: Call, options: BuildOptions) -> tuple[BuildOptions, AsyncIterator[bytes]]:
    """Take the secrets off the beginning of the body; return the options with them, and the context. Raises InvalidInput."""
    text = call.request.headers.get(SECRETS, "")
    body = upload(call)
    if not text:
        return options, body
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) > _SECRETS_LARGEST:
        raise InvalidInput(f"the header {SECRETS} is no number of bytes up to {_SECRETS_LARGEST}")
    length, received = int(text), bytearray()
    while len(received) < length:
        piece = await anext(body, b"")
        if not piece:
            raise InvalidInput("the body ended before its secrets did")
        received += piece
    secrets = _secrets(bytes(received[:length]))
    return msgspec.structs.replace(options, secrets=secrets), _after(bytes(received[length:]), body)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


def _secrets(document: bytes) -> dict[str, bytes]:
    """Return what ``RUN --mount=type=secret`` may show: a JSON object, ids to values in base64. Raises InvalidInput."""
    try:
        secrets = msgspec.json.decode(document, type=dict[str, bytes])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidInput("the secrets are not a JSON object of texts in base64") from exc
    for id, value in secrets.items():
        if len(value) > _SECRET_LARGEST:
            raise InvalidInput(f"secret {id} too big. max size 500KB")
    return secrets


def _json(call: Call, name: str, model: type[Any], default: Any) -> Any:
    text = call.text(name)
    if not text or text == "null":
        return default
    try:
        return msgspec.json.decode(text, type=model)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidInput(f"error reading {name}: {exc}") from exc


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
