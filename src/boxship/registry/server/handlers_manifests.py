"""Manifests, tags, referrers and the catalogue (specification: "Pulling manifests", "Pushing Manifests", "Content
Discovery", "Deleting tags", "Deleting Manifests").
"""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web

from boxship.registry.server.call import Call, answer_json, next_link, page_of
from boxship.registry.server.connections import receive
from boxship.registry.server.documents import read_manifest
from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import check_digest, check_reference, check_tag, is_digest
from boxship.registry.server.repositories import Manifest
from boxship.registry.server.rules import DELETE, PULL, PUSH
from boxship.registry.server.service import Service
from boxship.spec.oci.document import DOCUMENT_LIMIT
from boxship.spec.oci.manifest import OCI_INDEX

TAGS_LIMIT = 10  # tag parameters of one push
REFERRERS_PAGE = 500  # keeps a page below the clients' limit of 4 MiB


async def manifest(call: Call) -> web.StreamResponse:
    """``GET``, ``HEAD``, ``PUT`` and ``DELETE /v2/<name>/manifests/<reference>``."""
    match call.request.method:
        case "GET" | "HEAD":
            return await _pull(call)
        case "PUT":
            return await _push(call)
        case "DELETE":
            return await _delete(call)
    raise RegistryError("UNSUPPORTED", headers={"Allow": "GET, HEAD, PUT, DELETE"})


async def tags(call: Call) -> web.StreamResponse:
    """``GET /v2/<name>/tags/list``."""
    _only_get(call)
    call.require(PULL)
    count, last = page_of(call.request, call.service.config.catalog.maxentries)
    repositories = call.service.storage.repositories
    found = await asyncio.to_thread(repositories.tags, call.repository, after=last, limit=count + 1)
    if found is None:
        raise RegistryError("NAME_UNKNOWN", {"name": call.repository})
    names = [tag.name for tag in found[:count]]
    headers = next_link(call.request, count, names[-1]) if len(found) > count > 0 else None
    return answer_json({"name": call.repository, "tags": names}, headers=headers)


async def referrers(call: Call) -> web.StreamResponse:
    """``GET /v2/<name>/referrers/<digest>``."""
    _only_get(call)
    call.require(PULL)
    digest = check_digest(call.target.reference)
    wanted = call.request.query.get("artifactType", "")
    count, last = page_of(call.request, REFERRERS_PAGE)
    repositories = call.service.storage.repositories
    found = await asyncio.to_thread(
        repositories.referrers, call.repository, digest, artifact_type=wanted, after=last, limit=count + 1
    )
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    if len(found) > count > 0:
        headers |= next_link(
            call.request, count, found[count - 1].digest, **({"artifactType": wanted} if wanted else {})
        )
    items = []
    for entry in found[:count]:
        item: dict[str, object] = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
        if entry.artifact_type:
            item["artifactType"] = entry.artifact_type
        if entry.annotations:
            item["annotations"] = entry.annotations
        items.append(item)
    return answer_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items}, headers=headers, type=OCI_INDEX
    )


async def catalog(service: Service, request: web.Request) -> web.StreamResponse:
    """``GET /v2/_catalog``: the repositories that the caller may pull."""
    caller = await service.access.identify(request)
    service.access.require_known(request, caller)
    count, last = page_of(request, service.config.catalog.maxentries)
    names: list[str] = []
    while len(names) <= count:
        found = await asyncio.to_thread(service.storage.repositories.names, after=last, limit=1000)
        names += [name for name in found if service.access.may_list(caller, name)]
        if len(found) < 1000:
            break
        last = found[-1]
    headers = next_link(request, count, names[count - 1]) if len(names) > count > 0 else None
    return answer_json({"repositories": names[:count]}, headers=headers)


async def _pull(call: Call) -> web.Response:
    call.require(PULL)
    reference = call.target.reference
    check_reference(reference)
    found: Manifest | None
    if call.service.proxy is not None:
        found = await call.service.proxy.manifest(call.repository, reference)
    else:
        found = await asyncio.to_thread(call.service.storage.repositories.find, call.repository, reference)
    if found is None:
        raise RegistryError("MANIFEST_UNKNOWN", {"name": call.repository, "reference": reference})
    headers = {"Docker-Content-Digest": found.digest, "Etag": f'"{found.digest}"'}
    if f'"{found.digest}"' in call.request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if call.request.method == "GET":
        tag = {} if is_digest(reference) else {"tag": reference}
        call.notify("pull", mediaType=found.media_type, digest=found.digest, size=len(found.body), **tag)
    headers["Content-Type"] = found.media_type
    return web.Response(body=found.body, headers=headers)


async def _push(call: Call) -> web.Response:
    call.require(PULL, PUSH)
    call.require_writable()
    reference = call.target.reference
    tags = [check_tag(tag) for tag in call.request.query.getall("tag", [])]
    if len(tags) > TAGS_LIMIT:
        raise RegistryError("TAG_INVALID", {"tags": len(tags)}, message=f"more than {TAGS_LIMIT} tags", status=414)
    body = await _read_document(call)
    if is_digest(reference):
        digest = check_digest(reference)
    else:
        tags.append(check_tag(reference))
        wanted = check_digest(call.request.query["digest"]) if "digest" in call.request.query else "sha256:"
        algorithm = wanted.partition(":")[0]
        digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
        if wanted not in ("sha256:", digest):
            raise RegistryError("DIGEST_INVALID", {"digest": wanted, "uploaded": digest})
    whole = call.service.config.validation.manifests.indexes.platforms != "none"
    type = call.request.headers.get("Content-Type", "")
    document = await asyncio.to_thread(read_manifest, body, type, whole_indexes=whole)  # long for the largest
    repositories = call.service.storage.repositories
    await asyncio.to_thread(repositories.put, call.repository, digest, body, document, tags)
    for tag in tags or [""]:
        named = {"tag": tag} if tag else {}
        call.notify("push", mediaType=document.media_type, digest=digest, size=len(body), **named)
    response = web.Response(status=201)
    response.headers["Location"] = f"/v2/{call.repository}/manifests/{digest}"
    response.headers["Docker-Content-Digest"] = digest
    if document.subject:
        response.headers["OCI-Subject"] = document.subject
    for tag in call.request.query.getall("tag", []):
        response.headers.add("OCI-Tag", tag)
    return response


async def _delete(call: Call) -> web.Response:
    call.require(DELETE)
    call.require_deletable()
    repositories = call.service.storage.repositories
    reference = call.target.reference
    if is_digest(reference):
        gone = await asyncio.to_thread(repositories.delete, call.repository, check_digest(reference))
        if gone is None:
            raise RegistryError("MANIFEST_UNKNOWN", {"name": call.repository, "reference": reference})
        call.notify("delete", digest=reference)
    else:
        if not await asyncio.to_thread(repositories.untag, call.repository, [check_tag(reference)]):
            raise RegistryError("MANIFEST_UNKNOWN", {"name": call.repository, "reference": reference})
        call.notify("delete", tag=reference)
    return web.Response(status=202)


async def _read_document(call: Call) -> bytes:
    limit = min(call.service.config.limits.manifest or DOCUMENT_LIMIT, DOCUMENT_LIMIT)
    document = bytearray()
    async for data in receive(call.request, call.service.stall):
        document += data
        if len(document) > limit:
            raise RegistryError("MANIFEST_INVALID", message=f"manifest is larger than {limit} bytes", status=413)
    return bytes(document)


def _only_get(call: Call) -> None:
    if call.request.method not in ("GET", "HEAD"):
        raise RegistryError("UNSUPPORTED", headers={"Allow": "GET, HEAD"})
