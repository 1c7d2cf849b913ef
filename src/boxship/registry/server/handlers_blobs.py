"""Blobs and their uploads (specification: "Pulling blobs", "Pushing blobs", "Deleting Blobs", "Mounting a blob")."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from boxship.registry.server.call import Call
from boxship.registry.server.connections import receive
from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import check_digest, check_name, check_upload
from boxship.registry.server.ranges import check_chunk, progress
from boxship.registry.server.rules import DELETE, PULL, PUSH
from boxship.registry.server.uploads import Session

OCTETS = "application/octet-stream"
ALGORITHMS = ("sha256", "sha512")


async def blob(call: Call) -> web.StreamResponse:
    """``GET``, ``HEAD`` and ``DELETE /v2/<name>/blobs/<digest>``."""
    if call.request.method == "DELETE":
        return await _delete(call)
    _allow(call, "GET", "HEAD", "DELETE")
    call.require(PULL)
    digest = check_digest(call.target.reference)
    blobs = call.service.storage.blobs
    look = blobs.offered if call.request.method == "HEAD" else blobs.size
    size = await asyncio.to_thread(look, call.repository, digest)
    headers = {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000",
    }
    if size is None:
        if call.service.proxy is None:
            raise RegistryError("BLOB_UNKNOWN", {"digest": digest})
        return await _read_through(call, digest, headers)
    if call.request.method == "GET":
        call.notify("pull", mediaType=OCTETS, digest=digest, size=size, url=str(call.request.url))
    return web.FileResponse(blobs.path(digest), headers=headers)


async def uploads(call: Call) -> web.StreamResponse:
    """``POST /v2/<name>/blobs/uploads/``: a session, a whole blob, or a mount."""
    _allow(call, "POST")
    call.require(PULL, PUSH)
    call.require_writable()
    query = call.request.query
    if "mount" in query and (mounted := await _mount(call, query["mount"], query.get("from", ""))) is not None:
        return mounted
    algorithm = query.get("digest-algorithm", "sha256")
    digest = check_digest(query["digest"]) if "digest" in query else ""
    algorithm = digest.partition(":")[0] or algorithm
    if algorithm not in ALGORITHMS:
        raise RegistryError("DIGEST_INVALID", message=f"unsupported digest algorithm {algorithm[:20]!r}")
    storage = call.service.storage
    session = await asyncio.to_thread(storage.uploads.start, call.repository, call.caller.user, algorithm)
    if not digest:
        return _accepted(call, session, {"Docker-Upload-UUID": session.id})
    async with session.lock:
        try:
            await storage.uploads.append(session, _body(call), call.request.content_length)
            await asyncio.to_thread(storage.uploads.commit, session, digest)
        finally:
            storage.uploads.cancel(session)
    return _created(call, digest, session.offset)


async def upload(call: Call) -> web.StreamResponse:
    """``GET``, ``PATCH``, ``PUT`` and ``DELETE`` of a session."""
    method = call.request.method
    _allow(call, "GET", "PATCH", "PUT", "DELETE", "HEAD")
    call.require(PULL, PUSH)
    call.require_writable()
    sessions = call.service.storage.uploads
    id = check_upload(call.target.reference)
    session = await asyncio.to_thread(sessions.find, id, call.repository, call.caller.user)
    if method in ("GET", "HEAD"):
        headers = {"Location": _location(call, session), "Range": progress(session.offset)}
        return web.Response(status=204, headers={**headers, "Docker-Upload-UUID": session.id})
    async with session.lock:
        if session.ended:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN")
        if method == "DELETE":
            await asyncio.to_thread(sessions.cancel, session)
            return web.Response(status=204)
        digest = check_digest(call.request.query.get("digest", "")) if method == "PUT" else ""
        try:
            size = check_chunk(
                call.request.headers.get("Content-Range", ""), call.request.content_length, session.offset
            )
        except RegistryError as exc:
            exc.headers |= {"Location": _location(call, session), "Range": progress(session.offset)}
            raise
        if call.request.can_read_body:
            await sessions.append(session, _body(call), size)
        if method == "PATCH":
            return _accepted(call, session, {"Range": progress(session.offset), "Docker-Upload-UUID": session.id})
        await asyncio.to_thread(sessions.commit, session, digest)
    return _created(call, digest, session.offset)


async def _delete(call: Call) -> web.Response:
    call.require(DELETE)
    call.require_deletable()
    digest = check_digest(call.target.reference)
    if not await asyncio.to_thread(call.service.storage.blobs.unlink, call.repository, digest):
        raise RegistryError("BLOB_UNKNOWN", {"digest": digest})
    call.notify("delete", digest=digest)
    return web.Response(status=202)


async def _mount(call: Call, digest: str, source: str) -> web.Response | None:
    """Link a blob of another repository that the caller may read; None when there is none: then it is uploaded.

    Without a source ("anonymous mount") any repository will do that the caller may read.
    """
    check_digest(digest)
    blobs = call.service.storage.blobs
    sources = await asyncio.to_thread(blobs.sources, digest)
    if source:
        sources = [name for name in sources if name == check_name(source)]
    if not any(PULL in call.service.access.allowed(call.caller, name) for name in sources):
        return None
    if not await asyncio.to_thread(blobs.mount, call.repository, digest):
        return None
    size = await asyncio.to_thread(blobs.size, call.repository, digest)
    call.notify("mount", mediaType=OCTETS, digest=digest, size=size, fromRepository=source)
    return web.Response(status=201, headers=_blob_headers(call, digest))


async def _read_through(call: Call, digest: str, headers: dict[str, str]) -> web.StreamResponse:
    """Answer with a blob that is being fetched from the other registry."""
    proxy = call.service.proxy
    assert proxy is not None
    download = await proxy.blob(call.repository, digest)
    if download is None:
        raise RegistryError("BLOB_UNKNOWN", {"digest": digest})
    fd = download.open()
    if fd is None:  # it has just arrived
        return await blob(call)
    response = web.StreamResponse(headers=headers)
    if download.size >= 0:
        response.content_length = download.size
    async with contextlib.aclosing(download.read(fd)) as pieces:
        await response.prepare(call.request)
        if call.request.method == "GET":
            async for data in pieces:
                await response.write(data)
    await response.write_eof()
    return response


def _body(call: Call) -> AsyncIterator[bytes]:
    received = call.service.metrics.received

    async def pieces() -> AsyncIterator[bytes]:
        async for data in receive(call.request, call.service.stall):
            received.inc(len(data))
            yield data

    return pieces()


def _allow(call: Call, *methods: str) -> None:
    if call.request.method not in methods:
        raise RegistryError("UNSUPPORTED", headers={"Allow": ", ".join(methods)})


def _location(call: Call, session: Session) -> str:
    return f"/v2/{call.repository}/blobs/uploads/{session.id}"


def _accepted(call: Call, session: Session, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=202, headers={"Location": _location(call, session), "Range": progress(session.offset), **headers}
    )


def _created(call: Call, digest: str, size: int) -> web.Response:
    call.notify("push", mediaType=OCTETS, digest=digest, size=size)
    return web.Response(status=201, headers=_blob_headers(call, digest))


def _blob_headers(call: Call, digest: str) -> dict[str, str]:
    return {"Location": f"/v2/{call.repository}/blobs/{digest}", "Docker-Content-Digest": digest}
